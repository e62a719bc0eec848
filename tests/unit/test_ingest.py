"""Rows of every shape and kind of file become records; what cannot be used is named, and nothing else is lost."""

import csv
import gzip
import json

import pyarrow
import pytest
from pyarrow import parquet

from scripts.common.errors import GradusError
from scripts.common.records import Record
from scripts.common.strict_json import read_schema
from scripts.data.ingest import Ingest, Source
from scripts.data.shapes import Layout, make_fields
from scripts.tasks.checks import load_check

LEVELS = ["easy", "medium", "hard"]


def write(tmp_path, *lines, name="rows.jsonl"):
    file = tmp_path / name
    raw = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    file.write_bytes(b"\n".join(raw) + b"\n")
    return file


def read(*files, task="qa", allow=0.0, **more):
    sources = [file if isinstance(file, Source) else Source(str(file)) for file in files]
    ingest = Ingest(sources, task, more.pop("shape", "auto"), allow, LEVELS, **more)
    return list(ingest.records()), ingest


def row(number, **more):
    return {"prompt": f"question {number}", "response": f"answer {number}", **more}


SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "member": {"type": "boolean"}},
}


@pytest.mark.parametrize(
    ("shape", "given", "prompt", "response"),
    [
        ("prompt-response", {"prompt": "a", "response": "b"}, "a", "b"),
        ("instruction", {"instruction": "do", "input": "this", "output": "done"}, "do\n\nthis", "done"),
        ("instruction", {"instruction": "do", "input": "", "output": "done"}, "do", "done"),
        ("input-output", {"input": "x", "output": {"age": 3, "name": "é"}}, "x", '{"age": 3, "name": "é"}'),
        ("input-output", {"input": "x", "output": '{"age": 3}'}, "x", '{"age": 3}'),
    ],
)
def test_each_shape_is_detected_and_becomes_a_record(tmp_path, shape, given, prompt, response):
    (record,), ingest = read(write(tmp_path, {**given, "group": "g", "difficulty": 1}))
    assert (record.prompt, record.response, record.group, record.difficulty) == (prompt, response, "g", 1)
    assert record.source == "rows.jsonl:1"
    assert list(ingest.shapes.values()) == [shape]


def talk(*contents, system=None):
    roles = ["user", "assistant"] * 9
    first = [{"role": "system", "content": system}] if system else []
    return {"messages": first + [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]}


def test_a_conversation_gives_a_record_for_each_answer_with_what_went_before(tmp_path):
    records, _ = read(
        write(tmp_path, talk("hi", "hello", "and now?", "bye", system="Be  brief.")), system_prompt="Be brief."
    )
    assert [(r.prompt, r.response) for r in records] == [("hi", "hello"), ("and now?", "bye")]
    assert records[1].context == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    assert records[0].thread == records[1].thread == "rows.jsonl:1"
    assert records[1].asked == "hi\nhello\nand now?"


def test_a_system_prompt_that_is_not_the_pinned_one_is_refused(tmp_path):
    with pytest.raises(GradusError, match=r"rows.jsonl:1: messages\[0\].content: its system prompt is not chat.system"):
        read(write(tmp_path, talk("hi", "hello", system="Other.")), system_prompt="Be brief.")


def test_objects_keep_their_own_order_and_lose_their_spaces_if_wanted():
    schema = {"properties": {"a": {}, "b": {}}}
    row = {"input": "x", "output": {"b": [1, 2], "a": "é: y, z"}}
    written = {}
    for order in ("schema", "row"):
        for compact in (False, True):
            (fields,) = make_fields(row, "input-output", schema, (), LEVELS, Layout(order, compact))
            written[order, compact] = fields["response"]
    assert written == {
        ("schema", False): '{"a": "é: y, z", "b": [1, 2]}',
        ("schema", True): '{"a":"é: y, z","b":[1,2]}',
        ("row", False): '{"b": [1, 2], "a": "é: y, z"}',
        ("row", True): '{"b":[1,2],"a":"é: y, z"}',
    }


