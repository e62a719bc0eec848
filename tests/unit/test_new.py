"""`make new` looks at rows and writes a config that suits them, with a reason on every line; it overwrites nothing."""

import csv
import json
import os
import random
import re
import subprocess

import pytest
import yaml
from ruamel.yaml import YAML

from scripts.common.difficulty import divide
from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.records import Record
from scripts.common.speed import FP32_SPEED
from scripts.config.check import check_config, check_files
from scripts.config.reading import read_config
from scripts.config.schema import default, load_schema
from scripts.curriculum.scorers import SCORERS, Known
from scripts.data.ingest import Ingest, Source
from scripts.new.__main__ import main, new, split_names
from scripts.new.budget import Machine, count_parameters, make_budget
from scripts.new.lengths import Lengths
from scripts.new.looks import look
from scripts.new.plan import choose_split
from scripts.new.write import Line, render

WORDS = [
    "river",
    "stone",
    "lamp",
    "quiet",
    "morning",
    "paper",
    "window",
    "engine",
    "garden",
    "letter",
    "number",
    "signal",
]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """An empty folder to work in: no earlier runs, no fetched base."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text(number):
    """A sentence of its own, of 3 to 14 words."""
    draw = random.Random(number)
    return f"{number}: {' '.join(draw.choices(WORDS, k=3 + number % 12))}"


def write_rows(rows, name="rows.jsonl"):
    with open(name, "w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
    return name


def write_csv(header, rows, name="rows.csv"):
    with open(name, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return name


def config_of(rows, run="my-task", **options):
    path, report = new([rows], run, **options)
    return yaml.safe_load(path.read_text(encoding="utf-8")), report


def qa(count=200, **more):
    return [{"prompt": text(n), "response": f"It is {text(n + 5000)}", **more} for n in range(count)]


def linter_rules():
    """590 short descriptions of rules, of ten linters, as people write them."""
    linters = [f"linter-{letter}" for letter in "abcdefghij"]
    rows = []
    for n in range(590):
        draw = random.Random(n)
        body = " ".join(draw.choices(WORDS, k=draw.randint(4, 22)))
        why = " Say why." if n % 50 == 0 else ""
        rows.append({"text": f"Rule {n}: checks that {body}.{why}", "label": linters[n % 10]})
    return rows


@pytest.mark.parametrize(
    ("task", "rows", "prompt"),
    [
        ("qa", qa(), "You answer questions."),
        (
            "classify",
            [{"prompt": text(n), "response": ["spam", "ham", "eggs"][n % 3]} for n in range(200)],
            "Name the label that fits the text, one of: eggs, ham, spam.",
        ),
        (
            "extract",
            [{"input": text(n), "output": {"name": text(n), **({"age": n} if n % 2 else {})}} for n in range(200)],
            "Turn the text into one JSON object with the key name, and where the text has them, age.",
        ),
        (
            "command",
            [{"prompt": text(n), "response": f"aws s3 ls s3://bucket-{n}"} for n in range(200)],
            "You turn a request into one AWS CLI command.",
        ),
    ],
)
def test_the_task_is_told_from_the_answers(task, rows, prompt):
    config, _ = config_of(write_rows(rows))
    assert config["data"]["task"] == task
    assert config["chat"]["system_prompt"] == prompt
    assert "columns" not in config["data"]
    assert config["run"] == "my-task"


def test_columns_with_other_names_are_mapped_and_the_rest_is_dropped():
    rows = [[f"T-{n}", f"customer {n % 30}", text(n), f"It is {text(n + 900)}"] for n in range(300)]
    config, report = config_of(write_csv(["ticket no", "Customer ID", "Question", "Answer"], rows))
    assert config["data"]["columns"] == {"prompt": "Question", "response": "Answer", "group": "Customer ID"}
    assert config["data"]["ignore_fields"] == ["ticket no"]
    assert "Question → prompt" in report
    assert "groups      30;" in report


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("text", "label"), {"prompt": "text", "response": "label"}),
        (("query", "response"), {"prompt": "query"}),
        (("input", "target"), {"prompt": "input", "response": "target"}),
        (("input", "output"), {"prompt": "input", "response": "output"}),  # texts: not the shape with JSON objects
        (("instruction", "output"), None),  # a shape of its own
    ],
)
def test_usual_names_need_no_help(names, columns):
    rows = [dict(zip(names, (text(n), f"It is {text(n + 900)}"), strict=True)) for n in range(120)]
    config, _ = config_of(write_rows(rows))
    assert config["data"].get("columns") == columns


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("prompt", "chosen", "rejected"), None),
        (("question", "chosen", "rejected"), {"prompt": "question"}),
        (("Input", "chosen_response", "Rejected response"),
         {"prompt": "Input", "chosen": "chosen_response", "rejected": "Rejected response"}),
        (("prompt", "response", "rejected"), None),
        (("query", "answer", "rejected_answer"), {"prompt": "query", "response": "answer", "rejected": "rejected_answer"}),
    ],
)  # fmt: skip
def test_rejected_answers_are_found_and_told(names, columns):
    rows = [dict(zip(names, (text(n), f"It is {text(n + 900)}", f"no {n}"), strict=True)) for n in range(120)]
    config, report = config_of(write_rows(rows))
    assert config["data"].get("columns") == columns
    assert "rejected    120 rows have rejected answers, for preference tuning (docs/preference.md)" in report
    assert "ignore_fields" not in config["data"]
    path = "config/runs/my-task.yaml"
    check_files(check_config(read_config(path), [path]), [path])


def test_pairs_of_conversations_need_no_column_with_a_prompt():
    """As UltraFeedback has them: the chosen conversation twice, and scores."""
    rows = []
    for n in range(120):
        asked = {"role": "user", "content": text(n)}
        chosen, rejected = ([asked, {"role": "assistant", "content": f"{word} {n}"}] for word in ("It is", "no"))
        rows.append({"title": f"t{n}", "chosen": chosen, "rejected": rejected, "messages": chosen, "score_chosen": 8.5})
    config, report = config_of(write_rows(rows))
    assert "shape preference" in report and "120 rows have rejected answers" in report
    assert "columns" not in config["data"]
    assert config["data"]["ignore_fields"] == ["messages", "score_chosen", "title"]


def test_a_column_rejected_that_holds_no_answers_is_dropped_and_the_run_reads_the_rows():
    rows = [{"text": text(n), "label": ["yes", "no"][n % 2], "rejected": n % 3 == 0} for n in range(120)]
    config, report = config_of(write_rows(rows))
    assert "column rejected is not used: not a text" in report
    assert "rows have rejected answers" not in report
    data = config["data"]
    ingest = Ingest([Source("rows.jsonl")], "classify", "auto", 0, default("curriculum.levels"),
                    ignore_fields=data["ignore_fields"], columns=data["columns"])  # fmt: skip
    assert len(list(ingest.records())) == 120


def test_objects_under_another_name_are_extracted():
    config, _ = config_of(write_rows([{"text": text(n), "json": {"a": n, "b": text(n)}} for n in range(120)]))
    assert config["data"]["columns"] == {"input": "text", "output": "json"}
    assert config["data"]["task"] == "extract"


def test_columns_can_be_named():
    rows = write_csv(["eins", "zwei"], [[text(n), f"It is {text(n + 900)}"] for n in range(120)])
    with pytest.raises(GradusError, match="no column looks like a prompt or a response; columns: eins, zwei") as fault:
        new([rows], "my-task")
    assert str(fault.value).startswith("rows.csv:1: ")  # where the columns have their names
    whole = ".venv/bin/python -m scripts.new --run=my-task rows.csv --prompt=COLUMN --response=COLUMN"
    assert str(fault.value).endswith(f"Put its name for COLUMN: {whole}")
    with pytest.raises(GradusError, match="no column looks like a response; ") as fault:
        new([rows], "my-task", minutes=20, prompt="eins")
    given = "--run=my-task --minutes=20 --prompt=eins rows.csv --response=COLUMN"
    assert str(fault.value).endswith(given)
    config, _ = config_of(rows, prompt="eins", response="zwei")
    assert config["data"]["columns"] == {"prompt": "eins", "response": "zwei"}


def test_a_scorer_is_proposed_that_divides_what_the_rules_do_not():
    rows = linter_rules()
    records = look([write_rows(rows)]).records
    points = SCORERS["rules"](records, Known(rules=default("score.rules")))
    assert sum(point < 1 for point in points) >= 0.97 * len(records)  # the default would train three phases of the same
    config, report = config_of("rows.jsonl")
    assert config["score"]["weights"] == {"length": 1}
    assert config["score"]["quantiles"] == [0.3, 0.8]
    shares = divide(SCORERS["length"](records, Known()), config["score"]["quantiles"])
    assert shares == pytest.approx([0.3, 0.5, 0.2], abs=0.05)
    assert [phase["levels"] for phase in config["curriculum"]["phases"]] == [
        ["easy"],
        ["easy", "medium"],
        ["easy", "medium", "hard"],
    ]
    assert "rules 98/0/2" in report


def test_checks_decide_where_rows_have_them():
    rows = [{**row, "checks": [f"c{k}" for k in range(n % 20)]} for n, row in enumerate(qa())]
    config, _ = config_of(write_rows(rows))
    assert config["score"]["weights"] == {"length": 0, "facts": 1}


def test_difficulty_that_rows_bring_is_kept():
    config, report = config_of(write_rows([{**row, "difficulty": n % 2} for n, row in enumerate(qa())]))
    assert "score" not in config
    assert [phase["name"] for phase in config["curriculum"]["phases"]] == ["easy", "medium"]  # none is hard
    assert "given in the rows: easy 50%" in report


def test_rows_that_nothing_divides_are_one_phase():
    rows = [{"prompt": f"code {n:04}", "response": ["ab", "cd"][n % 2]} for n in range(200)]
    config, report = config_of(write_rows(rows))
    assert "score" not in config
    assert len(config["curriculum"]["phases"]) == 1
    assert config["curriculum"]["phases"][0]["levels"] == ["easy", "medium", "hard"]
    assert "no scorer separates these rows" in report


@pytest.mark.parametrize("rows", [qa(), linter_rules(), [{"input": text(n), "output": {"a": n}} for n in range(120)]])
def test_the_config_passes_the_check(rows):
    path, _ = new([write_rows(rows)], "my-task")
    config = read_config(path)
    if "columns" not in load_schema()["properties"]["data"]["properties"]:  # until the schema has it
        config["data"].pop("columns", None)
    checked = check_config(config, [path])
    check_files(checked, [path])
    assert checked["base_model"]["name"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_every_line_says_why():
    rows = [
        {"text": text(n), "label": f"a rather long label, number {n % 25}", "customer": f"c{n % 8}", "x": "y"}
        for n in range(300)
    ]
    path, _ = new([write_rows(rows)], "my-task", minutes=0.5)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 120
    explained = False
    for line in lines:
        if re.match(r"\s*(- )?[\w{]", line) and ":" in line and not line.startswith("    label"):
            continued = re.match(r"\s{4}(?!-)", line)
            assert explained or " # " in line or continued, line
        explained = line.lstrip().startswith("#")


def test_comments_stay_when_a_program_changes_the_file():
    path, _ = new([write_rows(linter_rules())], "my-task")
    written = path.read_text(encoding="utf-8")
    editor = YAML()
    editor.width = 110
    editor.indent(mapping=2, sequence=4, offset=2)
    config = editor.load(written)
    config["train"]["batch_size"] = 4
    with open("changed.yaml", "w", encoding="utf-8") as handle:
        editor.dump(config, handle)
    with open("changed.yaml", encoding="utf-8") as handle:
        assert handle.read() == re.sub(r"batch_size: \d+", "batch_size: 4", written)


def test_nothing_is_overwritten():
    rows = write_rows(qa())
    path, _ = new([rows], "my-task")
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(GradusError, match=r"config/runs/my-task.yaml: already exists; nothing was changed"):
        new([rows], "my-task")
    assert path.read_text(encoding="utf-8") == "mine"
    assert [file.name for file in path.parent.iterdir()] == ["my-task.yaml"]


def test_a_run_that_there_is_keeps_its_name(project):
    (project / "config").mkdir()
    (project / "config" / "config.yaml").write_text("run: taken # a comment\n", encoding="utf-8")
    (project / "results" / "done").mkdir(parents=True)
    rows = write_rows(qa())
    for run, message in (
        ("taken", "taken is already used by config/config.yaml"),
        ("done", "results/done already has"),
        ("../up", "is not a valid name"),
        ("", "no RUN given; write: make new ROWS=rows.jsonl RUN=my-task"),
    ):
        with pytest.raises(GradusError, match=message):
            new([rows], run)
    assert not (project / "config" / "runs").exists()


def test_the_same_rows_give_the_same_bytes():
    rows = write_rows(linter_rules())
    path, report = new([rows], "my-task")
    first = path.read_bytes()
    path.unlink()
    path, again = new([rows], "my-task")
    assert path.read_bytes() == first
    assert re.sub(r"[\d.]+ GiB of memory are free", "", again) == re.sub(r"[\d.]+ GiB of memory are free", "", report)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "gone.csv: no such file"),
        ("empty.jsonl", b"", "empty.jsonl: is empty"),
        ("head.csv", b"prompt,response\n", "head.csv: contains no rows"),
        ("rows.xlsx", b"PK", "its extension is not one of"),
        ("junk.jsonl", os.urandom(4000) + b"\n", "junk.jsonl: none of its .* rows can be read; line 1: not "),
        ("junk.csv", b"a,b\n\xff\xfe\x00,1\n", "junk.csv: none of its .* rows can be read; line 2: not "),
        ("junk.parquet", b"PAR1" + bytes(500), "junk.parquet: not a Parquet file"),
        ("semi.csv", b"prompt;response\n" + b"a;b\n" * 200, "semi.csv:1: seems to be separated by `;`; save it"),
        ("bars.csv", b"prompt|response\n" + b"a|b\n" * 200, "bars.csv:1: seems to be separated by `.`; save it"),
        ("x{y}.jsonl", b'{"prompt": "a", "response": "b"}\n', "braces.*; rename it"),
        (
            "same.jsonl",
            b"".join(b'{"prompt": "%d", "response": "yes"}\n' % n for n in range(150)),
            "all 150 answers are the same, 'yes'; there is nothing to learn",
        ),
        (
            "few.jsonl",
            b"".join(b'{"prompt": "%d", "response": "%d"}\n' % (n, n) for n in range(30)),
            "only 30 rows can be used; .* fewer than 100. .* --run=my-task few.jsonl --allow-few",
        ),
        (
            "mixed.jsonl",
            b'{"prompt": "a", "response": "b"}\n{"instruction": "a", "output": "b"}\n' * 100,
            "mixed.jsonl:1: rows of different shapes",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_an_error_for_people(name, content, message, project):
    if content is not None:
        (project / name).write_bytes(content)
    with pytest.raises(GradusError, match=message):
        new([name], "my-task")
    assert not (project / "config").exists()


def test_rows_outside_the_project_are_refused(project, monkeypatch):
    write_rows(qa())
    (project / "inner").mkdir()
    monkeypatch.chdir(project / "inner")
    with pytest.raises(GradusError, match="outside the project's folder"):
        new(["../rows.jsonl"], "my-task")


def test_a_folder_of_rows_is_refused(project):
    (project / "rows").mkdir()
    with pytest.raises(GradusError, match="rows: is a folder; name a file"):
        new(["rows"], "my-task")


def test_few_rows_go_on_if_asked_for():
    config, _ = config_of(write_rows(qa(40)), allow_few=True)
    assert config["data"]["allow_few"] is True


def test_faulty_rows_are_counted_and_shown():
    rows = [*qa(), {"prompt": "", "response": "x"}, {"prompt": "y"}, {"prompt": "z", "response": 3}]
    _, report = config_of(write_rows(rows))
    assert "200 of 203 can be used" in report
    assert "rows that cannot be used: 3; too many, the run would stop" in report
    assert "rows.jsonl:201: prompt: empty" in report
    assert "rows.jsonl:203: response: not a text" in report


def test_what_to_look_at_is_named():
    rows = [{"text": text(n), "label": ["Yes", "no"][n % 2]} for n in range(200)]
    rows += [{"text": text(0), "label": "Yes"}, {"text": text(0), "label": "no"}, {"text": text(1), "label": "yes"}]
    _, report = config_of(write_rows([{"id": f"doc{n // 10}-{n}", **row} for n, row in enumerate(rows)]))
    assert "labels that differ only in case: 'Yes', 'yes'" in report
    assert "exact duplicates of other rows: 1;" in report
    assert "different answers: 2; the audit (step 2) lists them in results/my-task/data/contradictions.jsonl" in report
    assert "the values of id share 21 prefixes, such as 'doc0'" in report


def test_answers_that_are_mostly_objects_are_named():
    rows = [{"prompt": text(n), "response": json.dumps({"a": n}) if n % 20 else f"none, {n}"} for n in range(200)]
    config, report = config_of(write_rows(rows))
    assert config["data"]["task"] == "qa"
    assert "answers that are JSON objects: 190 of 200;" in report
    assert "'none, 0'" in report


def test_several_files_are_one_set_of_rows():
    one = write_rows([{"question": text(n), "answer": text(n + 700)} for n in range(100)], "one.jsonl")
    two = write_csv(["question", "answer"], [[text(n), text(n + 700)] for n in range(100, 200)], "two.csv")
    path, report = new([one, two], "my-task")
    assert yaml.safe_load(path.read_text())["data"]["files"] == ["one.jsonl", "two.csv"]
    assert "200 of 200 can be used" in report
    other = write_rows([{"text": text(n), "label": text(n + 700)} for n in range(100)], "other.jsonl")
    with pytest.raises(GradusError, match="other.jsonl: its columns .* differ from those of one.jsonl"):
        new([one, other], "another")


def test_whole_groups_are_held_out_where_there_are_enough():
    many = [{**row, "group": f"page {n % 40}"} for n, row in enumerate(qa(400))]
    config, report = config_of(write_rows(many))
    assert config["split"] == {"test_share": 0.2}
    assert "eval-unseen" in report
    config, report = config_of(write_rows([{**row, "group": f"page {n % 6}"} for n, row in enumerate(qa(400))]), "few")
    assert config["split"] == {"by": "row", "unseen_share": 0, "test_share": 0.2}
    assert config["evaluate"]["splits"] == ["test", "eval-hard"]


def conversations(system, count=120):
    roles = ("system", "user", "assistant")
    return [
        {
            "messages": [
                {"role": role, "content": content}
                for role, content in zip(roles, (system, text(n), text(n + 600)), strict=True)
            ]
        }
        for n in range(count)
    ]


def test_the_system_turn_of_conversations_is_kept():
    config, report = config_of(write_rows([*conversations("Be brief."), {"group": "a row without a conversation"}]))
    assert config["chat"]["system_prompt"] == "Be brief."
    assert "rows.jsonl:121: messages: missing" in report


def test_a_system_turn_of_several_lines_keeps_them():
    prompt = "You answer questions.\n\nRules:\n- be  brief\n- name the file: #1"
    config, _ = config_of(write_rows(conversations(prompt)))
    assert config["chat"]["system_prompt"] == prompt


def test_rows_of_which_none_is_held_out_are_refused():
    """evaluate.splits would be empty, which the check of the config refuses."""
    with pytest.raises(GradusError, match=r"no row would be held out .*\(train 200\)\. Every row brings its split"):
        new([write_rows(qa(split="train"))], "my-task")


def test_held_out_rows_that_training_rows_ask_too_are_foreseen():
    draw = random.Random(1)

    def words(count):  # all different, so that texts share what is copied and nothing else
        return " ".join(f"{draw.getrandbits(48):012x}" for _ in range(count))

    bodies = [words(30) for _ in range(4)]
    alike = [{"prompt": f"{bodies[n % 4]} {words(8)}", "response": text(n)} for n in range(200)]
    with pytest.raises(GradusError, match="no row would be held out .* Training rows ask nearly what all"):
        new([write_rows(alike)], "my-task")
    config, report = config_of(write_rows([*alike, *qa()]))
    assert config["decontaminate"] == {"found": "leave-out"}
    assert "held-out rows that are nearly the same as training rows" in report
    config, _ = config_of(write_rows(qa()), "clean")
    assert "decontaminate" not in config


def test_of_many_rows_a_small_share_is_held_out():
    records = [Record(f"question {n}", f"answer {n}", "qa") for n in range(50_000)]
    split = {key: value for key, (value, _) in choose_split(records).items()}
    assert split == {"valid_share": 0.01, "test_share": 0.02}
    assert not choose_split(records[:5_000])


SOURCE = "path:base"


def make_tokenizer(folder):
    """A tokenizer of single bytes, as prepare_tokenizer would leave one, in an earlier run on the base."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True)
    special = ["<pad>", "<end>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(special + letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<end>", "pad_token": "<pad>"}', encoding="utf-8")
    template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def test_an_earlier_run_gives_tokenizer_and_speed(project, monkeypatch):
    monkeypatch.setattr("scripts.new.__main__.find_base", lambda name: {"source": SOURCE})
    run = project / "results" / "old"
    make_tokenizer(run / "tokenizer")
    (run / "config.yaml").write_text(f"base_model: {{source: '{SOURCE}'}}", encoding="utf-8")
    (run / "train" / "easy").mkdir(parents=True)
    (run / "train" / "easy" / "summary.json").write_text('{"tokens_per_s": 321.4}', encoding="utf-8")
    rows = qa()
    config, report = config_of(write_rows(rows))
    longest = max(len(f"You answer questions.\n{r['prompt']}\n{r['response']}") + 1 for r in rows)
    assert f"{longest} at most in a row" in report
    assert longest < config["train"]["max_length"] <= 1.25 * longest + 64
    answer = max(len(row["response"]) + 1 for row in rows)
    assert answer < config["evaluate"]["max_tokens"] <= 1.25 * answer + 6
    assert "321 training tokens/s, measured in results/old" in report


