"""Write a config for rows of one's own: `make new ROWS=rows.csv RUN=my-task`, or `python -m scripts.new --help`.

It looks at the rows, writes config/runs/<run>.yaml with a comment on every line, and prints what to do next. It never
overwrites a file.
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.config.bases import find_base
from scripts.config.check import load_schema, name_fault
from scripts.data.split import FEW
from scripts.new.lines import SECTIONS, make_lines
from scripts.new.plan import make_plan
from scripts.new.tell import tell
from scripts.new.write import create, render

BASE = "smollm2-135m"


def check_run(run: str) -> Path:
    """Return the path of a run's config. Raises GradusError if the name cannot be one, or is taken."""
    if not re.search(load_schema()["properties"]["run"]["pattern"], run):
        raise GradusError(f"RUN: {run!r} cannot be a run's name; take letters, digits, dots, - and _, such as my-task")
    path = Path("config", "runs", f"{run}.yaml")
    if os.path.lexists(path):
        raise GradusError(f"{path}: exists; nothing was changed. Choose another RUN, or delete it")
    for other in sorted([*Path("config").glob("*.yaml"), *Path("config", "runs").glob("*.yaml")]):
        if re.search(
            rf"^run:\s*['\"]?{re.escape(run)}['\"]?\s*(#.*)?$", other.read_text(encoding="utf-8"), re.MULTILINE
        ):
            raise GradusError(f"RUN: {run} is the run of {other}; choose another name")
    if os.path.lexists(Path("results", run)):
        raise GradusError(f"RUN: results/{run} holds what an earlier run made; choose another name")
    return path


def find_rows(names: Sequence[str]) -> list[str]:
    """Return the files' paths relative to the project.

    Raises GradusError if one is missing, outside the project's folder, or has a name that Snakemake cannot use.
    """
    found = []
    for name in names:
        path = os.path.relpath(name)
        if wrong := name_fault(path):
            raise GradusError(wrong)
        if Path(path).parts[:1] == (os.pardir,):
            raise GradusError(f"{name}: outside the project's folder; copy it there, next to the Makefile say")
        if path in found:
            raise GradusError(f"{name}: named twice")
        found.append(path)
    return found


def split_names(text: str) -> list[str]:
    """Return the file names in ROWS: one if there is such a file, else several with blanks between, quoted or not."""
    if text and Path(text).exists():
        return [text]
    try:
        return shlex.split(text)
    except ValueError as error:
        raise GradusError(f"ROWS: {text!r}: {error}") from None


def new(files: Sequence[str], run: str, base: str = BASE, **options: Any) -> tuple[Path, str]:
    """Write the config of a run for rows in `files`; return (its path, what to tell the user).

    `options`: as of `make_plan`. Raises GradusError if rows or names cannot be used; then nothing is written.
    """
    if not files:
        raise GradusError("no rows named: make new ROWS=rows.csv RUN=my-task")
    path = check_run(run)
    plan = make_plan(find_rows(files), run, {**find_base(base), "alias": base}, **options)
    head = (
        f"Made by `make new` from {', '.join(plan.looks.files)}.\n"
        "Every line is a proposal: change what you know better. config/README.md lists every key and its default."
    )
    text = render(list(make_lines(plan)), SECTIONS, head)
    create(path, text)
    return path, tell(plan, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.new",
        description="Look at rows and write config/runs/RUN.yaml for them, with a comment on every line.",
    )
    parser.add_argument("rows", nargs="+", help="files of rows: .jsonl, .jsonl.gz, .csv or .parquet")
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--base", default=BASE, help="model to fine-tune, a name in config/bases.yaml (%(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="what training may take (%(default)s)")
    parser.add_argument("--prompt", help="column that holds what is asked, if its name is not a usual one")
    parser.add_argument("--response", help="column that holds the answers")
    parser.add_argument("--allow-few", action="store_true", help=f"go on with fewer than {FEW} rows")
    given = vars(parser.parse_args(arguments))
    try:
        if not given["minutes"] > 0:
            raise GradusError("--minutes: must be above 0")
        names = [name for text in given.pop("rows") for name in split_names(text)]
        print(new(names, **given)[1])
    except GradusError as error:
        sys.exit(f"Gradus: {error}")


if __name__ == "__main__":
    main()
