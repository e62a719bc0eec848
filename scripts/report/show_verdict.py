"""`python -m scripts.report.show_verdict [results/<run>]`: the verdict of a finished run, on one screen.

In: verdict.json and the manifest. Out, on the terminal: the verdict and its reasons. Exit code 0: worth it, 10: not
worth it, 11: not shown, 2: there is no such run, or it is not finished.
"""

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT, sha256_file
from scripts.common.io import read_json

EXIT_CODES = {"worth it": 0, "not worth it": 10, "not shown": 11}
ERROR = 2
WIDTH = 100


def default_run() -> str:
    """Return the name of the run of config/config.yaml."""
    return str(yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))["run"])


def read_verdict(folder: Path) -> dict[str, Any]:
    """Return a finished run's verdict. Raises GradusError if there is no such run, or it is not finished."""
    if not folder.is_dir():
        known = sorted(path.parent.name for path in folder.parent.glob("*/manifest.json"))
        raise GradusError(f"{folder}: no such run; finished ones in {folder.parent}: {', '.join(known) or 'none'}")
    make = "`make`" if folder.name == default_run() else f"`make RUN={folder.name}`"
    again = f"finish it with {make}, then ask again"
    if not (folder / "manifest.json").is_file() or not (folder / "verdict.json").is_file():
        raise GradusError(f"{folder}: the run is not finished; {again}")
    if (folder / "fidelity" / "failed.json").is_file():
        raise GradusError(f"{folder}: a gate failed, see fidelity/failed.json there; {again}")
    manifest = read_json(folder / "manifest.json")
    recorded = manifest["artifacts"].get(f"results/{manifest['run']}/verdict.json", {})
    if recorded.get("sha256") != sha256_file(folder / "verdict.json"):
        raise GradusError(
            f"{folder}/verdict.json was changed after the run finished (its hash is not the one in manifest.json). "
            f"Delete it and run {make}, which makes it again and repeats only what depends on it"
        )
    return dict(read_json(folder / "verdict.json"))


def screen(told: Mapping[str, Any], width: int = WIDTH) -> str:
    """Return the verdict, its numbers and reasons, for a terminal."""
    shown = ("primary_metric", "split", "best_contender", "difference", "interval", "margin", "n", "seeds")
    rows = {name: told[name] for name in (*shown, "minimum_detectable_effect", "forgotten")}
    wide = max(map(len, rows))
    lines = [
        *textwrap.wrap(told["sentence"], width),
        "",
        *(f"{name:{wide}}  {_cell(value)}" for name, value in rows.items()),
        "",
    ]
    for reason in [*told["reasons"], told["order"]["reason"]]:
        lines += textwrap.wrap(reason, width, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return (", " if value and isinstance(value[0], str) else " to ").join(map(_cell, value)) or "nothing"
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Print the verdict; return the exit code."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else f"results/{default_run()}")
    try:
        told = read_verdict(folder)
    except GradusError as error:
        print(f"Gradus: {error}", file=sys.stderr)
        return ERROR
    print(screen(told))
    return EXIT_CODES[told["verdict"]]


if __name__ == "__main__":
    sys.exit(main())
