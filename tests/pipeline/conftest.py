"""A copy of the project in a folder of its own, and the real pipeline run there once on a few dozen real rows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.project import copy_sources
from scripts.reproduce.verify import CONFIG, verified

ROOT = Path(__file__).resolve().parents[2]


# test_pipeline.py changes rows of the run, and test_to_llama_cpp.py starts torch's threads in this process
ORDER = ["test_gates", "test_version", "test_security", "test_reruns", "test_pipeline", "test_to_llama_cpp"]


def pytest_collection_modifyitems(items):
    places = [n for n, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    mine = sorted((items[n] for n in places), key=lambda item: ORDER.index(item.path.stem))
    for place, item in zip(places, mine, strict=True):
        items[place] = item


class Project:
    """A copy of the project that tests may change."""

    def __init__(self, folder):
        self.folder = folder
        copy_sources(folder)
        shutil.copy(ROOT / CONFIG, folder / "tiny.yaml")
        fetched = ROOT / "data" / "raw"
        if fetched.is_dir():  # what an earlier run has fetched and verified need not come again
            shutil.copytree(fetched, folder / "data" / "raw", copy_function=os.link)
        self.results = folder / "results" / "tiny"

    def start(self, *arguments, configs=("tiny.yaml",), cores=2):
        """Start snakemake; return the process, whose output is all on stdout."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--cores", str(cores), "--configfile", *configs]
        return subprocess.Popen(command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def snakemake(self, *arguments, **more):
        """Run snakemake; return (exit code, everything that it printed)."""
        process = self.start(*arguments, **more)
        text, _ = process.communicate()
        return process.returncode, text

    def copy_to(self, folder):
        """Return a copy with its results and Snakemake's memory of them; results are hard links, so write none in place."""
        copy = object.__new__(Project)
        copy.folder, copy.results = folder, folder / "results" / "tiny"
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("results", "raw"))
        for name in ("results", "data/raw"):
            shutil.copytree(self.folder / name, folder / name, copy_function=os.link)
        return copy

    def planned(self, *arguments, **more):
        """Return {rule: jobs} of what `snakemake -n` would run."""
        code, text = self.snakemake("--dry-run", *arguments, **more)
        assert code == 0, text
        if "Nothing to be done" in text:
            return {}
        table = text.partition("Job stats:")[2].partition("total")[0].splitlines()
        return {
            line.split()[0]: int(line.split()[1])
            for line in table
            if len(line.split()) == 2 and line.split()[1].isdigit()
        }


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """The project after one whole run."""
    made = Project(tmp_path_factory.mktemp("project"))
    if place := verified():  # `make verify` has made it of these sources; no hard links, tests write in place
        for name in ("results", ".snakemake"):
            shutil.copytree(place / name, made.folder / name)
        if not (made.folder / "data" / "raw").is_dir():  # a clone in which nothing but that run has fetched anything
            shutil.copytree(place / "data" / "raw", made.folder / "data" / "raw", copy_function=os.link)
    else:
        code, text = made.snakemake()
        assert code == 0, text
    return made


@pytest.fixture
def fresh(tmp_path):
    """The project as it comes, nothing run."""
    return Project(tmp_path)
