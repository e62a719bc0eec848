"""What a finished run tells other viewers, of plain data: no run, no weights, none of the viewers' packages."""

import importlib.util
import json

import pytest
import yaml

from scripts.common.chat import ChatContract, write_contract
from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file, sha256_folder
from scripts.common.io import read_json, read_jsonl, write_json, write_jsonl
from scripts.common.records import Record
from scripts.viewers import vllm
from scripts.viewers.finished import Finished
from scripts.viewers.lm_eval_task import write_task

MODELS = {
    "base": {},
    "few-shot": {"examples": {"count": 2, "choose": "nearest"}},
    "curt": {"system_prompt": "One word."},
    "nearest": {"nearest": {}},
    "tuned": {"trained": {"arm": "curriculum", "seed": 1}},
}
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)
EXAMPLES = 1  # that fitted into the prompt, of those that few-shot wants
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def finish(folder, test, task="qa", schema=None):
    """Write a finished run in which every model has answered `test`; return its folder."""
    run = folder / "results/demo"
    train = [Record("Two plus two?", "4", task, id="t1"), Record("Capital of Peru?", "Lima", task, id="t2")]
    write_jsonl(run / "curriculum/train.jsonl", [record.to_json() for record in train])
    write_jsonl(run / "curriculum/test.jsonl", [record.to_json() for record in test])
    write_jsonl(run / "contenders/neighbors/test.jsonl", [{"id": row.id, "neighbors": ["t2", "t1"]} for row in test])
    write_contract(run / "data/chat_contract.json", ChatContract("Be {{ brief }}.", TEMPLATE, "<end>", 2, "<pad>", 0))
    write_json(run / "comparison.json", {"headline": "exact"})
    write_json(run / "evaluate/few-shot/examples.json", {"count": 2, "choose": "nearest"})
    for name in MODELS:
        form = "nearest" if name == "nearest" else "Q8_0"
        place = run / "evaluate" / name / form
        rows = [{"id": row.id, "text": "Lima", "stopped": True, "prompt_tokens": None, "tokens": None} for row in test]
        if name == "few-shot":
            rows = [{**row, "examples": EXAMPLES} for row in rows]
        write_jsonl(place / "test.answers.jsonl", rows)
        write_jsonl(place / "test.grades.jsonl", [{"id": row.id, "exact": 0.0} for row in test])
        write_json(place / "test.metrics.json", {"exact": {"value": 0.0, "n": len(test)}})
        write_json(place / "test.speed.json", {})
    files = [file for file in run.rglob("*") if file.is_file()]
    sources = {schema: {"sha256": sha256_file(schema)}} if schema else {}
    manifest = {
        "run": "demo",
        "config": {
            "models": MODELS,
            "contenders": False,
            "data": {"task": task, "schema": schema},
            "curriculum": {"levels": ["easy", "hard"]},
            "evaluate": {"splits": ["test"], "max_rows": {"test": 9}, "max_tokens": 8},
        },
        "artifacts": {file.relative_to(folder).as_posix(): {"sha256": sha256_file(file)} for file in files},
        "sources": sources,
    }
    write_json(run / "manifest.json", manifest)
    return run


ONE = [Record("Capital of Chile?", "Santiago", "qa", difficulty=1)]


def test_a_viewer_sees_what_each_model_was_asked(tmp_path):
    asked = {given.model.name: given.asked[0] for given in Finished(finish(tmp_path, ONE)).answered()}
    assert set(asked) == set(MODELS)
    texts = {name: [turn["content"] for turn in conversation] for name, conversation in asked.items()}
    assert texts["base"] == texts["tuned"] == ["Be {{ brief }}.", "Capital of Chile?"]
    assert texts["few-shot"] == ["Be {{ brief }}.", "Capital of Peru?", "Lima", "Capital of Chile?"]
    assert texts["curt"] == ["One word.", "Capital of Chile?"]
    assert texts["nearest"] == ["Capital of Chile?"]  # it reads no system prompt


def test_an_edited_file_is_named(tmp_path):
    run = finish(tmp_path, ONE)
    assert Finished(run).level(ONE[0]) == "hard"
    write_jsonl(run / "evaluate/base/Q8_0/test.grades.jsonl", [{"id": ONE[0].id, "exact": 1.0}])
    with pytest.raises(GradusError, match=r"base/Q8_0/test\.grades\.jsonl: not as in .*manifest\.json; finish the run"):
        list(Finished(run).answered())