def test_objects_are_written_in_the_schemas_order_and_checked_against_it(tmp_path):
    file = write(
        tmp_path, {"input": "x", "output": {"age": 3, "name": "a"}}, {"input": "y", "output": {"age": "3", "name": "b"}}
    )
    records, ingest = read(file, task="extract", allow=0.5, schema=SCHEMA)
    assert records[0].response == '{"name": "a", "age": 3}'
    assert ingest.rejected == [
        {
            "file": str(file),
            "line": 2,
            "field": "output",
            "reason": "not as the schema says, at $.age: '3' is not of type 'integer'",
        }
    ]


def test_the_same_rows_come_out_of_every_kind_of_file(tmp_path):
    rows = [row(n, difficulty=n % 3, group="g", checks=["answer"]) for n in range(50)]
    plain = write(tmp_path, *rows)
    with gzip.open(tmp_path / "rows.jsonl.gz", "wb") as packed:
        packed.write(b"\xef\xbb\xbf" + plain.read_bytes())
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, list(rows[0]))
        table.writeheader()
        table.writerows({**r, "checks": json.dumps(r["checks"])} for r in rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = [
        [{**r.to_json(), "source": ""} for r in read(tmp_path / f"rows.{e}")[0]]
        for e in ("jsonl", "jsonl.gz", "csv", "parquet")
    ]
    assert found[0] == found[1] == found[2] == found[3]
    assert len(found[0]) == 50


@pytest.mark.parametrize(
    ("task", "response", "words"),
    [
        ("extract", "Bob, 7", "response: not a JSON object, which data.task extract takes (Expecting value"),
        ("extract", "[1]", "response: not a JSON object, which data.task extract takes (it is of type list)"),
        ("extract", '{"age": 3}', "response: not as the schema says, at $: 'name' is a required property"),
        ("command", "ls -l", "response: not one aws command, which data.task command takes (does not start with aws)"),
        ("command", "aws s3 ls | wc", "(more than one command, or a redirection)"),
    ],
)
def test_a_response_that_its_task_does_not_take_is_rejected_before_training(tmp_path, task, response, words):
    """Not by `grade`, hours later."""
    file = write(tmp_path, {"prompt": "a", "response": response})
    with pytest.raises(GradusError) as fault:
        read(file, task=task, check=load_check(task), schema=SCHEMA)
    assert "rows.jsonl:1: " in str(fault.value)
    assert words in str(fault.value)


def test_one_label_is_no_classification(tmp_path):
    same = write(tmp_path, *({"prompt": f"q{n}", "response": "spam "} for n in range(3)))
    with pytest.raises(GradusError, match="all 3 rows have the same label, 'spam'.* or set data.task: qa"):
        read(same, task="classify", labels=True)
    assert len(read(same, write(tmp_path, row(1), name="other.jsonl"), task="classify", labels=True)[0]) == 4


def test_files_have_roles(tmp_path):
    train, held = write(tmp_path, row(1), row(2, split="valid")), write(tmp_path, row(3), name="eval.jsonl")
    records, _ = read(Source(str(train), "train"), Source(str(held), "eval"))
    assert [r.split for r in records] == ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        ("{not json", "", "not JSON"),
        (b'{"prompt": "\xff\xfe", "response": "b"}', "", "not UTF-8 (byte 13 of the line)"),
        (b'{"prompt": "a\x00b", "response": "b"}', "", "not JSON (Invalid control character"),
        ('{"prompt": "a\\u0000b", "response": "b"}', "prompt", "holds a NUL character"),
        ('{"prompt": "a\\ud800b", "response": "b"}', "prompt", "half a surrogate pair"),
        ('{"prompt": "a", "prompt": "c", "response": "b"}', "", "duplicate key 'prompt'"),
        ('{"prompt": "a", "response": "b", "difficulty": NaN}', "", "NaN is not valid JSON"),
        (
            '{"prompt": "a", "response": "b", "difficulty": 1e999}',
            "difficulty",
            "not 0 to 2, and not one of easy, medium, hard",
        ),
        ("[" * 99999, "", "nested too deeply"),
        ({"prompt": "a", "response": {"b": 1}}, "response", "an object or list where a text is expected"),
        ({"prompt": "a", "response": 7}, "response", "not a text"),
        ({"prompt": "a", "response": "  "}, "response", "empty"),
        ({"prompt": "a"}, "response", "missing"),
        ({"prompt": "a", "response": "b", "anwser": 1}, "anwser", "no such field"),
        (
            {"prompt": "a", "response": "b", "difficulty": 3},
            "difficulty",
            "not 0 to 2, and not one of easy, medium, hard",
        ),
        (
            {"prompt": "a", "response": "b", "difficulty": True},
            "difficulty",
            "not 0 to 2, and not one of easy, medium, hard",
        ),
        ({"prompt": "a", "response": "b", "split": "dev"}, "split", "not one of train, valid"),
        ({"prompt": "a", "response": "b", "split": ["train"]}, "split", "not one of"),
        ({"prompt": "a", "response": "b", "checks": "c"}, "checks", "not a list of texts"),
        ({"prompt": "a", "response": "b", "group": 4}, "group", "not a text"),
        ("[1]", "", "not a JSON object"),
        ("7", "", "not a JSON object"),
    ],
)
def test_a_bad_row_stops_with_file_line_field_and_reason(tmp_path, line, field, words):
    file = write(tmp_path, row(1), line, row(2))
    with pytest.raises(GradusError) as fault:
        read(file)
    assert f"{file}:2: {field + ': ' if field else ''}" in str(fault.value)
    assert words in str(fault.value)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("hi", "not a list of objects"),
        ([{"role": "user"}], "messages[0].content: missing"),
        ([{"role": "user", "content": "a"}], "no answer"),
        ([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], "must take turns"),
        ([{"role": "user", "content": {"x": 1}}, {"role": "assistant", "content": "b"}], "where a text is expected"),
    ],
)
def test_a_bad_conversation_says_which_turn(tmp_path, messages, words):
    with pytest.raises(GradusError) as fault:
        read(write(tmp_path, talk("a", "b"), {"messages": messages}))
    assert words in str(fault.value)


