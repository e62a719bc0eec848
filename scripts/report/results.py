"""`python -m scripts.report.results [results/<run> …]` (`make results`): put the runs' figures into README and docs/.

In: folders of runs, by default all in results/; pages with blocks, between comments that a reader does not see:

    <!-- results: summary aws-cli -->
    <!-- /results -->

Out: the same pages, and of experiments the figures and tables in docs/results/<run>/. Between the comments then stands
a section of that run (`SECTIONS` in scripts/report/measured.py), or an `overview` of several runs, one row for each.
What a run has not made stays as it was, and is named; where nothing stood, the page says so.
"""

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.html import percent, points
from scripts.common.io import atomic_open, atomic_path, read_json
from scripts.report.measured import SECTIONS, bare, made, table

OPENING = re.compile(r"^<!-- results: ", re.MULTILINE)
BLOCK = re.compile(r"^(<!-- results: (\w+) ([\w. -]+?) -->\n)(.*?)^(<!-- /results -->)$", re.DOTALL | re.MULTILINE)
ANALYSIS = ("effects.json", "exposures.csv", "spent.csv", "curves.csv", "forest.svg", "curves.svg")
EXPERIMENT = ("experiment.json", *(f"experiment/{name}" for name in ANALYSIS))  # the plan and the analysis are kept
OVERVIEW = table(["run", "measured", "served model", "best contender", "lead in points", "training is"], [], left=6)


def overview(run: Path) -> list[str]:
    """Return a run's row of the overview: the served model beside the best contender, on the main metric and the rows
    that both answered, so that the lead is the difference of the two. The contender's interval is left out if it
    answered more rows than these.
    """
    metrics, comparison, told = (read_json(run / f"{name}.json") for name in ("metrics", "comparison", "verdict"))
    served, rival, split, metric = (told[key] for key in ("served", "best_contender", "split", "primary_metric"))

    def cell(model: str, value: float | None, bounds: Sequence[float] | None) -> str:
        return f"{model} {percent(value)}" + ("" if bounds is None else f" ({bare(bounds)})")

    alone = cell(served, metrics[served][split][metric]["value"], comparison["intervals"][served][split][metric])
    cells = [run.name, f"{metric}, {split}", alone, "–", "–", told["verdict"]]
    if rival is not None:
        low, high = told["interval"] or (None, None)
        pair = comparison["served"]["models"][rival][split][metric]
        all_shared = metrics[rival][split][metric]["n"] == pair["n"]
        cells[2] = cell(served, pair["value"], pair["interval"])
        if (asked := metrics[served][split][metric]["n"]) > pair["n"]:
            cells[2] += f"; of all {asked} rows {alone.removeprefix(f'{served} ')}"
        cells[3] = cell(
            rival, pair["first_value"], comparison["intervals"][rival][split][metric] if all_shared else None
        )
        cells[4:5] = [f"{points(told['difference'])} ({points(low)} to {points(high)}), n = {told['n']}"]
    return [f"| {' | '.join(cells)} |"]


def section(name: str, runs: str, before: list[str], folders: Mapping[str, Path]) -> tuple[list[str], list[str]]:
    """Return the lines of a block, and what is missing for it. `before`: the lines that stand there."""
    lines, missing = [], []
    for run in runs.split():
        try:
            if run not in folders:
                raise GradusError(f"results/{run} is missing")
            lines += made(overview if name == "overview" else SECTIONS[name], folders[run])
        except GradusError as error:
            missing.append(f"{name} of {run}: {error}")
            lines += [line for line in before if line.startswith(f"| {run} |")] if name == "overview" else before
    return (OVERVIEW + lines if name == "overview" else lines), missing


def fill(text: str, folders: Mapping[str, Path]) -> tuple[str, list[str]]:
    """Return a page with its blocks filled, and what is missing for them. `folders`: {run: its folder}.

    Raises GradusError for a block without an end, or of an unknown section.
    """
    missing: list[str] = []

    def write(block: re.Match[str]) -> str:
        opening, name, runs, before, closing = block.groups()
        stood = before.strip("\n").splitlines() or [f"*No figures yet: `make RUN={runs}`, then `make results`.*"]
        if name not in {"overview", *SECTIONS}:
            raise GradusError(f"{opening.strip()}: no such section; there are overview, {', '.join(SECTIONS)}")
        lines, without = section(name, runs, stood, folders)
        missing.extend(without)
        return opening + "\n".join(["", *lines, "", closing])

    blocks = BLOCK.findall(text)
    if len(blocks) != len(OPENING.findall(text)):
        raise GradusError("a block `<!-- results: … -->` has no end `<!-- /results -->`, on a line of its own")
    return BLOCK.sub(write, text), missing


def keep_experiment(run: Path, docs: Path) -> None:
    """Copy an experiment's figures and tables to docs/results/<run>/: what a reader can check, and no model."""
    if (run / "experiment/effects.json").is_file():
        for name in EXPERIMENT:
            with atomic_path(docs / "results" / run.name / Path(name).name) as part:
                shutil.copyfile(run / name, part)


def main() -> None:
    """Fill the blocks of all pages; print what changed and what is missing."""
    given = [Path(name) for name in sys.argv[1:]] or sorted(Path("results").glob("*/"))
    folders = {
        folder.name: folder for folder in given if any((folder / name).is_dir() for name in ("evaluate", "experiment"))
    }
    if not folders:
        sys.exit("Gradus: no run in results/; run `make` first, or name a run's folder")
    for folder in folders.values():
        keep_experiment(folder, ROOT / "docs")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))):
        text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT)
        try:
            filled, missing = fill(text, folders)
        except GradusError as error:
            sys.exit(f"Gradus: {name}: {error}")
        if filled != text:
            with atomic_open(page) as handle:
                handle.write(filled)
            print(f"{name}: new figures")
        for each in missing:
            print(f"{name}: kept as it was: {each}", file=sys.stderr)


if __name__ == "__main__":
    main()
