"""Atomic writes (a file appears complete or not at all), JSON with reproducible bytes, and rows read by number."""

import json
import os
import re
import shutil
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from scripts.common.errors import GradusError


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _runs(process: int) -> bool:
    import psutil  # only where something is left over

    try:
        # a killed process that nobody has waited for still exists, as a zombie
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it belongs to another user
        return True


def _remove_leftovers(path: Path) -> None:
    """Remove the partial files or folders that terminated processes left."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.part")
    for place in path.parent.iterdir():
        if (match := name.fullmatch(place.name)) and not _runs(int(match[1])):
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` for a file or folder; sync it and move it into place at the end.

    If the block raises, what it wrote is removed and `path` is untouched. Leftovers of killed processes are removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    scratch = path.parent / f".{path.name}.{os.getpid()}.part"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    part = scratch / path.name
    try:
        yield part
        for file in sorted(part.rglob("*")) if part.is_dir() else [part]:
            if file.is_file():
                file.chmod(0o644)  # some libraries create files that only the owner can read
                _sync(file)
        if part.is_dir():
            os.chmod(part, 0o755)
            if path.is_dir():
                shutil.rmtree(path)
        os.replace(part, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def atomic_open(path: str | Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file for writing; it replaces `path` only if the block succeeds."""
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", newline="\n") as handle:
        yield handle


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys and a final newline."""
    with atomic_open(path) as handle:
        json.dump(value, handle, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        handle.write("\n")


def read_json(path: str | Path) -> Any:
    """Read one JSON document. Raises GradusError that names the file if it is not JSON."""
    with open(path, encoding="utf-8") as handle:
        try:
            return json.load(handle)
        except (ValueError, RecursionError) as error:
            raise GradusError(f"{path}: not JSON, or truncated ({error}); delete it and run again") from None


# made once: `json.dumps` would make one for each row
_LINES = {keys: json.JSONEncoder(sort_keys=keys, ensure_ascii=False, allow_nan=False) for keys in (True, False)}


def dump_line(row: Any, sort_keys: bool = True) -> str:
    """Return one line of a JSONL file with a newline; NaN is an error."""
    return _LINES[sort_keys].encode(row) + "\n"


def write_jsonl(path: str | Path, rows: Iterable[Any], sort_keys: bool = True) -> int:
    """Write one JSON object per line, its keys sorted or in the row's own order; return the number of lines."""
    count = 0
    with atomic_open(path) as handle:
        for row in rows:
            handle.write(dump_line(row, sort_keys))
            count += 1
    return count


def _not_json(path: str | Path, line: int, error: ValueError) -> GradusError:
    return GradusError(f"{path}:{line}: not JSON ({error}); each line must hold one JSON object")


def read_jsonl(path: str | Path) -> Iterator[Any]:
    """Yield the JSON value of each line.

    Raises GradusError with file and line if a line is not JSON.
    """
    with open(path, encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise _not_json(path, number, error) from None


class Rows:
    """Random access to the rows of a JSONL file by number; rows are read on demand, also by forked processes."""

    def __init__(self, path: str | Path) -> None:
        """Index the offset of each line."""
        self.path = path
        self.handle = open(path, "rb")  # noqa: SIM115
        self.offsets = array("q", [0])
        for line in self.handle:
            self.offsets.append(self.offsets[-1] + len(line))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def line(self, number: int) -> str:
        """Return a row as it is in the file; IndexError if there is none of that number."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        start, end = self.offsets[number : number + 2]
        return os.pread(self.handle.fileno(), end - start, start).decode()

    def __getitem__(self, number: int) -> Any:
        try:
            return json.loads(self.line(number))
        except ValueError as error:
            raise _not_json(self.path, number + 1, error) from None