@pytest.mark.parametrize(
    "name",
    [
        "comparison.json",
        "data/chat_contract.json",
        "evaluate/tuned/Q8_0/test.speed.json",
        "contenders/neighbors/test.jsonl",
        "curriculum/train.jsonl",
        "evaluate/few-shot/examples.json",
    ],
)
def test_every_file_that_a_log_is_made_of_is_as_in_the_manifest(tmp_path, monkeypatch, name):
    count = [1, 2] if name.endswith("examples.json") else 2  # of two, the validation rows choose
    monkeypatch.setitem(MODELS, "few-shot", {"examples": {"count": count, "choose": "nearest"}})
    run = finish(tmp_path, ONE)
    assert list(Finished(run).answered())
    with (run / name).open("a") as file:
        file.write("\n")
    with pytest.raises(GradusError, match=f"{name}: not as in"):
        list(Finished(run).answered())


def test_a_schema_is_as_in_the_manifest(tmp_path):
    schema = tmp_path / "own.schema.json"
    write_json(schema, {"type": "object", "properties": {"city": {"type": "string"}}})
    run = finish(tmp_path, [Record("Lima, Peru", '{"city": "Lima"}', "extract")], "extract", str(schema))
    place, _ = write_task(Finished(run))
    assert json.loads((place / "task.json").read_text())["schema"]["properties"] == {"city": {"type": "string"}}
    write_json(schema, {"type": "object"})
    with pytest.raises(GradusError, match=r"own\.schema\.json: not as in"):
        write_task(Finished(run))


def test_without_rows_there_is_no_task(tmp_path):
    run = finish(tmp_path, [])
    with pytest.raises(GradusError, match=r"no held-out row was asked \(splits: test\)"):
        write_task(Finished(run))
    assert not (run / "viewers/lm-eval").exists()


def fields_of(path):
    """A task's fields; functions as their names."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: node.value)
    return yaml.load(path.read_text(), Loader)


def test_a_task_names_fields_and_puts_no_text_into_templates(tmp_path):
    """The harness runs Jinja over what is no field's name."""
    place, tasks = write_task(Finished(finish(tmp_path, ONE)))
    assert tasks == ["demo_test", "demo_test_rendered"]
    row = next(read_jsonl(place / "demo_test.jsonl"))
    by_messages, rendered = (fields_of(place / f"{task}.yaml") for task in tasks)
    assert (row[by_messages["description"]], row[by_messages["doc_to_text"]]) == ("Be {{ brief }}.", ONE[0].prompt)
    assert row[rendered["doc_to_text"]] == "<system>Be {{ brief }}.<user>Capital of Chile?<answer>"
    assert rendered["description"] == ""
    assert by_messages["generation_kwargs"]["until"] == ["<end>"]
    assert by_messages["custom_dataset"] == "utils.rows"
    readme = (place / "README.md").read_text()
    assert "`rouge_l`, `similarity`. Each is the mean" in readme
    assert "Not graded: `stopped`" in readme


def test_rows_with_earlier_turns_are_only_asked_as_the_run_asked_them(tmp_path):
    """The harness has no place for them among its messages."""
    place, tasks = write_task(Finished(finish(tmp_path, [*ONE, Record("And of Peru?", "Lima", "qa", context=TURNS)])))
    assert tasks == ["demo_test_rendered"]
    assert not (place / "demo_test.yaml").exists()
    assert any(
        "<user>Hi<assistant>Hello<user>And of Peru?" in row["rendered"] for row in read_jsonl(place / "demo_test.jsonl")
    )
    assert "--apply_chat_template\n" not in (place / "README.md").read_text().partition("| task")[0]


