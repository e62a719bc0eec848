"""The real pipeline after one run on a few dozen real rows and a base of random weights."""

from pathlib import Path

import pytest

from tests.project import Project

# test_pipeline.py changes rows of the run, and test_to_llama_cpp.py starts torch's threads in this process
ORDER = ["test_gates", "test_version", "test_security", "test_reruns", "test_pipeline", "test_to_llama_cpp"]


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
