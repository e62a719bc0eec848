"""The run of `make verify`, that nothing disturbed, as the measure; and folders to disturb others in."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from scripts.reproduce import verify
from scripts.reproduce.compare_runs import compare_bits

ROWS = []  # of the table that `make faults` prints


class Folder:
    """A copy of the project that faults are done to."""

    def __init__(self, path):
        self.path = path
        self.results = path / "results" / "tiny"

    def command(self, *arguments, cores=2):
        more = ["--cores", str(cores), "--configfile", verify.CONFIG]
        return [sys.executable, "-m", "snakemake", *arguments, *more]

    def snakemake(self, *arguments):
        """Run snakemake to its end; return (exit code, everything that it printed)."""
        done = subprocess.run(self.command(*arguments), cwd=self.path, text=True, capture_output=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def manifest(self):
        return json.loads((self.results / "manifest.json").read_text())

    def replace(self, name, content):
        """Give a file another content; other copies of the project, whose hard link it is, keep theirs."""
        (self.path / name).unlink()
        (self.path / name).write_bytes(content)


@pytest.fixture(scope="session")
def reference():
    """The undisturbed run, made now unless `make verify` has made it of the same sources."""
    place = verify.verified()
    if not place:
        place = verify.lay_out(verify.FOLDER / "first")
        verify.run(place, os.cpu_count())
    return Folder(place)


@pytest.fixture
def laid_out(tmp_path):
    """A fresh copy, nothing run."""
    return Folder(verify.lay_out(tmp_path / "project"))


@pytest.fixture
def finished(reference, tmp_path):
    """A copy of the undisturbed run."""
    path = tmp_path / "project"
    shutil.copytree(reference.path, path, copy_function=os.link)
    shutil.rmtree(path / ".snakemake")
    shutil.copytree(reference.path / ".snakemake", path / ".snakemake")
    return Folder(path)


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
