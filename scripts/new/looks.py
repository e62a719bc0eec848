"""Inspect a user's rows: columns, shape, task, labels, groups, and the rows that would be rejected.

Columns with common names are mapped to the fields that shapes need. To add a common name, add it to a tuple below.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.records import Record, normal
from scripts.common.strict_json import strict_json
from scripts.config.schema import default
from scripts.data.readers import read_file
from scripts.data.shapes import COMMON, SHAPES, USUAL, Fault, common_fields, make_fields

# common names of columns with prompts, responses and groups; the first one that exists is used
PROMPTS = (
    "prompt", "question", "query", "request", "instruction", "input", "text", "utterance", "sentence", "message",
    "review", "document", "article", "description", "title", "body", "subject",
)  # fmt: skip
RESPONSES = (
    "response", "answer", "output", "target", "label", "completion", "reply", "category", "class", "intent",
    "sentiment", "topic", "department", "team", "command", "summary", "translation", "result", "expected", "json",
)  # fmt: skip
CHOSEN = ("chosen", "chosen_response", "chosen_answer", "preferred", "preferred_response")
REJECTED = ("rejected", "rejected_response", "rejected_answer", "dispreferred", "dispreferred_response")
GROUPS = (
    "group", "topic", "customer", "client", "account", "user", "author", "patient", "document", "doc", "page", "thread",
    "conversation", "session", "ticket", "product", "project", "repo", "repository", "site", "url", "category",
    "source",
)  # fmt: skip

MOST_ROWS = 100_000  # rows that are inspected; the others are only counted
MOST_LABELS = 50
LABEL_CHARS = 60
LEVELS: list[str] = default("curriculum.levels")
MAX_REJECTED: float = default("data.max_rejected_share")
SEPARATORS = ";|"  # of tables that are called .csv
PARTS = "-_:/.#"  # separators between the parts of an id


@dataclass
class Row:
    """A row as it is in its file; `value` is None if its line cannot be read, and `reason` says why."""

    file: str
    line: int
    value: Mapping[str, Any] | None
    reason: str = ""


@dataclass
class Looks:
    """The result of inspection. `columns`: {our field: its name in the rows}; `ignored`: unused columns."""

    files: list[str]
    count: int
    shapes: list[str]
    columns: dict[str, str]
    ignored: list[str]
    records: list[Record] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)
    task: str = "qa"
    system_prompt: str | None = None  # of the rows' own system turns
    notes: list[str] = field(default_factory=list)  # things that the user should check

    @property
    def labels(self) -> Counter[str]:
        """Return the count of each answer."""
        return Counter(record.response.strip() for record in self.records)

    @property
    def keys(self) -> Counter[str]:
        """Return the number of answers with each key, for answers that are JSON objects."""
        return Counter(key for record in self.records for key in as_object(record.response) or {})

    @property
    def groups(self) -> Counter[str]:
        """Return the number of records in each group, ignoring records without a group."""
        return Counter(record.group for record in self.records if record.group)


def as_object(text: str) -> dict[str, Any] | None:
    """Parse a text that is a JSON object; None if it is not."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = strict_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_rows(files: Sequence[str]) -> tuple[list[Row], int]:
    """Return the first MOST_ROWS rows of the files, and the total number of rows.

    Raises GradusError if a file is missing, empty, of an unknown type, or if none of its rows can be read.
    """
    rows: list[Row] = []
    count = 0
    for file in files:
        of_file: list[Row] = []
        readable = False
        for line, value, reason in read_file(file):
            count += 1
            readable = readable or value is not None
            if count <= MOST_ROWS:
                of_file.append(Row(file, line, value, reason))
        if not of_file and count <= MOST_ROWS:
            raise GradusError(f"{file}: contains no rows; add some, or remove it from ROWS")
        if of_file and not readable:
            first = of_file[0]
            raise GradusError(f"{file}: none of its {len(of_file)} rows can be read; line {first.line}: {first.reason}")
        rows += of_file
    return rows, count


def plain(name: str) -> str:
    """Return a column's name in the form of the tuples above: lowercase, words joined by _, without a final _id."""
    return name.strip().lower().replace(" ", "_").replace("-", "_").removesuffix("_id")


