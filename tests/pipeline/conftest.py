"""The real pipeline after one run on a few dozen real rows and a base of random weights."""

from pathlib import Path

import pytest

from tests.project import Project

# the longest first: `make test` runs two files at a time, and short ones fill up the end
ORDER = [
    "test_slurm",
    "test_preference",
    "test_experiment",
    "test_pipeline",
    "test_to_llama_cpp",
    "test_own_rows",
    "test_version",
    "test_reruns",
    "test_gates",
    "test_security",
    "test_judge",
    "test_report_page",
    "test_viewers",
    "test_storage",
    "test_rating",
    "test_progress",
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
def fresh(reference, tmp_path):
    """The project as it comes, nothing run; with what `reference` has fetched."""
    return Project.fresh(tmp_path / "project")
