"""Folders to do harm in, and the table of what was done.

`make faults` does everything; with FAULTS=some it does a part of it that covers each kind once, drawn by FAULT_SEED.
"""

import os
import random

import pytest

from scripts.reproduce.compare_runs import compare_bits
from tests.project import Project

ROWS = []  # of the table that `make faults` prints
ALL = os.environ.get("FAULTS", "all") == "all"
SEED = int(os.environ.get("FAULT_SEED", "20261122"))


def some(cases, kind):
    """Return all cases, or of a part one of each kind; `kind`: the function that says which a case is of."""
    if ALL:
        return cases
    kinds = {}
    for case in cases:
        kinds.setdefault(kind(case), []).append(case)
    return [random.Random(SEED).choice(alike) for alike in kinds.values()]


@pytest.fixture
def laid_out(tmp_path):
    """A fresh copy, nothing run."""
    return Project.fresh(tmp_path / "project")


@pytest.fixture
def finished(reference, tmp_path):
    """A copy of the undisturbed run."""
    return reference.copy_to(tmp_path / "project")


@pytest.fixture
def same(reference):
    """Compare a folder's run with the undisturbed one, file by file."""

    def compare(folder):
        found = compare_bits(reference.manifest(), folder.manifest())
        assert found["equal"], found["differing"]
        assert len(found["files"]) > 100
        return len(found["files"])

    return compare


@pytest.fixture
def table():
    """Note a row of the table: what was done, what came of it."""
    return lambda *row: ROWS.append([str(cell) for cell in row])


def pytest_terminal_summary(terminalreporter):
    if ROWS:
        widths = [max(len(row[n]) for row in ROWS if len(row) > n) for n in range(max(map(len, ROWS)))]
        terminalreporter.write_sep("-", "faults")
        for row in ROWS:
            terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)))