def test_without_the_base_lengths_are_estimated_and_said_to_be():
    path, report = new([write_rows(qa())], "my-task")
    assert "estimated from characters" in report
    assert "estimated from characters" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("base", "parameters"),
    [
        ({"alias": "smollm2-135m", "source": "pypi:x==1"}, 135e6),
        ({"alias": "small", "name": "Qwen/Qwen2.5-0.5B-Instruct", "source": "pypi:x==1"}, 0.5e9),
        ({"alias": "mine", "source": "path:base"}, 0),
    ],
)
def test_parameters_are_told_by_the_name(base, parameters):
    assert count_parameters(base) == parameters


def budget(count, minutes=60.0, measured=600.0, bf16=True):
    places = ["train" if n % 5 else "test" for n in range(count)]
    levels = [n % 3 for n in range(count)]
    lengths = Lengths([(90, 10)] * count, exact=True)
    return make_budget(
        places, levels, [[0], [0, 1], [0, 1, 2]], lengths, 16, 135e6, Machine(2, measured, bf16=bf16), minutes
    )


def test_few_rows_are_seen_more_often_and_many_only_in_part():
    few, middle, many = budget(300), budget(3000), budget(60_000)
    assert few.epochs == 3
    assert few.batch_size == 8
    assert (middle.epochs, middle.rows) == (1, [None] * 3)
    assert middle.batch_size == 16
    assert middle.tokens == 100 * (800 + 1600 + 2400)  # of 3,000 rows 2,400 are trained
    assert many.training_minutes == pytest.approx(60, rel=0.01)
    assert many.rows[2] == pytest.approx(3 * many.rows[0], rel=0.01)
    assert budget(3000, measured=300).training_minutes == pytest.approx(2 * middle.training_minutes)


