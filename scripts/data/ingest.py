"""Read rows, check each, and make records of them.

In: JSONL files; a row has `prompt` and `response`, and may have `checks`, `group`, `split`, `difficulty`, `source`.
Out: records (JSONL, see scripts/common/records.py), what was left out with file, line, field and reason, and counts.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import write_json, write_jsonl
from scripts.common.logs import logging_to
from scripts.common.records import SPLITS, Record

FIELDS = ("prompt", "response", "checks", "group", "split", "difficulty", "source")


def find_fault(row: Any) -> tuple[str, str] | None:
    """Return (field, what is wrong and how to mend it) of a row; None if it can be used."""
    if not isinstance(row, dict):
        return "", 'not a JSON object; write {"prompt": "…", "response": "…"}'
    for name in ("prompt", "response"):
        if not isinstance(row.get(name), str):
            return name, "missing, or not a text"
        if not row[name].strip():
            return name, "empty; give it a text or delete the row"
    for name in ("group", "source"):
        if not isinstance(row.get(name, ""), str):
            return name, "not a text"
    checks = row.get("checks", [])
    if not isinstance(checks, list) or not all(isinstance(check, str) and check for check in checks):
        return "checks", "not a list of texts"
    if row.get("split", "train") not in SPLITS:
        return "split", f"not one of {', '.join(SPLITS)}"
    difficulty = row.get("difficulty", 0)
    if isinstance(difficulty, bool) or difficulty not in (0, 1, 2):
        return "difficulty", "not 0, 1 or 2"
    if unknown := sorted(set(row) - set(FIELDS)):
        return unknown[0], f"no such field; a row may have {', '.join(FIELDS)}"
    return None


def read_rows(path: str | Path) -> Iterator[tuple[int, Any, tuple[str, str] | None]]:
    """Yield (line number, row, fault) of each line that is not blank."""
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                yield number, None, ("", f"not JSON ({error})")
            else:
                yield number, row, find_fault(row)


def ingest(
    files: Sequence[str | Path], task: str, max_rejected_share: float
) -> tuple[list[Record], list[dict[str, Any]], dict[str, Any]]:
    """Return records, what was left out, and counts. A second row with the same content is left out as a duplicate.

    Raises GradusError naming file, line, field and reason if more than `max_rejected_share` (0 to 1) of the
    rows are faulty, or if none is left.
    """
    records: dict[str, Record] = {}
    rejected: list[dict[str, Any]] = []
    seen = 0
    for file in files:
        for number, row, fault in read_rows(file):
            seen += 1
            if fault is None:
                record = Record(**{"source": f"{Path(file).name}:{number}", **row, "task": task})
                if record.id not in records:
                    records[record.id] = record
                    continue
                fault = ("", "duplicate")
            rejected.append({"file": str(file), "line": number, "field": fault[0], "reason": fault[1]})
    faulty = [item for item in rejected if item["reason"] != "duplicate"]
    lines = [f"{i['file']}:{i['line']}: {i['field'] + ': ' if i['field'] else ''}{i['reason']}" for i in faulty]
    for line in lines:
        logging.warning("%s", line)
    if len(faulty) > max_rejected_share * seen:
        more = f"\n  … and {len(lines) - 5} more, all in this rule's log" if len(lines) > 5 else ""
        raise GradusError(
            f"{len(faulty)} of {seen} rows cannot be used (data.max_rejected_share allows {max_rejected_share:g}):\n  "
            + "\n  ".join(lines[:5])
            + more
        )
    if not records:
        raise GradusError(f"no rows in {', '.join(map(str, files))}")
    counts = Counter("duplicate" if i["reason"] == "duplicate" else "faulty" for i in rejected)
    return list(records.values()), rejected, {"rows": seen, "records": len(records), "left_out": dict(counts)}


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        kept, left_out, summary = ingest(job.input.rows, job.params.task, job.params.max_rejected_share)
        write_jsonl(job.output.records, (record.to_json() for record in kept))
        write_jsonl(job.output.rejected, left_out)
        write_json(job.output.counts, summary)
