"""What a user reads when a run has ended: the verdict, and what to open."""

from pathlib import Path

LINES = 3  # of the verdict


def verdict(folder: Path) -> list[str]:
    """Return the first sentences of a finished run's report; `folder`: results/<run>."""
    # imported here: a run that stops early needs none of it
    import yaml

    from scripts.common.models import resolve
    from scripts.common.verdict import read_first_lines

    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    models = [model.describe() for model in resolve(config["models"]).values()]
    told = read_first_lines(folder, models)
    return [told["verdict"], *told["warnings"], *told["more"]][:LINES]


def ending(folder: Path) -> list[str]:
    """Return the lines that end a run whose results are all in `folder`."""
    name = folder.name
    try:
        told = [*verdict(folder), ""]
    except Exception:  # edited by hand, or of another version: the report still opens
        told = []
    return [
        *told,
        "Open:",
        f"  {folder}/report.html   the report: every figure, with its interval, and answers to read",
        f"  {folder}/ollama        the model; there: ollama create {name} -f Modelfile && ollama run {name}",
        f"  {folder}/metrics.json  the figures; as tables: .venv/bin/python -m scripts.report.measured {folder}",
    ]