def test_a_line_of_50_mb_is_passed_over_without_holding_it(tmp_path):
    file = write(tmp_path, row(1), b'{"prompt": "' + b"x" * 50_000_000 + b'", "response": "b"}', row(2))
    records, ingest = read(file, allow=0.5)
    assert [r.prompt for r in records] == ["question 1", "question 2"]
    assert [(i["line"], i["reason"]) for i in ingest.rejected] == [(2, "longer than 4 MiB; is a line break missing?")]


def test_bad_rows_within_the_share_are_listed_and_the_rest_is_read(tmp_path):
    records, ingest = read(write(tmp_path, row(1), "x", row(2), row(1)), allow=0.25)
    assert len(records) == 3
    assert ingest.summary() == {
        "rows": 4,
        "records": 3,
        "rejected": 1,
        "reasons": {"not JSON": 1},
        "shapes": {str(tmp_path / "rows.jsonl"): "prompt-response"},
    }


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.jsonl", b"", "rows.jsonl: is empty"),
        ("rows.jsonl", b"\n\n \n", "contains no rows"),
        ("rows.csv", b"prompt,response\n", "contains no rows, only a header"),
        ("rows.csv", b"prompt,prompt\na,b\n", "two columns have the same name"),
        ("rows.csv", b"prompt,response\na,b,c\n", "has 3 cells, the header 2"),
        ("rows.csv", b"prompt,response\na,\xff\n", "rows.csv:2: not UTF-8"),
        ("rows.csv", b'prompt,response\na,"b\n', "not CSV"),
        ("rows.parquet", b"PAR1 but not really", "not a Parquet file, or corrupt"),
        ("rows.jsonl.gz", b"not gzip", "corrupt, or not gzip"),
        ("rows.jsonl.gz", gzip.compress(b'{"prompt": "a", "response": "b"}\n' * 99)[:-20], "corrupt, or not gzip"),
        ("rows.txt", b"a", "its extension is not one of .jsonl, .jsonl.gz, .csv, .parquet"),
        ("rows.jsonl", b'{"question": "a", "answer": "b"}\n', "unknown shape of rows (this one has question, answer)"),
        ("rows.jsonl", b'{"input": "a", "output": {}}\n{"prompt": "a", "response": "b"}\n', "rows of different shapes"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GradusError) as fault:
        read(tmp_path / name)
    assert words in str(fault.value)


def test_a_folder_where_a_file_is_expected(tmp_path):
    with pytest.raises(GradusError, match="is a folder; list its files in data.files"):
        read(tmp_path)


