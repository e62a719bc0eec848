"""The finished run that all tests share. It goes on beside the unit tests, which come first and need no second core."""

import os
import signal
import subprocess
import sys

import pytest

from scripts.common.hashing import ROOT
from scripts.reproduce.reference import FOLDER
from scripts.reproduce.reference import reference as run_once
from tests.project import Project

RUN = pytest.StashKey[subprocess.Popen]()


def pytest_collection_finish(session):
    needed = any("reference" in item.fixturenames for item in session.items)
    beside = any(item.path.parent.name == "unit" for item in session.items)
    if needed and beside and not session.config.option.collectonly:
        command = [sys.executable, "-m", "scripts.reproduce.reference", "random", "1"]
        session.config.stash[RUN] = subprocess.Popen(command, cwd=ROOT, start_new_session=True)


def pytest_sessionfinish(session):
    """End a run that is still going on, with all its jobs."""
    process = session.config.stash.get(RUN, None)
    if process and process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.fixture(scope="session")
def reference(request):
    """The project after a whole run on random weights, which is made once. Tests only read it."""
    if process := request.config.stash.get(RUN, None):
        assert process.wait() == 0, f"the run that all tests share has failed; see {FOLDER}/random/run.log"
    return Project(run_once("random"))
