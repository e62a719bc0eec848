"""What a user reads when a run has ended: the verdict, and what to open."""

from pathlib import Path

from scripts.common.io import read_json

LINES = 3  # of the verdict


def ending(folder: Path) -> list[str]:
    """Return the lines that end a run whose results are all in `folder`."""
    name = folder.name
    try:
        verdict = read_json(folder / "verdict.json")
        told = [*[verdict["sentence"], *verdict["reasons"]][:LINES], ""]
    except Exception:  # edited by hand, or of another version: the report still opens
        told = []
    return [
        *told,
        "Open:",
        f"  {folder}/report.html   the report: every figure, with its interval, and answers to read",
        f"  {folder}/ollama        the model; there: ollama create {name} -f Modelfile && ollama run {name}",
        f"  {folder}/metrics.json  the figures; as tables: .venv/bin/python -m scripts.report.measured {folder}",
    ]