def test_a_declared_shape_is_not_guessed_and_unknown_columns_can_be_dropped(tmp_path):
    file = write(tmp_path, {"input": "a", "output": "b", "instruction": "c", "text": "d"})
    assert read(file, ignore_fields=["text"])[0][0].prompt == "c\n\na"
    with pytest.raises(GradusError, match="output: not a JSON object"):
        read(file, shape="input-output", ignore_fields=["text", "instruction"])


def test_ids_ignore_spacing_and_fields_that_are_not_content():
    assert Record("a  b", "c", "qa").id == Record("a b", "c\n", "qa", source="x").id != Record("a c", "b", "qa").id
    turn = [{"role": "user", "content": "x"}]
    assert Record("a", "b", "qa").id != Record("a", "b", "qa", context=turn).id


def test_records_come_before_the_end_of_the_file_was_read(tmp_path):
    """A file whose end is damaged gives its first rows, and then says so: it is not read whole beforehand."""
    whole = gzip.compress("".join(json.dumps(row(n)) + "\n" for n in range(50_000)).encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(whole[:-2000])
    records = Ingest([Source(str(tmp_path / "rows.jsonl.gz"))], "qa", "auto", 0.0, LEVELS).records()
    assert next(records).prompt == "question 0"
    with pytest.raises(GradusError, match="corrupt, or not gzip"):
        list(records)


@pytest.mark.parametrize("text", ["{", '{"type": "objekt"}', "[]", '{"a": 1, "a": 2}'])
def test_a_schema_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "schema.json").write_text(text)
    with pytest.raises(GradusError, match="schema.json: not a valid JSON schema"):
        read_schema(tmp_path / "schema.json")


def test_an_answer_that_looks_like_json_stays_text_in_every_kind_of_file(tmp_path):
    """A CSV's `output` was read as JSON whatever the shape, and the row was rejected."""
    rows = [{"instruction": "list them", "output": "[1, 2]"}, {"instruction": "as JSON", "output": '{"a": 1}'}]
    with open(tmp_path / "rows.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    answers = [
        [record.response for record in read(file)[0]] for file in (tmp_path / "rows.csv", write(tmp_path, *rows))
    ]
    assert answers[0] == answers[1] == ["[1, 2]", '{"a": 1}']


FIELDS = {"checks": "must_have", "difficulty": "level", "group": "page"}


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet"])
@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"prompt": "question", "response": "answer"}, {"question": "a", "answer": "b"}),
        ({"instruction": "task", "input": "text", "output": "result"}, {"task": "a", "text": "", "result": "b"}),
        ({"input": "output", "output": "input"}, {"output": "a", "input": '{"n": 1}'}),
        ({"chosen": "good", "rejected": "bad"}, {"prompt": "a", "good": "b", "bad": "c"}),
        (
            {"chosen": "good", "rejected": "bad"},
            {"good": talk("a", "b")["messages"], "bad": talk("a", "c")["messages"]},
        ),
        ({"prompt": "q", "rejected": "bad"}, {"q": "a", "response": "b", "bad": ["c", "d"]}),
        ({"messages": "chat"}, {"chat": talk("a", "b")["messages"]}),
    ],
)
def test_columns_map_names_in_every_kind_of_file_and_shape(tmp_path, kind, columns, row):
    rows = [{**row, "must_have": ["b"], "level": 2, "page": "p"}]
    file = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif kind == "csv":
        with open(file, "w", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0])
            writer.writeheader()
            writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in rows[0].items()})
    else:
        write(tmp_path, *rows, name=f"rows.{kind}")
        if kind == "jsonl.gz":
            file.write_bytes(gzip.compress(file.read_bytes()))
    ((record,), _) = read(file, columns={**columns, **FIELDS})
    assert (record.prompt, record.response) == (
        "a",
        '{"n": 1}' if "input" in row and "task" not in row and "output" in row else "b",
    )
    assert (record.checks, record.difficulty, record.group) == (["b"], 2, "p")
    assert record.rejected == ([] if "bad" not in row else ["c", "d"] if "q" in row else ["c"])


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    file = write(tmp_path, {"question": "a", "reply": "b"})
    with pytest.raises(GradusError, match=r"rows.jsonl: data.columns: no column 'answer' .*columns: question, reply"):
        read(file, columns={"prompt": "question", "response": "answer"})