def test_a_cpu_without_bf16_is_expected_to_be_slower_and_to_need_more_memory():
    usual, old = (budget(3000, measured=None, bf16=bf16) for bf16 in (True, False))
    assert old.training_minutes == pytest.approx(usual.training_minutes / FP32_SPEED)
    assert old.memory_gib > usual.memory_gib + 1
    assert "in fp32, since this CPU has no instructions for bf16" in Machine(2, bf16=False).basis(135e6)
    assert budget(3000, bf16=False).training_minutes == budget(3000).training_minutes  # measured here


def test_a_comment_goes_above_a_line_that_is_too_long():
    assert render([Line("a.b", 1, "short")], {"a": "section"}, "head") == "# head\na: # section\n  b: 1 # short\n"
    written = render([Line("a", "long " * 15, "why " * 15)], {}, "head")
    assert written.startswith("# head\n# why why")


def test_words_that_yaml_reads_as_something_else_stay_words():
    rows = [{"yes": text(n), "12:30": f"It is {text(n + 700)}", "no": "x", "0x1f": "y"} for n in range(120)]
    config, _ = config_of(write_rows(rows), run="on", prompt="yes", response="12:30")
    assert config["run"] == "on"
    assert config["data"]["columns"] == {"prompt": "yes", "response": "12:30"}
    assert config["data"]["ignore_fields"] == ["0x1f", "no"]


