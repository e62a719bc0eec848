"""Read rows of any known shape, check them, and convert them to records, one at a time.

In: JSONL, JSONL.gz, CSV or Parquet files, each with a role; shapes.py defines the shapes of rows.
Out: records (JSONL, see scripts/common/records.py), rejected rows with file, line, field and reason, and counts.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.common.io import write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.own_code import stem
from scripts.common.records import OWN, Record
from scripts.common.sources import fetched_file, require_sha256, scheme_of
from scripts.common.strict_json import read_schema
from scripts.data.readers import FIRST_ROWS, Lines, read_file
from scripts.data.shapes import SHAPES, USUAL, Fault, Layout, detect, make_fields, without
from scripts.tasks.checks import LABELS, Check, base_of, load_check

ROLES = {"eval": "test", "own": OWN}  # {role: its split}, where they differ


@dataclass
class Source:
    """A file and its role: `all` (split by hashes), or `train`, `valid`, `eval` (test) or `own` for the whole file."""

    path: str
    role: str = "all"

    @cached_property
    def name(self) -> str:
        """The file's name without its folder."""
        return Path(self.path).name


@dataclass
class Ingest:
    """One pass over the files; rejected rows and counts are complete once `records` is exhausted."""

    files: Sequence[Source]
    task: str
    shape: str  # a name of SHAPES, or auto
    max_rejected_share: float
    levels: Sequence[str]  # of difficulty
    schema: Mapping[str, Any] | None = None  # JSON schema of extracted objects
    system_prompt: str = ""
    ignore_fields: Sequence[str] = ()
    check: Check | None = None  # the task's check of a row
    labels: bool = False  # whether responses are labels, of which there must be at least two
    answers: set[str] = field(default_factory=set)  # the first two different labels
    columns: Mapping[str, str] = field(default_factory=dict)  # {our name of a field: its name in the rows}
    layout: Layout = USUAL  # of JSON objects
    rejected: list[dict[str, Any]] = field(default_factory=list)
    shapes: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def records(self) -> Iterator[Record]:
        """Yield the records, the augmented ones last: so each comes after the rows that it was made from or copies.

        Raises GradusError with file, line, field and reason if more than `max_rejected_share` (0 to 1) of the
        rows are invalid, or if a file has no rows or an unknown shape.
        """
        bar = tqdm(desc="rows", unit="row", mininterval=1)
        augmented: list[Record] = []
        for source in self.files:
            before = self.counts["rows"]
            for record in self._read(source):
                bar.update()
                if record.augmented:
                    augmented.append(record)
                else:
                    yield record
            if self.counts["rows"] == before:
                raise GradusError(
                    f"{source.path}: contains no rows" + (", only a header" if _is_table(source.path) else "")
                )
        bar.close()
        self._gate()
        yield from augmented
        if self.labels and len(self.answers) == 1:
            raise GradusError(
                f"all {self.counts['records']} rows have the same label, {self.answers.pop()!r}, so nothing can be "
                "learned or measured. Add rows with other labels, or set data.task: qa"
            )

    def _read(self, source: Source) -> Iterator[Record]:
        lines = read_file(source.path, self.columns)
        first = list(islice(lines, FIRST_ROWS))
        shape = self.shape
        if shape == "auto" and first:
            good = [(line, without(row, self.ignore_fields)) for line, row, _ in first if row is not None]
            if not good:
                self._reject(source, first)
                self._gate()
            shape = detect(good, source.path)
            logging.info("%s: shape %s", source.path, shape)
        self.shapes[source.path] = shape
        chained: Lines = chain(iter(first), lines)
        for line, row, reason in chained:
            self.counts["rows"] += 1
            try:
                if row is None:
                    raise Fault("", reason)
                yield from self._make(row, shape, source, line)
            except Fault as fault:
                self._add(source, line, fault.name, fault.reason)

    def _make(self, row: Mapping[str, Any], shape: str, source: Source, line: int) -> list[Record]:
        place = f"{source.name}:{line}"
        records = []
        turns = make_fields(row, shape, self.schema, self.ignore_fields, self.levels, self.layout)
        for fields in turns:
            system = fields.pop("system", None)
            if system is not None and " ".join(system.split()) != " ".join(self.system_prompt.split()):
                name = next(name for name in ("messages", "prompt", "chosen") if isinstance(row.get(name), list))
                raise Fault(
                    f"{name}[0].content",
                    "its system prompt is not chat.system_prompt, which the model is served with; make them the same",
                )
            if len(turns) > 1:
                fields["thread"] = place
            if fields.get("augmented"):  # without a split: the split rule leaves it out if it copies a held-out row
                if source.role not in ("all", "train"):
                    raise Fault("augmented", f"it is only for training, and this file's role is {source.role}")
            elif source.role != "all":
                fields.setdefault("split", ROLES.get(source.role, source.role))
            record = Record(**{"source": place, **fields, "task": self.task})
            for number, version in enumerate(record.versions()):
                if self.check and (wrong := self.check(version, self.schema)):
                    raise Fault(f"accepted[{number - 1}]" if number else "response", wrong)
            records.append(record)
            if self.labels and len(self.answers) < 2:
                self.answers.add(record.response.strip())
        self.counts["records"] += len(records)
        return records

    def _reject(self, source: Source, lines: Sequence[tuple[int, Any, str]]) -> None:
        for line, _, reason in lines:
            self.counts["rows"] += 1
            self._add(source, line, "", reason)

    def _add(self, source: Source, line: int, name: str, reason: str) -> None:
        self.rejected.append({"file": source.path, "line": line, "field": name, "reason": reason})
        logging.warning("%s:%d: %s%s", source.path, line, f"{name}: " if name else "", reason)

    def _gate(self) -> None:
        if len(self.rejected) <= self.max_rejected_share * self.counts["rows"]:
            return
        lines = [
            f"{i['file']}:{i['line']}: {i['field'] + ': ' if i['field'] else ''}{i['reason']}" for i in self.rejected
        ]
        more = f"\n  … and {len(lines) - 3} more, all in this rule's log" if len(lines) > 3 else ""
        raise GradusError(
            f"{len(lines)} of {self.counts['rows']} rows cannot be used "
            f"(data.max_rejected_share allows {self.max_rejected_share:g}):\n  " + "\n  ".join(lines[:3]) + more
        )

    def summary(self) -> dict[str, Any]:
        """Return the counts, each file's shape, and the rejected rows by reason."""
        reasons = Counter(item["reason"].split(" (")[0] for item in self.rejected)
        return {
            "rows": self.counts["rows"],
            "records": self.counts["records"],
            "rejected": len(self.rejected),
            "reasons": dict(reasons),
            "shapes": self.shapes,
        }


