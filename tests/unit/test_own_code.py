"""A task or converter of the user's own: what it may define, and every way in which it can be wrong."""

import re
import runpy
import textwrap
from types import SimpleNamespace

import pytest
import yaml

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.records import Record
from scripts.config.check import check_config, check_files
from scripts.config.code import check_code
from scripts.data.convert import convert
from scripts.data.ingest import Ingest, Source
from scripts.data.shapes import Layout
from scripts.evaluate.grade import grade
from scripts.tasks.checks import base_of, load_check
from scripts.tasks.table import load_task


def write(tmp_path, text, name="my_task.py"):
    file = tmp_path / name
    file.write_text(textwrap.dedent(text))
    return str(file)


HOOKS = """
    def short(record, answer, stopped):
        return float(len(answer) <= len(record.response))

    def CHECK(record, schema):
        return "ends in no period" if not record.response.endswith(".") else None

    BASE = "qa"
    METRICS = {"short": short}
    BINARY = {"short"}
    HEADLINE = "short"
"""


def test_hooks_add_to_a_built_in_task(tmp_path):
    task = load_task(write(tmp_path, HOOKS))
    assert (task.name, task.headline) == ("my_task", "short")
    assert set(task.row_metrics()) >= {"checks_present", "exact", "short", "stopped"}
    assert task.is_binary("short") and task.is_binary("exact") and not task.is_binary("checks_present")
    record = Record("q", "It is.", "my_task")
    _, table, details = grade([record], [{"id": record.id, "text": "It is so.", "stopped": True}], task)
    assert table["short"] == {"value": 0.0, "n": 1}
    assert details["reference_points"]["short"]["ceiling"] == 1


def test_a_file_can_define_a_whole_task(tmp_path):
    file = write(
        tmp_path,
        """
        from scripts.tasks.task import Task, text_exact
        TASK = Task("upper", {"same": text_exact}, "same", check=lambda record, schema: "no" if record.prompt == "x" else None)
        """,
    )
    assert load_task(file).headline == "same"
    assert load_check(file)(Record("x", "y", "upper"), None) == "no"


def test_a_metric_may_grade_many_rows_at_once(tmp_path):
    text = "BATCH = {'rank': lambda records, answers: [n / len(answers) for n in range(len(answers))]}\n"
    task = load_task(write(tmp_path, text))
    records = [Record(f"q{n}", "a", "my_task") for n in range(2)]
    rows, table, _ = grade(records, [{"id": r.id, "text": "", "stopped": True} for r in records], task)
    assert task.headline == "rank"
    assert [row["rank"] for row in rows] == [0, 0.5]
    assert table["rank"] == {"value": 0.25, "n": 2}


def test_chance_is_that_of_our_metrics_alone(tmp_path):
    task = load_task(write(tmp_path, "BASE = 'classify'\nMETRICS = {'accuracy': lambda *_: 0.5}\n"))
    assert task.chance(["a", "b"]) == {"accuracy_normalized": 0.5}


def test_a_metric_replaces_the_one_of_its_name_whatever_its_kind(tmp_path):
    file = write(tmp_path, "BASE = 'qa'\nMETRICS = {'similarity': len}\nBATCH = {'exact': len}\n")
    task = load_task(file)
    assert "similarity" in task.metrics and "exact" in task.batch
    assert set(task.metrics).isdisjoint(task.batch)
    assert not task.is_binary("exact")


def test_metrics_alone_are_enough(tmp_path):
    file = write(tmp_path, "METRICS = {'one': lambda record, answer, stopped: 1}\n")
    assert load_task(file).headline == "one"
    assert load_check(file)(Record("a", "b", "my_task"), None) is None


def test_ingest_rejects_what_the_base_or_the_files_own_check_rejects(tmp_path):
    file = write(
        tmp_path,
        'BASE = "extract"\nMETRICS = {}\ndef CHECK(record, schema):\n    return "too many" if "," in record.response else None\n',
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"prompt": "a", "response": "no object"}\n{"prompt": "b", "response": "{\\"a\\": 1, \\"b\\": 2}"}\n{"prompt": "c", "response": "{}"}\n'
    )
    ingest = Ingest([Source(str(rows))], "my_task", "auto", 1.0, ["easy", "hard"], check=load_check(file))
    assert [record.prompt for record in ingest.records()] == ["c"]
    assert [item["reason"].split(",")[0] for item in ingest.rejected] == ["not a JSON object", "too many"]