def test_a_file_with_our_names_needs_no_mapping_and_both_names_are_refused(tmp_path):
    columns = {"prompt": "question"}
    ours, theirs = write(tmp_path, row(1), name="a.jsonl"), write(tmp_path, {"question": "q", "response": "r"})
    assert [record.prompt for record in read(ours, theirs, columns=columns)[0]] == ["question 1", "q"]
    with pytest.raises(GradusError, match="takes prompt from 'question', but there is also a column 'prompt'"):
        read(write(tmp_path, row(1, question="q")), columns=columns)


def test_difficulty_is_a_level_by_name_or_number(tmp_path):
    levels = ["plain", "tricky"]
    given = [row(1, difficulty="tricky"), row(2, difficulty=0), row(3)]
    source = Source(str(write(tmp_path, *given)))
    assert [r.difficulty for r in Ingest([source], "qa", "auto", 0.0, levels).records()] == [1, 0, None]
    table = tmp_path / "rows.csv"
    table.write_text("prompt,response,difficulty\na,b,tricky\nc,d,0\n")
    assert [r.difficulty for r in Ingest([Source(str(table))], "qa", "auto", 0.0, levels).records()] == [1, 0]
    with pytest.raises(GradusError, match="difficulty: not 0 to 1, and not one of plain, tricky"):
        list(Ingest([Source(str(write(tmp_path, row(1, difficulty=2))))], "qa", "auto", 0.0, levels).records())


def test_a_file_of_another_shape_needs_only_its_own_columns(tmp_path):
    columns = {"prompt": "question", "response": "answer"}
    chat, table = write(tmp_path, talk("a", "b"), name="a.jsonl"), write(tmp_path, {"question": "q", "answer": "r"})
    assert [record.prompt for record in read(chat, table, columns=columns)[0]] == ["a", "q"]
    with pytest.raises(GradusError, match="no column 'topic'"):
        read(chat, columns={**columns, "group": "topic"})


def test_rows_of_the_users_own_become_a_split_and_may_have_several_right_responses(tmp_path):
    lines = [{"prompt": "list buckets", "response": "aws s3 ls", "accepted": ["aws s3api list-buckets"]}]
    (record,), _ = read(Source(str(write(tmp_path, *lines)), "own"), task="command", check=load_check("command"))
    assert record.split == "eval-own"
    assert [version.response for version in record.versions()] == ["aws s3 ls", "aws s3api list-buckets"]
    assert "accepted" not in Record("a", "b", "qa").to_json()
    lines[0]["accepted"].append("rm -r /")
    with pytest.raises(GradusError, match=r"accepted\[1\]: not one aws command"):
        read(write(tmp_path, *lines), task="command", check=load_check("command"))


@pytest.mark.parametrize(
    ("more", "role", "words"),
    [
        ({"augmented": True, "split": "train"}, "all", "leave out its split"),
        ({"augmented": True}, "eval", "only for training, and this file's role is eval"),
        ({"augmented": "yes"}, "all", "neither true nor false"),
    ],
)
def test_augmented_rows_are_for_training_only(tmp_path, more, role, words):
    with pytest.raises(GradusError, match=words):
        read(Source(str(write(tmp_path, row(1, **more))), role))


def test_augmented_rows_come_last_so_what_they_copy_stands_before_them(tmp_path):
    first = write(tmp_path, row(1, augmented=True), row(2), row(3, augmented=True), name="a.jsonl")
    records, ingest = read(first, write(tmp_path, row(1), row(4), name="b.jsonl"))
    assert [record.prompt[-1] for record in records] == ["2", "1", "4", "1", "3"]
    assert [record.augmented for record in records] == [False] * 3 + [True] * 2
    assert ingest.summary()["records"] == 5


def test_an_augmented_row_of_a_training_file_brings_no_split(tmp_path):
    """With one, it would stay where it copies a held-out row."""
    (record,), _ = read(Source(str(write(tmp_path, row(1, augmented=True))), "train"))
    assert (record.split, record.augmented) == ("", True)


# --- rejected answers