def usual(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the column with the first of the common names; None if there is none."""
    by_name = {plain(column): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def fits(rows: Sequence[Mapping[str, Any]], shape: str) -> bool:
    """Return whether most rows are valid rows of a shape, ignoring other columns."""
    needs, may, function = SHAPES[shape]
    good = 0
    for row in rows:
        try:
            function({name: row[name] for name in (*needs, *may) if name in row}, None, USUAL)
        except (Fault, KeyError):
            continue
        good += 1
    return good * 2 > len(rows)


def find_pair(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], prompt: str | None) -> dict[str, str] | None:
    """Return {our field: its name in the rows} of rows with a chosen and a rejected answer; None if they have none.

    `prompt`: the column given by the user. Without one, conversations that hold their prompts need no other column.
    """
    chosen, rejected = usual(columns, CHOSEN), usual(columns, REJECTED)
    if not chosen or not rejected or not all(isinstance(row.get(chosen, ""), str | list) for row in rows):
        return None
    pair = {"chosen": chosen, "rejected": rejected}
    asked = prompt or usual([name for name in columns if name not in pair.values()], PROMPTS)
    if asked and (prompt or not fits([renamed(row, pair) for row in rows], "preference")):
        pair = {"prompt": asked, **pair}
    return {ours: theirs for ours, theirs in pair.items() if ours != theirs}


def find_columns(
    rows: Sequence[Mapping[str, Any]],
    place: str,
    prompt: str | None = None,
    response: str | None = None,
    again: Sequence[str] = (),
) -> tuple[str, dict[str, str]]:
    """Return (shape, {our field: its name in the rows}) for the first rows of a file.

    `prompt`, `response`: columns given by the user; `again`: the command line. Raises GradusError if no column looks
    like one of them.
    """
    counts = Counter(name for row in rows for name in row)
    columns = [name for name, count in counts.items() if count * 2 > len(rows)]
    if not response and (pair := find_pair(rows, columns, prompt)) is not None:
        return "preference", pair
    wrong = usual(columns, REJECTED)
    rejected = {"rejected": wrong} if wrong and wrong != "rejected" else {}
    if not prompt and not response:
        for shape, (needs, _, _) in SHAPES.items():
            if set(needs) <= set(columns) and fits(rows, shape):
                return shape, rejected
        natural = {name for name, (needs, _, _) in SHAPES.items() if any(set(needs) <= set(row) for row in rows)}
        if len(natural) > 1 and not any(set(SHAPES[name][0]) <= set(columns) for name in natural):
            raise GradusError(
                f"{place}: rows of different shapes ({', '.join(sorted(natural))}); put each shape into a separate file"
            )
    for name in (prompt, response):
        if name and name not in counts:
            raise GradusError(f"{place}: no column {name!r}; columns: {', '.join(sorted(counts))}")
    answer = response or usual([name for name in columns if name != prompt], RESPONSES)
    asked = prompt or usual([name for name in columns if name != answer], PROMPTS)
    if not asked or not answer:
        only = columns[0] if len(columns) == 1 else ""
        if separator := next((sign for sign in SEPARATORS if sign in only), None):
            raise GradusError(f"{place}: seems to be separated by `{separator}`; save it with commas")
        missing = [name for name, column in (("prompt", asked), ("response", answer)) if not column]
        options = [f"--{name}=COLUMN" for name in missing]
        raise GradusError(
            f"{place}: no column looks like {' or '.join(f'a {name}' for name in missing)}; columns: "
            f"{', '.join(sorted(counts)) or 'none'}. Put its name for COLUMN: {shlex.join([*again, *options])}"
        )
    as_json = sum(isinstance(row.get(answer), dict) for row in rows) * 2 > len(rows)
    shape = "input-output" if as_json else "prompt-response"
    ours = SHAPES[shape][0]
    return shape, {
        name: theirs for name, theirs in zip(ours, (asked, answer), strict=True) if name != theirs
    } | rejected


def renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a row with its columns renamed to our fields."""
    back = {theirs: ours for ours, theirs in columns.items()}
    taken = set(columns)
    return {back.get(name, name): value for name, value in row.items() if name in back or name not in taken}


def find_group(rows: Sequence[Mapping[str, Any]], taken: Iterable[str]) -> str | None:
    """Return the column with groups: a common name, strings, at least five different values, each on at least two rows
    on average, and none on more than half of the rows.
    """
    columns = dict.fromkeys(name for row in rows for name in row if name not in set(taken))
    for name in GROUPS:
        for column in (c for c in columns if plain(c) == name):
            values = [row.get(column) for row in rows]
            texts = Counter(value for value in values if isinstance(value, str) and value.strip())
            total = sum(texts.values())
            if total >= 0.9 * len(rows) and 5 <= len(texts) <= total / 2 and max(texts.values()) <= total / 2:
                return column
    return None


def find_id_prefix(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """Return a note if ids share prefixes, which may be groups; empty if they do not."""
    for column in columns:
        if plain(column) not in ("id", "key", "name", "uid"):
            continue
        for part in PARTS:
            ids = [str(row[column]) for row in rows if part in str(row.get(column, ""))]
            prefixes = Counter(value.rpartition(part)[0] for value in ids)
            if len(ids) >= 0.9 * len(rows) and 5 <= len(prefixes) <= len(ids) / 2:
                example = prefixes.most_common(1)[0][0]
                return (
                    f"the values of {column} share {len(prefixes):,} prefixes, such as {example!r}. If those rows "
                    "belong together, put the prefix into a column `group`, so that whole groups are held out"
                )
    return ""


def bad_common(rows: Sequence[Mapping[str, Any]], shapes: Collection[str], needed: set[str]) -> dict[str, str]:
    """Return {field: reason} for the optional fields of any shape whose values are invalid in more than 1% of rows.

    `needed`: fields of the rows' shapes, which these read themselves.
    """
    bad = {}
    write = USUAL.write if "input-output" in shapes else None
    for name in (name for name in COMMON if name not in needed):
        reasons = []
        for row in rows:
            try:
                common_fields({name: row[name]} if name in row else {}, LEVELS, write)
            except Fault as fault:
                reasons.append(fault.reason)
        if len(reasons) > 0.01 * len(rows):
            bad[name] = reasons[0]
    return bad


def find_task(answers: Sequence[str]) -> str:
    """Return the task that fits the answers: command, extract, classify or qa."""
    most = (1 - MAX_REJECTED) * len(answers)
    if sum(answer.startswith("aws ") for answer in answers) >= most:
        return "command"
    if sum(as_object(answer) is not None for answer in answers) >= most:
        return "extract"
    labels = Counter(answer.strip() for answer in answers)
    repeated = sum(count for count in labels.values() if count > 1)
    short = all(len(label) <= LABEL_CHARS and "\n" not in label for label in labels)
    few = len(labels) <= min(MOST_LABELS, len(answers) / 4)
    return "classify" if short and few and repeated >= 0.98 * len(answers) else "qa"


def object_notes(answers: Sequence[str]) -> list[str]:
    """Return a note if some answers are JSON objects but too many are not."""
    objects = sum(as_object(answer) is not None for answer in answers)
    if objects < 0.1 * len(answers):
        return []
    first = next(number for number, answer in enumerate(answers) if as_object(answer) is None)
    return [
        f"answers that are JSON objects: {objects:,} of {len(answers):,}; the task extract requires all. "
        f"The first that is not: {answers[first][:60]!r}"
    ]


def label_notes(labels: Mapping[str, int]) -> list[str]:
    """Return notes on labels that differ only in case or whitespace, and on rare ones."""
    alike = defaultdict(list)
    for label in labels:
        alike[normal(label).casefold()].append(label)
    found = [f"labels that differ only in case: {', '.join(map(repr, sorted(same)))}; use one spelling"
             for same in alike.values() if len(same) > 1]  # fmt: skip
    if rare := sorted(label for label, count in labels.items() if count < 10):
        found.append(f"labels with fewer than 10 rows: {', '.join(rare)}; add rows with them")
    return found


def row_notes(records: Sequence[Record]) -> list[str]:
    """Return notes on duplicates and contradictions."""
    found = []
    if copies := len(records) - len({record.id for record in records}):
        found.append(f"exact duplicates of other rows: {copies:,}; left out here and in the run")
    answers = defaultdict(set)
    for record in records:
        answers[normal(record.asked)].add(normal(record.response))
    if several := sum(len(found) > 1 for found in answers.values()):
        found.append(
            f"prompts with different answers: {several:,}; the audit (step 2) lists them in "
            "results/<run>/data/contradictions.jsonl"
        )
    return found


def look(
    files: Sequence[str], prompt: str | None = None, response: str | None = None, again: Sequence[str] = ()
) -> Looks:
    """Inspect rows; `prompt`, `response`: columns given by the user; `again`: the command line, for error messages.

    Raises GradusError if a file cannot be used, if files need different columns, or if there is nothing to learn.
    """
    rows, count = read_rows(files)
    shapes: dict[str, str] = {}
    mapped: dict[str, dict[str, str]] = {}
    for file in dict.fromkeys(row.file for row in rows):
        first = [row for row in rows if row.file == file and row.value is not None][:100]
        place = f"{file}:{1 if file.endswith('.csv') else first[0].line}"  # a table's columns are named in its header
        shapes[file], mapped[file] = find_columns([row.value or {} for row in first], place, prompt, response, again)
    columns = next(iter(mapped.values()))
    if other := next((file for file in mapped if mapped[file] != columns), None):
        raise GradusError(
            f"{other}: its columns ({describe(mapped[other])}) differ from those of {files[0]} ({describe(columns)}). "
            "data.columns applies to all files: rename columns in one of them"
        )
    good = [renamed(row.value, columns) for row in rows if row.value is not None]
    needed = {name for shape in shapes.values() for name in (*SHAPES[shape][0], *SHAPES[shape][1])}
    bad = bad_common(good, shapes.values(), needed)
    columns = dict(columns)
    notes = [f"column {name} is not used: {reason}" for name, reason in bad.items()]
    # an existing field `group` is kept
    has_group = any(row.get("group") for row in good) and "group" not in bad
    if not has_group and (group := find_group(good, needed | (set(COMMON) - {"source"}))):
        columns["group"] = group
        good = [renamed(row, {"group": group}) for row in good]
    names = dict.fromkeys(name for row in good for name in row)
    ignored = sorted(name for name in names if name in bad or name not in needed | set(COMMON))
    if not has_group and "group" not in columns and (note := find_id_prefix(good, names)):
        notes.append(note)
    looks = Looks(list(files), count, sorted(set(shapes.values())), columns, ignored, notes=notes)
    usable = make(rows, looks, shapes)
    if not usable:
        line = looks.rejected[0]
        hint = "; write numbers as strings, preferably as label names" if line.reason.endswith("not a text") else ""
        raise GradusError(f"{line.file}:{line.line}: no row can be used; the first one: {line.reason}{hint}")
    looks.task = find_task([fields["response"] for fields in usable])
    looks.records = [Record(**fields, task=looks.task) for fields in usable]
    if len(looks.labels) == 1 and len(looks.records) > 1:
        raise GradusError(
            f"{files[0]}: all {len(looks.records):,} answers are the same, {next(iter(looks.labels))[:60]!r}; there is "
            "nothing to learn. Check that --response is the right column"
        )
    looks.notes += label_notes(looks.labels) if looks.task == "classify" else []
    looks.notes += object_notes([record.response for record in looks.records]) if looks.task == "qa" else []
    looks.notes += row_notes(looks.records)
    looks.records = list({record.id: record for record in reversed(looks.records)}.values())[
        ::-1
    ]  # keeps the first of duplicates
    if count > MOST_ROWS:
        looks.notes.append(f"only the first {MOST_ROWS:,} of {count:,} rows were inspected; others may be longer")
    return looks


def make(rows: Sequence[Row], looks: Looks, shapes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the record fields of the rows that can be used; note the others, and the rows' system prompt."""
    usable: list[dict[str, Any]] = []
    systems = Counter[str]()  # by their words, as `ingest` compares them
    written: dict[str, str] = {}  # the first of each as it stands
    for row in rows:
        try:
            if row.value is None:
                raise Fault("", row.reason)
            fields = renamed(row.value, looks.columns)
            turns = make_fields(
                {name: value for name, value in fields.items() if name not in looks.ignored},
                shapes[row.file],
                None,
                [],
                LEVELS,
            )
        except Fault as fault:
            reason = f"{looks.columns.get(fault.name, fault.name)}: {fault.reason}" if fault.name else fault.reason
            looks.rejected.append(Row(row.file, row.line, None, reason))
            continue
        place = f"{Path(row.file).name}:{row.line}"
        for turn in turns:
            system = turn.pop("system", None)
            if system is not None:
                words = " ".join(system.split())
                systems[words] += 1
                written.setdefault(words, system)
            if len(turns) > 1:
                turn["thread"] = place
            usable.append({"source": place, **turn})
    if systems:
        [(words, count)] = systems.most_common(1)
        looks.system_prompt = written[words]
        if others := systems.total() - count:
            looks.notes.append(
                f"{others:,} answers have a different system prompt than most; make it the same, or remove it"
            )
    return usable


def describe(columns: Mapping[str, str]) -> str:
    """Format a mapping of columns."""
    return ", ".join(f"{theirs} → {ours}" for ours, theirs in columns.items()) or "Gradus's names"