@pytest.mark.parametrize("task", ["EXTRACT", "replace(EXTRACT, check=lambda record, schema: None)"])
def test_a_built_in_task_by_another_name_keeps_its_check(tmp_path, task):
    """Else rows that are no objects would pass, and grading would fail after training."""
    text = f"from dataclasses import replace\nfrom scripts.tasks.extract import EXTRACT\nTASK = {task}\n"
    check = load_check(write(tmp_path, text))
    assert "not a JSON object" in check(Record("a", "no object", "my_task"), None)
    assert check(Record("a", "{}", "my_task"), None) is None


def test_a_metric_replaces_the_one_of_its_name_over_a_whole_split(tmp_path):
    file = write(tmp_path, "BASE = 'classify'\nMETRICS = {'macro_f1': lambda record, answer, stopped: 0.25}\n")
    record = Record("a", "yes", "my_task")
    _, table, _ = grade([record], [{"id": record.id, "text": "yes", "stopped": True}], load_task(file))
    assert table["macro_f1"]["value"] == 0.25


def test_a_task_that_extends_classify_needs_two_labels_too(tmp_path):
    assert base_of(write(tmp_path, 'BASE = "classify"\nMETRICS = {}\n')) == "classify"
    assert base_of(write(tmp_path, "from scripts.tasks.classify import CLASSIFY as TASK\n")) == "classify"
    assert base_of(write(tmp_path, "METRICS = {'one': len}\n")) == ""
    assert base_of("qa") == "qa"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("METRICS = {", "my_task.py:1: not valid Python ('{' was never closed)"),
        (
            "\nimport nosuchmodule\n",
            "my_task.py:2: cannot be loaded: ModuleNotFoundError: No module named 'nosuchmodule'",
        ),
        ("x = 1\n", "defines neither TASK nor METRICS nor BATCH"),
        ("METRICS = {'a': 1}\n", "METRICS is {'a': 1}; it takes {name: function}"),
        ("BATCH = {'a': 1}\n", "BATCH is {'a': 1}; it takes {name: function}"),
        ("BATCH = {'id': len}\n", "a metric cannot be called 'id'"),
        ("METRICS = {'a': len}\nBATCH = {'a': len}\n", "two metrics are called 'a'"),
        ("TASK = 'qa'\n", "TASK is 'qa'; it takes a Task"),
        ("TASK = 3\n", "TASK is 3; it takes a Task"),
        ("from scripts.tasks.qa import QA as TASK\nMETRICS = {'a': len}\n", "METRICS beside TASK has no effect"),
        ("METRICS = {'stopped': len}\n", "a metric cannot be called 'stopped' (every task has that one); rename it"),
        ("METRICS = {'id': len}\n", "a metric cannot be called 'id'"),
        (
            "from scripts.tasks.task import Task\nTASK = Task('a', {'id': len}, 'id')\n",
            "a metric cannot be called 'id'",
        ),
        ("METRICS = {'a': len}\nBINARY = 5\n", "BINARY is 5; it takes a set of names"),
        ("METRICS = {'a': len}\nBINARY = 'a'\n", "BINARY is 'a'; it takes a set of names"),
        ("METRICS = {'a': len}\nHEADLINE = 'b'\n", "headline: no row metric 'b'; known metrics: a"),
        ("METRICS = {'a': len}\nBINARY = {'c'}\n", "binary: no row metric 'c'; known metrics: a"),
    ],
)
def test_a_file_that_cannot_be_a_task_says_why(tmp_path, text, words):
    file = write(tmp_path, text)
    with pytest.raises(GradusError, match=re.escape(words)):
        load_task(file)
    if "row metric" not in words and "two metrics" not in words:  # only metrics' names need the built-in tasks
        with pytest.raises(GradusError, match=re.escape(words)):  # in ingest, before training
            load_check(file)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(GradusError, match="gone.py: no such file"):
        load_task(str(tmp_path / "gone.py"))


