"""The finished run that all tests share, and which tests were running when pytest was stopped."""

import pytest

from scripts.reproduce.reference import reference as run_once
from tests.project import Project

RUNNING = {}  # with pytest-xdist, those of all its processes


@pytest.fixture(scope="session")
def reference():
    """The project after a whole run on random weights, which is made once. Tests only read it."""
    return Project(run_once("random"))


def pytest_runtest_logstart(nodeid):
    RUNNING[nodeid] = True


def pytest_runtest_logfinish(nodeid):
    RUNNING.pop(nodeid, None)


def pytest_terminal_summary(terminalreporter):
    """For CI's log: pytest-xdist shows only that it waited."""
    for nodeid in RUNNING:
        terminalreporter.write_line(f"still running: {nodeid}")
