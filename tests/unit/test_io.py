"""Files appear whole or not at all."""

import subprocess
import sys
import time

import psutil
import pytest

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import atomic_path, read_jsonl, write_json


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write_json(tmp_path / "a.json", {"value": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n  "value": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_write_left_is_cleared_away(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f".folder.{ended.pid}.part" / "folder").mkdir(parents=True)
    (tmp_path / f".folder.{ended.pid}.part" / "folder" / "half").write_text("x")
    with atomic_path(tmp_path / "folder") as part:
        part.mkdir()
        (part / "whole").write_text("y")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "whole"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    code = "import sys; from scripts.common.io import atomic_path\nwith atomic_path(sys.argv[1]) as part:\n"
    code += "    part.write_text('other'); print('open', flush=True); sys.stdin.read()\n"
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "open\n"
    with atomic_path(tmp_path / "file") as part:
        part.write_text("ours")
    assert (tmp_path / "file").read_text() == "ours"
    other.communicate()
    assert other.returncode == 0
    assert (tmp_path / "file").read_text() == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_line_that_is_not_json_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a":\n')
    with pytest.raises(GradusError, match=r"rows.jsonl:2: not JSON"):
        list(read_jsonl(tmp_path / "rows.jsonl"))


def test_what_a_killed_process_left_is_removed_even_before_anybody_waited_for_it(tmp_path):
    process = subprocess.Popen(["sleep", "60"])
    left = tmp_path / f".rows.json.{process.pid}.part"
    left.mkdir()
    write_json(tmp_path / "rows.json", 1)
    assert left.exists()  # its writer lives
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    write_json(tmp_path / "rows.json", 2)
    assert not left.exists()
    process.wait()