def test_a_metric_or_check_that_raises_names_file_line_function_and_row(tmp_path):
    file = write(
        tmp_path,
        "def half(record, answer, stopped):\n    return 1 / 0\ndef CHECK(record, schema):\n    return 7\nMETRICS = {'half': half}\n",
    )
    record = Record("q", "a", "my_task", source="rows.csv:7")
    with pytest.raises(
        GradusError, match=r"my_task.py:2: half\(\) failed on row rows.csv:7: ZeroDivisionError: division"
    ):
        grade([record], [{"id": record.id, "text": "", "stopped": True}], load_task(file))
    with pytest.raises(
        GradusError, match="CHECK returned 7; it must return what is wrong with a row as a string, or None"
    ):
        load_check(file)(record, None)


CONVERTER = """
    import json
    from dataclasses import dataclass, field
    from pathlib import Path

    @dataclass
    class Options:
        name: str
        limit: int = 2
        words: list[str] = field(default_factory=list)

        def __post_init__(self):
            if self.limit < 1:
                raise ValueError(f"limit: {self.limit} is less than 1")

    def convert(folder, options):
        lines = (Path(folder) / options.name).read_text().splitlines()
        return [{"prompt": line, "response": line.upper()} for line in lines[: options.limit]]
"""


def test_a_converter_may_return_its_rows_alone(tmp_path):
    (tmp_path / "a.txt").write_text("a\nb\nc\n")
    rows, left_out, counts = convert(write(tmp_path, CONVERTER), tmp_path, {"name": "a.txt"})
    assert rows == [{"prompt": "a", "response": "A"}, {"prompt": "b", "response": "B"}]
    assert (left_out, counts) == ([], {"read": "2 rows", "rows": 2, "left_out": {}})
    assert not list(tmp_path.glob("**/__pycache__"))


def test_the_order_of_an_outputs_keys_reaches_the_records(tmp_path):
    converter = write(
        tmp_path,
        """
        def convert(folder, options):
            return [{"input": "Elm St 5", "output": {"street": "Elm St", "number": 5}, "group": "elm"}]
        """,
    )
    rows = tmp_path / "rows.jsonl"
    job = SimpleNamespace(
        input=SimpleNamespace(converter=converter, package=str(tmp_path)),
        output=SimpleNamespace(rows=str(rows), left_out=str(tmp_path / "left_out"), counts=str(tmp_path / "counts")),
        params=SimpleNamespace(sha256=None, options={}, variants={"kinds": []}),
        resources={},
        log=[str(tmp_path / "log")],
    )
    runpy.run_path("scripts/data/convert.py", {"snakemake": job})
    ingest = Ingest([Source(str(rows))], "extract", "auto", 0.0, ["easy"], layout=Layout("row", compact=True))
    assert [record.response for record in ingest.records()] == ['{"street":"Elm St","number":5}']


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "data.package.options.name: required, but missing"),
        ({"name": "a", "limt": 1}, "data.package.options.limt: no such option; did you mean limit?"),
        ({"name": "a", "qqq": 1}, "data.package.options.qqq: no such option; known options: name, limit, words"),
        ({"name": "a", "limit": "3"}, "data.package.options.limit: '3' is not of type int"),
        ({"name": "a", "limit": True}, "data.package.options.limit: True is not of type int"),
        ({"name": "a", "words": ["a", 1]}, "data.package.options.words: ['a', 1] is not of type list[str]"),
        ({"name": "a", "limit": 0}, "data.package.options: limit: 0 is less than 1"),
        ({"name": "gone.txt"}, "convert() failed: FileNotFoundError"),
    ],
)
def test_options_that_a_converter_does_not_take_are_named(tmp_path, options, words):
    with pytest.raises(GradusError, match=re.escape(words)):
        convert(write(tmp_path, CONVERTER), tmp_path, options)


@pytest.mark.parametrize("given", ["None", "'rows'", "[1]", "{}"])
def test_a_converter_that_gives_no_rows_says_so(tmp_path, given):
    with pytest.raises(GradusError, match=r"convert\(\) returned no rows; it must return a list of dicts"):
        convert(write(tmp_path, f"def convert(folder, options):\n    return {given}\n"), tmp_path, {})


def check(tmp_path, data):
    file = tmp_path / "config.yaml"
    file.write_text(
        f"run: r\nbase_model:\n  source: path:{tmp_path}\ndata:\n{textwrap.indent(textwrap.dedent(data), '  ')}"
    )
    config = check_config(yaml.safe_load(file.read_text()), [file])
    check_files(config, [file])