USER, BYE = {"role": "user", "content": "and now?"}, {"role": "assistant", "content": "bye"}
BEFORE = talk("hi", "hello", "and now?")["messages"]
NO = {"role": "assistant", "content": "no"}


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ("prompt-response", {"prompt": "a", "response": "b", "rejected": "c"}),
        ("prompt-response", {"prompt": "a", "response": "b", "rejected": ["c", "c "]}),
        ("instruction", {"instruction": "a", "output": "b", "rejected": "c"}),
        ("messages", {**talk("a", "b"), "rejected": "c"}),
        ("preference", {"prompt": "a", "chosen": "b", "rejected": "c"}),
        ("preference", {"prompt": "a", "chosen": "b", "rejected": ["c"]}),
        ("preference", {"prompt": "a", "chosen": talk("a", "b")["messages"], "rejected": talk("a", "c")["messages"]}),
    ],
)
def test_rows_of_each_shape_can_have_rejected_answers(tmp_path, shape, given):
    """They are no part of a row's id, and a row without them has the bytes that it had before there were any."""
    (record,), ingest = read(write(tmp_path, given))
    assert list(ingest.shapes.values()) == [shape]
    assert (record.prompt, record.response, record.rejected) == ("a", "b", ["c"])
    assert record.id == Record("a", "b", "qa").id
    assert "rejected" not in Record("a", "b", "qa").to_json()


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": BEFORE, "chosen": [BYE], "rejected": [NO]},
        {"prompt": BEFORE, "chosen": "bye", "rejected": "no"},
        {"chosen": [*BEFORE, BYE], "rejected": [*BEFORE, NO]},
        {"prompt": BEFORE, "chosen": [*BEFORE, BYE], "rejected": [NO]},
        {"prompt": "hi", "chosen": [*BEFORE, BYE], "rejected": [*BEFORE, NO]},
        {"prompt": "and now?", "chosen": [*BEFORE, BYE], "rejected": [*BEFORE, NO]},
    ],
)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_pairs_of_conversations_share_the_turns_before_their_answers(tmp_path, given, system):
    if system:
        turn = {"role": "system", "content": system}
        first = [name for name in given if isinstance(given[name], list) and BEFORE[0] in given[name]]
        given = {name: [turn, *turns] if name in first else turns for name, turns in given.items()}
    (record,), _ = read(write(tmp_path, given), system_prompt=system or "")
    assert (record.prompt, record.response, record.rejected) == ("and now?", "bye", ["no"])
    assert record.context == talk("hi", "hello")["messages"]
    assert record.thread == ""
    if system:
        with pytest.raises(GradusError, match=rf"rows.jsonl:1: {first[0]}\[0\].content: its system prompt is not chat"):
            read(write(tmp_path, given), system_prompt="Other.")


def test_a_rejected_answer_of_a_conversation_is_about_its_last_answer(tmp_path):
    records, _ = read(write(tmp_path, {**talk("hi", "hello", "and now?", "bye"), "rejected": "no"}))
    assert [record.rejected for record in records] == [[], ["no"]]


def test_rejected_objects_are_written_as_right_ones_are_and_need_not_be_valid(tmp_path):
    row = {
        "input": "x",
        "output": {"age": 3, "name": "a"},
        "rejected": [{"age": "3", "name": "b"}, '{"age":4}', "a, 3"],
    }
    (record,), _ = read(write(tmp_path, row), task="extract", schema=SCHEMA, check=load_check("extract"))
    assert record.response == '{"name": "a", "age": 3}'
    assert record.rejected == ['{"name": "b", "age": "3"}', '{"age":4}', "a, 3"]


PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}


