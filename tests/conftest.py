"""The finished run that all tests share."""

import pytest

from scripts.reproduce.reference import reference as run_once
from tests.project import Project


@pytest.fixture(scope="session")
def reference():
    """The project after a whole run on random weights, which is made once. Tests only read it."""
    return Project(run_once("random"))