PACKAGE = "package:\n  source: pypi:awscli==1.0\n  sha256: ''\n  converter: "


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        ("files: []\ntask: clasify\n", 6, "data.task: no task 'clasify'; did you mean classify?"),
        ("files: [%s]\ntask: %s/gone.py\n", 6, "gone.py: no such file"),
        ("files: [%s]\ntask: %s/empty.py\n", 6, "empty.py defines no TASK or METRICS or BATCH; see docs/data.md"),
        ("files: [%s]\ntask: %s/broken.py\n", 6, "broken.py:1: not valid Python"),
        ("files: [%s]\ntask: %s/base.py\n", 6, "BASE: no task 'qaa'; did you mean qa?"),
        ("package:\n  source: pypi:awscli==1.0\n  sha256: ''\n", None, "data.package.converter: required if data.package.source"),
        (PACKAGE + "awscl\n", 8, "no converter 'awscl'; did you mean awscli?"),
        (PACKAGE + "%s/empty.py\n", 8, "empty.py defines no convert"),
        (PACKAGE + "%s/gone.py\n", 8, "gone.py: no such file"),
        (PACKAGE + "awscli\n  options: {servces: []}\n", 9, "data.package.options.servces: no such option; did you mean services?"),
        (PACKAGE + "awscli\n  options:\n    answer: both\n", 10, "'both' is not of type Literal['command', 'service']"),
        (PACKAGE + "usaddress\n  options: {files: labeled}\n", 9, "'labeled' is not of type list[str]"),
    ],
)  # fmt: skip
def test_the_config_is_checked_against_them_at_start(tmp_path, data, line, words):
    (tmp_path / "rows.jsonl").touch()
    write(tmp_path, "x = 1\n", "empty.py")
    write(tmp_path, "METRICS = {\n", "broken.py")
    write(tmp_path, "METRICS = {}\nBASE = 'qaa'\n", "base.py")
    with pytest.raises(GradusError) as fault:
        check(tmp_path, data.replace("%s/", f"{tmp_path}/").replace("%s", f"{tmp_path}/rows.jsonl"))
    assert words in str(fault.value)
    assert line is None or f"config.yaml:{line}:" in str(fault.value)


@pytest.mark.parametrize(
    ("task", "headline", "words"),
    [
        ("qa", "rouge", "evaluate.headline: task qa has no metric 'rouge' of a row; did you mean rouge_l?"),
        ("classify", "macro_f1", "evaluate.headline: task classify has no metric 'macro_f1' of a row; known: accuracy"),
        ("my_task.py", "short", "evaluate.headline: set HEADLINE in my_task.py instead"),
    ],
)
def test_a_headline_that_no_row_has_is_refused_at_start(tmp_path, monkeypatch, task, headline, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, HOOKS)
    given = {"data": {"task": task, "package": {"source": None}, "files": []}, "evaluate": {"headline": headline}}
    given["preference"] = {"metric": None}
    faults = [".".join(path) + f": {wrong}" for path, wrong in check_code(given)]
    assert faults == [words]
    given["evaluate"]["headline"] = None
    assert not list(check_code(given))


def test_another_headline_is_taken():
    assert load_task("qa", "rouge_l").headline == "rouge_l"
    assert load_task("qa").headline == "exact"


def test_good_ones_pass(tmp_path):
    file, converter = write(tmp_path, HOOKS), write(tmp_path, CONVERTER, "my_converter.py")
    check(
        tmp_path,
        f"task: {file}\npackage: {{source: 'pypi:a==1', sha256: '', converter: {converter}, options: {{name: a, limit: 1}}}}\n",
    )


def test_the_example_of_the_docs_works(tmp_path):
    page = (ROOT / "docs" / "data.md").read_text()
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL)
    task, converter = (write(tmp_path, text, name) for name, text in blocks)
    (tmp_path / "rows.tsv").write_text("Wie geht es?\tHow are you?\nNein\tNo\n")
    rows, left_out, _ = convert(converter, tmp_path, {"file": "rows.tsv"})
    assert rows[0] == {"prompt": "Wie geht es?", "response": "How are you?", "source": "rows.tsv#1"}
    check = load_check(task)
    assert check(Record("a", "b " * 99, "my_task"), None)
    record = Record(**rows[0], task="my_task")
    assert check(record, None) is None
    table = grade([record], [{"id": record.id, "text": "How are you", "stopped": True}], load_task(task))[1]
    assert set(table) >= {"ratio", "exact"}
    assert 0.9 < table["ratio"]["value"] < 1