def rows_file(place: str, source: str, sha256: str | None) -> str:
    """Return the file with a source's rows: the path itself, or the only file in the folder of a fetched source.

    Raises GradusError if its sha256 is not the given one.
    """
    require_sha256(place, sha256 or None)
    return str(fetched_file(place) or place) if scheme_of(source).fetcher else place


def _is_table(path: str) -> bool:
    return path.endswith((".csv", ".parquet"))


if job := find_job(globals()):
    with logging_to(job.log[0]):
        schema = job.input.get("schema")
        if job.params.shape != "auto" and job.params.shape not in SHAPES:
            raise GradusError(f"data.shape: {job.params.shape!r} is not one of {', '.join(SHAPES)}")
        ingest = Ingest(
            [
                Source(rows_file(place, file["path"], file["sha256"]), file["role"])
                for place, file in zip(job.input.rows, job.params.files, strict=True)
            ],
            stem(job.params.task),
            job.params.shape,
            job.params.max_rejected_share,
            job.params.levels,
            read_schema(schema) if schema else None,
            job.params.system_prompt,
            job.params.ignore_fields,
            load_check(job.params.task),
            base_of(job.params.task) in LABELS,
            columns=job.params.columns,
            layout=Layout(**job.params.layout),
        )
        write_jsonl(job.output.records, (record.to_json() for record in ingest.records()))
        write_jsonl(job.output.rejected, ingest.rejected)
        write_json(job.output.counts, ingest.summary())
