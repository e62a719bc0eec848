"""Files appear whole or not at all."""

import pytest

from scripts.common.errors import GradusError
from scripts.common.io import atomic_path, read_jsonl, write_json


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write_json(tmp_path / "a.json", {"value": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n  "value": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_write_left_is_cleared_away(tmp_path):
    (tmp_path / ".folder.part" / "folder").mkdir(parents=True)
    (tmp_path / ".folder.part" / "folder" / "half").write_text("x")
    with atomic_path(tmp_path / "folder") as part:
        part.mkdir()
        (part / "whole").write_text("y")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "whole"]


def test_a_line_that_is_not_json_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a":\n')
    with pytest.raises(GradusError, match=r"rows.jsonl:2: not JSON"):
        list(read_jsonl(tmp_path / "rows.jsonl"))