@pytest.mark.parametrize("line", [{**PAIR, "rejected": empty} for empty in ("", None, [])] + [row(1, rejected=" ")])
def test_an_empty_rejected_answer_is_none(tmp_path, line):
    """As in a table in which only some rows have one."""
    (record,), _ = read(write(tmp_path, line))
    assert record.rejected == []
    assert record.response in ("b", "answer 1")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ({**PAIR, "rejected": " b\n"}, "rejected: the same as the right answer"),
        ({"chosen": [*BEFORE, BYE], "rejected": [*BEFORE, BYE]}, "rejected: the same as the right answer"),
        (row(1, rejected=["x", "answer  1"]), "rejected[1]: the same as the right answer"),
        (row(1, accepted=["x", "y"], rejected="y "), "rejected: the same as accepted[1], which is right"),
        ({"input": "x", "output": {"a": 1, "b": 2}, "rejected": '{"b":2, "a":1}'}, "rejected: the same as the right"),
        (row(1, rejected=["x", ""]), "rejected[1]: empty"),
        (row(1, rejected=7), "rejected: not a text"),
        (row(1, rejected={"a": 1}), "rejected: an object or list where a text is expected"),
        (row(1, rejected=["x", ["y"]]), "rejected[1]: an object or list where a text is expected"),
        ({**PAIR, "chosen": ""}, "chosen: empty"),
        ({"chosen": "b", "rejected": "c"}, "prompt: missing: no turn of the user comes before the answer in chosen"),
        ({**PAIR, "prompt": talk("a", "b")["messages"]}, "prompt: missing: no turn of the user comes before"),
        ({"chosen": [BYE], "rejected": [NO]}, "prompt: missing: no turn of the user comes before the answer in chosen"),
        (
            {**PAIR, "chosen": [{"role": "user", "content": "a"}]},
            "chosen: does not end with an answer of the assistant",
        ),
        ({"chosen": [*BEFORE, BYE], "rejected": BEFORE}, "rejected: does not end with an answer of the assistant"),
        ({"chosen": [*BEFORE, BYE], "rejected": [USER, NO]}, "rejected: does not answer the turn that chosen answers"),
        ({"chosen": [USER, BYE, USER, BYE], "rejected": [USER, BYE]}, "rejected: does not answer the turn that chosen"),
        ({**PAIR, "chosen": [*BEFORE, BYE]}, "prompt: not in the conversation in chosen; list prompt in data.ignore_f"),
        (
            {"chosen": [BYE, USER, BYE], "rejected": [BYE, USER, NO]},
            "chosen: turn 1 is of 'assistant'; user and assist",
        ),
        ({"chosen": [{"role": "user"}, BYE], "rejected": [USER, NO]}, "chosen[0].content: missing"),
    ],
)
def test_a_bad_pair_stops_with_file_line_field_and_reason(tmp_path, line, fault):
    shape = {name: row(2)[name] for name in ("prompt", "response")}
    if "chosen" in line:
        shape = PAIR
    elif "input" in line:
        shape = {"input": "x", "output": {"a": 1}}
    file = write(tmp_path, shape, line)
    with pytest.raises(GradusError) as error:
        read(file)
    assert f"{file}:2: {fault}" in str(error.value)


def test_an_unpaired_preference_is_told_which_shapes_there_are(tmp_path):
    with pytest.raises(GradusError) as error:
        read(write(tmp_path, {"prompt": "a", "completion": "b", "label": True}))
    assert "rows.jsonl:1: unknown shape of rows (this one has prompt, completion, label)" in str(error.value)
    assert "preference: chosen, rejected; messages: messages; prompt-response: prompt, response" in str(error.value)


def test_fields_to_drop_are_dropped_whatever_they_are_called(tmp_path):
    """UltraFeedback has the chosen conversation twice; and a column `rejected` may be about something else."""
    both = {
        "prompt": "a",
        "chosen": talk("a", "b")["messages"],
        "rejected": talk("a", "c")["messages"],
        **talk("a", "b"),
    }
    ((record,), ingest) = read(write(tmp_path, both), ignore_fields=["messages"])
    assert (list(ingest.shapes.values()), record.rejected) == (["preference"], ["c"])
    ((record,), ingest) = read(write(tmp_path, both), ignore_fields=["prompt", "chosen", "rejected"])
    assert (list(ingest.shapes.values()), record.rejected) == (["messages"], [])
    ((record,), _) = read(
        write(tmp_path, row(1, rejected=True, difficulty="none")), ignore_fields=["rejected", "difficulty"]
    )
    assert (record.rejected, record.difficulty) == ([], None)


def test_a_table_keeps_wrong_answers_that_only_look_like_lists(tmp_path):
    (tmp_path / "rows.csv").write_text('prompt,response,rejected\na,b,"[1, 2]"\nc,d,"[""e"", ""f""]"\ng,h,\n')
    records, _ = read(tmp_path / "rows.csv")
    assert [record.rejected for record in records] == [["[1, 2]"], ["e", "f"], []]