def load(place):
    """The functions of a task folder, as the harness loads them."""
    spec = importlib.util.spec_from_file_location("utils_of_a_task", place / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_answers_are_graded_by_the_projects_metrics(tmp_path):
    place, _ = write_task(Finished(finish(tmp_path, [Record("Which linter?", "ruff", "classify")], "classify")))
    doc, utils = next(read_jsonl(place / "demo_test.jsonl")), load(place)
    assert json.loads((place / "task.json").read_text())["labels"] == ["4", "Lima"]
    assert utils.grade(doc, [" ruff\n"]) == {"text_exact": 1, "accuracy": 1, "accuracy_normalized": 1}
    assert "`macro_f1`, which needs all rows at once" in (place / "README.md").read_text()
    assert utils.grade(doc, ["black"]) == {"text_exact": 0, "accuracy": 0, "accuracy_normalized": 0}


def test_without_the_project_only_equal_texts_are_graded(tmp_path, monkeypatch, caplog):
    place, _ = write_task(Finished(finish(tmp_path, ONE)))
    doc, utils = next(read_jsonl(place / "demo_test.jsonl")), load(place)
    monkeypatch.setitem(__import__("sys").modules, "scripts.tasks.table", None)
    assert utils.grade(doc, ["Santiago"]) == {"text_exact": 1}
    assert "only text_exact is graded" in caplog.text


# --- vLLM: what is made of its answers


SANTIAGO = '{"city": "Santiago"}'
TWO = [
    Record("Capital of Chile?", SANTIAGO, "extract", id="c1", difficulty=1),
    Record("Capital of Peru?", '{"city": "Lima"}', "extract", id="p1"),
]


def answered(*texts):
    """What ask_vllm.py finds, for prompts as in training."""
    return {
        "version": "0.1",
        "answers": [{"prompt": "…", "as_trained": True, "text": text, "stopped": text != "Li"} for text in texts],
    }


def finished_to_serve(tmp_path):
    """A finished run whose config says which model is in its folder."""
    folder = finish(tmp_path, TWO, "extract")
    manifest = read_json(folder / "manifest.json")
    manifest["config"].update(serve="tuned", export={"quant": "Q8_0"})
    write_json(folder / "manifest.json", manifest)
    return folder


def test_vllms_answers_are_compared_and_graded_beside_the_evaluations(tmp_path):
    run = Finished(finished_to_serve(tmp_path))
    given = vllm.choose(run)
    found = vllm.compare(run, given, given.records, answered(SANTIAGO, "Lima"))
    assert found["compared_with"] == "tuned/Q8_0"  # no bf16 answers are kept
    assert (found["asked"], found["same_answers"], found["stopped"]) == (2, 1, 2)
    assert found["differing"] == [{"id": "c1", "vllm": SANTIAGO, "evaluated": "Lima"}]
    assert (found["metrics"]["vllm"]["exact"], found["metrics"]["evaluated"]["exact"]) == (0.5, 0)
    assert vllm.summary(found).startswith(
        "vLLM 0.1: 2 of 2 prompts as in training; 1 of 2 answers as tuned/Q8_0's in the evaluation; 2 ended by "
        "themselves; exact 0.500, in the evaluation 0.000"
    )
    assert vllm.compare(run, given, given.records[:1], answered("Li"))["stopped"] == 0


def test_a_prompt_of_vllms_that_is_not_as_in_training_is_shown(tmp_path):
    run = Finished(finished_to_serve(tmp_path))
    given, found = vllm.choose(run), answered(SANTIAGO, "Lima")
    found["answers"][1] |= {"as_trained": False, "prompt": "<user>Capital of Peru?"}
    with pytest.raises(
        GradusError, match=r"row p1 differently .*\n.*'<user>Capital.*\n.*<system>Be \{\{ brief"
    ) as error:
        vllm.compare(run, given, given.records, found)
    assert "Chile" not in str(error.value)


def test_without_vllm_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(vllm, "PYTHON", tmp_path / "python")
    with pytest.raises(GradusError, match="`make vllm` installs it"):
        vllm.ask({})


def test_a_checkpoint_that_changed_is_not_asked(tmp_path):
    folder = finished_to_serve(tmp_path)
    (folder / "hf").mkdir()
    (folder / "hf/config.json").write_text("{}")
    manifest = read_json(folder / "manifest.json")
    manifest["artifacts"]["results/demo/hf"] = {"sha256": sha256_folder(folder / "hf")}
    write_json(folder / "manifest.json", manifest)
    assert Finished(folder).intact("results/demo/hf") == folder / "hf"
    (folder / "hf/config.json").write_text("{ }")
    with pytest.raises(GradusError, match="hf: not as in"):
        vllm.check(Finished(folder), 1)
