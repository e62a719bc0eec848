"""Convert a package's content to rows.

In: the folder that a package was fetched to. Out: rows (JSONL, of any shape that `ingest` reads), items that gave no
row, with the reason, and the counts of both.

A new converter is a file in scripts/data/converters that defines `convert(folder, options)`, which returns rows, items
that were left out ({source, reason, title}) and counts ({read, rows, left_out}), and a dataclass `Options`, which
defines the keys of `data.package.options`. A file of the user's own can do the same, or return only the rows.
VARIANTS and MIXTURES, if it has them, say how a row can be written otherwise: {kind: function}, see variants.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.options import find_option_faults
from scripts.common.own_code import call, load
from scripts.common.sources import require_sha256
from scripts.data.variants import find_kinds, make_variants

Converted = tuple[list[dict[str, Any]], list[dict[str, str]], dict[str, Any]]


def make_options(file: str | Path, module: ModuleType, given: Mapping[str, Any]) -> Any:
    """Return a converter's options: its `Options`, or the mapping itself if it has none.

    Raises GradusError if an option is unknown or has a wrong value.
    """
    for name, wrong in find_option_faults(file, given):
        raise GradusError(f"data.package.options.{name}: {wrong} ({file})")
    try:
        return module.Options(**given) if hasattr(module, "Options") else dict(given)
    except ValueError as error:
        raise GradusError(f"data.package.options: {error} ({file})") from None


def convert(file: str | Path, folder: str | Path, given: Mapping[str, Any]) -> Converted:
    """Run the converter in a file; return rows, items left out, and counts. Raises GradusError if it fails."""
    module = load(file)
    if not callable(getattr(module, "convert", None)):
        raise GradusError(f"{file}: defines no function convert(folder, options); see docs/data.md")
    options = make_options(file, module, given)
    converted = call(file, "convert", lambda: _complete(module.convert(folder, options)))
    if converted is None or not all(isinstance(row, dict) for row in converted[0]):
        raise GradusError(
            f"{file}: convert() returned no rows; it must return a list of dicts, or (rows, left out, counts)"
        )
    return converted


def _complete(returned: Any) -> Converted | None:
    """Return a converter's result, with counts added if it returned only rows; None if it has another type."""
    if isinstance(returned, tuple) and len(returned) == 3:
        return returned
    if isinstance(returned, str | Mapping) or not isinstance(returned, Iterable):
        return None
    rows = list(returned)
    return rows, [], {"read": f"{len(rows)} rows", "rows": len(rows), "left_out": {}}


def vary_all(file: str | Path, converted: Converted, kinds: Sequence[str], per_row: int, name: str) -> Converted:
    """Return what a converter returned, with variants of the rows after them, and their number in the counts.

    A row without a source gets the one that `ingest` would give it in the file `name`, for its variants to share.
    """
    rows, left_out, counts = converted
    rows = [{**row, "source": row.get("source") or f"{name}:{line}"} for line, row in enumerate(rows, 1)]
    variants = list(make_variants(rows, find_kinds(file, kinds), per_row))
    return [*rows, *variants], left_out, {**counts, "variants": len(variants)}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        require_sha256(job.input.package, job.params.sha256)
        converted = convert(job.input.converter, job.input.package, job.params.options)
        if job.params.variants["kinds"]:
            converted = vary_all(job.input.converter, converted, **job.params.variants, name=Path(job.output.rows).name)
        rows, left_out, counts = converted
        write_jsonl(job.output.rows, rows, sort_keys=False)  # `data.key_order: row` keeps the order of an output's keys
        write_jsonl(job.output.left_out, left_out)
        write_json(job.output.counts, counts)
