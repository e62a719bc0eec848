"""Read rows of JSONL, JSONL.gz, CSV and Parquet files, one at a time, with their line numbers.

Each reader yields (line, row, reason): the row as a dict of JSON values, or None and what is wrong with the line.
"""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from scripts.common.errors import GradusError
from scripts.common.strict_json import strict_json
from scripts.data.shapes import COMMON, SHAPES

Row = dict[str, Any]
Lines = Iterator[tuple[int, Row | None, str]]
FIRST_ROWS = 100  # rows from which a file's shape and columns are detected
MAX_LINE = 4 * 2**20  # bytes; far more than any context length, and small enough for memory


def read_lines(handle: BinaryIO) -> Lines:
    """Yield the rows of an open JSONL file. Keeps at most MAX_LINE bytes of a line in memory."""
    number = 0
    while line := handle.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            while (rest := handle.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, None, f"longer than {MAX_LINE // 2**20} MiB; is a line break missing?"
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            row = strict_json(line.decode())
        except UnicodeDecodeError as error:
            yield number, None, f"not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8"
        except ValueError as error:
            yield number, None, f"not JSON ({error})"
        else:
            if isinstance(row, dict):
                yield number, row, ""
            else:
                yield number, None, 'not a JSON object; write {"prompt": "…", "response": "…"}'


def read_json_lines(path: Path) -> Lines:
    """Yield the rows of a JSONL file."""
    with open(path, "rb") as handle:
        yield from read_lines(handle)


def read_gzip_lines(path: Path) -> Lines:
    """Yield the rows of a gzipped JSONL file."""
    try:
        with gzip.open(path, "rb") as handle:
            yield from read_lines(handle)  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error) as error:
        raise GradusError(f"{path}: corrupt, or not gzip ({error}); copy it again") from None


def _cell(name: str, value: str, pair: bool) -> Any:
    """Return a CSV cell's value: `difficulty` as a number, `checks`, `accepted` and `messages` as parsed JSON lists.

    Answers stay strings; the shape input-output parses its own. `rejected` can be a list of texts. In a `pair`, a row
    with `chosen`, these two and `prompt` can be conversations.
    """
    if name == "difficulty" and value.strip().isdigit():
        return int(value)
    if name in ("checks", "accepted", "messages") and value.lstrip()[:1] == "[":
        try:
            return strict_json(value)
        except ValueError:
            return value
    if (name == "rejected" or (pair and name in ("prompt", "chosen"))) and value.lstrip()[:1] == "[":
        try:
            items = strict_json(value)
        except ValueError:
            return value
        texts = name == "rejected" and all(isinstance(item, str) for item in items)
        return items if texts or all(isinstance(item, dict) and "role" in item for item in items) else value
    return value


def read_csv(path: Path) -> Lines:
    """Yield the rows of a CSV file with a header; all values are strings."""
    csv.field_size_limit(MAX_LINE)
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
        reader = csv.reader(handle, strict=True)
        try:
            header = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise GradusError(f"{path}:1: the header is not valid CSV ({error}); correct it") from None
        if not all(_is_utf8(name) and name.isprintable() for name in header):
            raise GradusError(f"{path}:1: the header is not UTF-8; save the file as UTF-8")
        if len(set(header)) != len(header):
            raise GradusError(f"{path}:1: two columns have the same name; rename one")
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, None, f"not CSV ({error})"
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                yield reader.line_num, None, f"has {len(cells)} cells, the header {len(header)}; is a quote missing?"
            elif not all(cell.isascii() or cell.isprintable() or _is_utf8(cell) for cell in cells):
                yield reader.line_num, None, "not UTF-8; save the file as UTF-8"
            else:
                filled = zip(header, cells, strict=True)
                yield reader.line_num, dict(filled), ""


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_parquet(path: Path) -> Lines:
    """Yield the rows of a Parquet file, read in batches; line numbers are row numbers from 1."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        number = 0
        for batch in ParquetFile(path).iter_batches(1024):
            for row in batch.to_pylist():
                number += 1
                yield number, row, ""
    except (pyarrow.ArrowException, OSError) as error:
        raise GradusError(f"{path}: not a Parquet file, or corrupt ({str(error)[:200]}); copy it again") from None


def _as_it_is(row: Row) -> Row:
    return row


def _filled_cells(row: Row) -> Row:
    pair = "chosen" in row
    return {name: _cell(name, cell, pair) for name, cell in row.items() if cell.strip()}


def _not_null(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}


# by file name extension: the reader, and a function applied to renamed rows, which drops empty cells of tables
READERS: dict[str, tuple[Callable[[Path], Lines], Callable[[Row], Row]]] = {
    ".jsonl": (read_json_lines, _as_it_is),
    ".jsonl.gz": (read_gzip_lines, _as_it_is),
    ".csv": (read_csv, _filled_cells),
    ".parquet": (read_parquet, _not_null),
}


def _fields_of(names: set[str]) -> set[str]:
    """Return the fields of the shape that rows with these names have; none if they have no known shape."""
    shape = next((SHAPES[name] for name in SHAPES if set(SHAPES[name][0]) <= names), None)
    return {*shape[0], *shape[1], *COMMON} if shape else set()


def rename(lines: Lines, columns: Mapping[str, str], path: Path) -> Lines:
    """Yield rows with fields renamed to our names. `columns`: {our name of a field: its name in the rows}.

    A file that has a field with our name keeps it; a file needs only the fields of its own shape. Raises GradusError if
    the first rows have a needed field under neither name, or under both.
    """
    first = list(islice(lines, FIRST_ROWS))
    present = dict.fromkeys(name for _, row, _ in first if row is not None for name in row)
    wanted = _fields_of({ours for ours, theirs in columns.items() if theirs in present} | set(present))
    absent = {ours: theirs for ours, theirs in columns.items() if present and not {ours, theirs} & set(present)}
    if missing := [theirs for ours, theirs in absent.items() if not wanted or ours in wanted]:
        raise GradusError(
            f"{path}: data.columns: no column {missing[0]!r} in the first rows; columns: {', '.join(present)}"
        )
    names = {theirs: ours for ours, theirs in columns.items() if theirs in present}
    if twice := [ours for ours in names.values() if ours in present and ours not in names]:
        raise GradusError(
            f"{path}: data.columns takes {twice[0]} from {columns[twice[0]]!r}, but there is also a column "
            f"{twice[0]!r}. Rename or delete one"
        )
    for line, row, reason in chain(first, lines):
        yield line, row if row is None else {names.get(name, name): value for name, value in row.items()}, reason


def read_file(path: str | Path, columns: Mapping[str, str] | None = None) -> Lines:
    """Yield the rows of a file; its extension determines the reader. `columns`: see `rename`.

    Raises GradusError for a folder, an empty file, or an extension that is not in READERS.
    """
    path = Path(path)
    if path.is_dir():
        raise GradusError(f"{path}: is a folder; list its files in data.files")
    if not path.is_file():
        raise GradusError(f"{path}: no such file; correct data.files")
    if not path.stat().st_size:
        raise GradusError(f"{path}: is empty; add rows, or remove it from data.files")
    entry = next((READERS[ending] for ending in READERS if path.name.endswith(ending)), None)
    if entry is None:
        raise GradusError(f"{path}: its extension is not one of {', '.join(READERS)}; convert or rename it")
    reader, finish = entry
    lines = rename(reader(path), columns, path) if columns else reader(path)
    return ((line, None if row is None else finish(row), reason) for line, row, reason in lines)
