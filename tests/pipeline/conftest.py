"""The real pipeline after one run on a few dozen real rows and a base of random weights."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.pipeline.own_rows import write_own
from tests.project import Project

# test_pipeline.py changes rows of the run, and test_to_llama_cpp.py starts torch's threads in this process
ORDER = [
    "test_progress",
    "test_gates",
    "test_report_page",
    "test_rating",
    "test_version",
    "test_storage",
    "test_viewers",
    "test_security",
    "test_slurm",
    "test_judge",
    "test_preference",
    "test_experiment",
    "test_reruns",
    "test_pipeline",
    "test_to_llama_cpp",
]


def pytest_collection_modifyitems(items):
    places = [n for n, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    mine = sorted((items[n] for n in places), key=lambda item: ORDER.index(item.path.stem))
    for place, item in zip(places, mine, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def project(reference, tmp_path_factory):
    """A copy of the finished run that tests may go on from; they leave it finished."""
    return reference.copy_to(tmp_path_factory.mktemp("project") / "copy", linked=False)


@pytest.fixture
def fresh(tmp_path):
    """The project as it comes, nothing run."""
    return Project.fresh(tmp_path / "project")


@pytest.fixture(scope="session")
def own_run(reference, tmp_path_factory):
    """A fresh copy of the project, and the process that runs own_rows.py there; its output is in own.log."""
    fresh = Project.fresh(tmp_path_factory.mktemp("own") / "project")
    with Hub() as hub, open(fresh.folder / "own.log", "w") as log:
        write_own(fresh, reference.results / "base", hub)
        command, environment = fresh.command(configs=("own.yaml",), cores=1), {**os.environ, **hub.environment}
        process = subprocess.Popen(command, cwd=fresh.folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        yield fresh, process
        process.terminate()
        process.wait()


@pytest.fixture(scope="session", autouse=True)
def start_own_run(request):
    """It takes as long as several tests that need one core, and goes on beside them."""
    if any("own_run" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("own_run")
