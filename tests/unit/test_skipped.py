"""What CI says of tests that did not run, from a report that pytest itself writes."""

import subprocess
import sys

from tests.skipped import what_did_not_run

SOME = """
import pytest
@pytest.mark.skipif(True, reason="SLURM is not installed: sinfo")
def test_a(): pass
@pytest.fixture
def cluster(): pytest.skip("its daemons do not start here: no\\nmore of its log")
def test_b(cluster): pass
def test_c(): pass
"""


def test_skipped_tests_are_said_in_one_line_with_the_reasons(tmp_path):
    (tmp_path / "test_some.py").write_text(SOME)
    (tmp_path / "test_all.py").write_text("def test_d(): pass\n")
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", "."]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    told = "NOT RUN: 2 of 3 tests of test_some: SLURM is not installed: sinfo; its daemons do not start here: no"
    assert what_did_not_run(report, "test_some") == told
    assert what_did_not_run(report, "test_all") == ""
    assert what_did_not_run(report, "test_gone") == "NOT RUN: the tests of test_gone: pytest did not collect them"