def test_names_in_rows_are_told_apart(project):
    (project / "two words.csv").touch()
    assert split_names("two words.csv") == ["two words.csv"]
    assert split_names("a.csv 'b c.csv'") == ["a.csv", "b c.csv"]
    assert split_names("") == []
    with pytest.raises(GradusError, match="ROWS"):
        split_names("it's.csv")


def test_the_command_line_says_what_is_wrong_in_a_line(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--run=x", "--", ""])
    assert str(error.value) == "Gradus: no rows given; write: make new ROWS=docs/tickets.csv RUN=my-task"
    main(["--run=x", "--", write_rows(qa())])
    assert "Wrote config/runs/x.yaml. Next:" in capsys.readouterr().out


def test_make_passes_names_as_they_are(project):
    (project / "venv" / "bin").mkdir(parents=True)
    (project / "venv" / ".ready").touch()
    stub = project / "venv" / "bin" / "python"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    stub.chmod(0o755)
    command = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "new", f"VENV={project / 'venv'}"]
    rows = 'a b.csv; touch here `touch here` "$$(touch here)" \''
    (project / "envs").mkdir()
    for name in ("requirements.in", "requirements.lock"):
        (project / "envs" / name).touch()
    os.utime(project / "venv" / ".ready", (2**31, 2**31))
    done = subprocess.run([*command, f"ROWS={rows}", "RUN=x;y"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["-m", "scripts.new", "--run=x;y", "--", rows.replace("$$", "$")]
    assert not (project / "here").exists()


def test_the_walk_through_shows_what_the_command_does(project):
    """docs/your-data.md; but for what depends on the machine, or on whether the base has been fetched."""
    page = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
    (project / "docs").mkdir()
    (project / "docs" / "tickets.csv").write_bytes((ROOT / "docs" / "tickets.csv").read_bytes())
    path, report = new(["docs/tickets.csv"], "tickets")
    for line in [*report.splitlines(), *path.read_text(encoding="utf-8").splitlines()]:
        if not re.search(r"tokens|GiB|steps|threads|not been fetched yet", line):
            assert line in page


def test_free_text_is_led_by_a_metric_that_can_be_reached():
    """Long answers are never equal to the last letter; rows with checks say themselves what is right."""
    assert config_of(write_rows(qa()))[0]["evaluate"]["headline"] == "rouge_l"
    assert config_of(write_rows(qa(checks=["It"])), "checked")[0]["evaluate"]["headline"] == "pass"
    short = [{**row, "response": f"no. {n}"} for n, row in enumerate(qa())]
    assert "headline" not in config_of(write_rows(short), "short")[0]["evaluate"]
