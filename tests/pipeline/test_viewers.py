"""A finished run for other people's viewers: Inspect's logs and lm-evaluation-harness's tasks, read by those packages."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from scripts.common.chat import read_contract
from scripts.common.hashing import ROOT, sha256_file
from scripts.common.io import read_json, read_jsonl, write_jsonl
from scripts.common.records import read_records
from scripts.viewers import vllm

TOOLS = ROOT / ".venv" / "tools" / "bin"
HARNESS = ROOT / ".venv" / "lm-eval" / "bin" / "python"
needs_inspect = pytest.mark.skipif(not (TOOLS / "inspect").is_file(), reason="`make tools` installs inspect-ai")
needs_harness = pytest.mark.skipif(
    not HARNESS.is_file(), reason="lm-eval is not installed in .venv/lm-eval; docs/viewers.md has the command"
)
needs_vllm = pytest.mark.skipif(
    not vllm.PYTHON.is_file(), reason="vLLM is not installed in .venv/vllm; `make vllm` installs it"
)
READ = """
import json, sys
from inspect_ai.log import list_eval_logs, read_eval_log
logs = [read_eval_log(info) for info in list_eval_logs(sys.argv[1])]
print(json.dumps({f"{log.eval.model}/{log.eval.task}": log.model_dump(mode="json") for log in logs}))
"""


def run(*command, code=0, **environment):
    """Run a command in the project's folder; return what it printed on stdout."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def copied(reference, tmp_path_factory):
    """The run's folder in a place of its own. Its files are hard links: write none of them in place."""
    target = tmp_path_factory.mktemp("viewers") / "results/tiny"
    shutil.copytree(reference.results, target, copy_function=os.link)
    return target


@pytest.fixture(scope="module")
def logs(copied):
    """The folder with the logs."""
    run(TOOLS / "python", "-m", "scripts.viewers.inspect_logs", copied)
    return copied / "viewers/inspect"


def hashes(folder):
    return {file.name: sha256_file(file) for file in folder.iterdir()}


@needs_inspect
def test_inspect_reads_every_answer_and_grade_of_the_run(copied, logs):
    read = json.loads(run(TOOLS / "python", "-c", READ, logs))
    manifest, contract = read_json(copied / "manifest.json"), read_contract(copied / "data/chat_contract.json")
    graded = sorted(copied.glob("evaluate/*/*/*.grades.jsonl"))
    assert len(graded) == len(read) == len(list(logs.iterdir()))
    assert {path.parent.parent.name for path in graded} == {"base", "tuned"}
    for path in graded:
        split = path.name.removesuffix(".grades.jsonl")
        log = read[f"{path.parent.parent.name}/{path.parent.name}/tiny-{split}"]
        grades = {row.pop("id"): row for row in read_jsonl(path)}
        answers = {row["id"]: row for row in read_jsonl(path.with_name(f"{split}.answers.jsonl"))}
        records = {record.id: record for record in read_records(copied / f"curriculum/{split}.jsonl")}
        assert log["status"] == "success"
        assert {sample["id"] for sample in log["samples"]} == set(answers)
        for sample in log["samples"]:
            record, answer = records[sample["id"]], answers[sample["id"]]
            assert [(turn["role"], turn["content"]) for turn in sample["input"]] == [
                (turn["role"], turn["content"]) for turn in contract.ask(record)
            ]
            assert (sample["target"], sample["output"]["completion"]) == (record.response, answer["text"])
            assert sample["output"]["choices"][0]["stop_reason"] == ("stop" if answer["stopped"] else "max_tokens")
            assert sample["output"]["usage"]["output_tokens"] == answer["tokens"]
            assert {name: score["value"] for name, score in sample["scores"].items()} == grades[sample["id"]]
            assert sample["metadata"]["difficulty"] in ("easy", "medium", "hard")
            assert (sample["metadata"]["source"], sample["metadata"]["split"]) == (record.source, record.split)
        means = {score["name"]: score["metrics"]["mean"]["value"] for score in log["results"]["scores"]}
        metrics = read_json(path.with_name(f"{split}.metrics.json"))
        assert means == {name: entry["value"] for name, entry in metrics.items()}
        speed = read_json(path.with_name(f"{split}.speed.json"))
        assert log["eval"]["model_args"]["gguf_sha256"] == speed["gguf_sha256"]
        assert log["eval"]["metadata"]["fingerprint"] == manifest["fingerprint"]
        assert log["eval"]["viewer"]["trust_content"] is False
    assert len({log["eval"]["task_id"] for log in read.values()}) == len(read)  # logs of one task id hide each other


@needs_inspect
def test_the_same_run_gives_the_same_logs(copied, logs):
    before = hashes(logs)
    run(TOOLS / "python", "-m", "scripts.viewers.inspect_logs", copied)
    assert hashes(logs) == before


@needs_inspect
def test_the_command_line_lists_and_dumps_the_logs(logs):
    listed = json.loads(run(TOOLS / "inspect", "log", "list", "--log-dir", logs, "--json", "--absolute"))
    assert {Path(entry["name"]).name for entry in listed} == {file.name for file in logs.iterdir()}
    assert {entry["task"] for entry in listed} >= {"tiny-test", "tiny-eval-hard"}
    dumped = json.loads(run(TOOLS / "inspect", "log", "dump", listed[0]["name"]))
    assert (dumped["eval"]["task"], dumped["eval"]["task_id"]) == (listed[0]["task"], listed[0]["task_id"])


@needs_inspect
def test_the_viewer_opens_the_logs(logs, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    command = [TOOLS / "inspect", "view", "start", "--log-dir", logs, "--port", str(port)]
    with open(tmp_path / "view.log", "w") as said:
        viewer = subprocess.Popen(list(map(str, command)), env=home, stdout=said, stderr=subprocess.STDOUT)

    def get(place):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(f"http://127.0.0.1:{port}{place}", timeout=20).read().decode()

    try:
        for _ in range(150):
            try:
                page = get("/")
                break
            except (urllib.error.URLError, ConnectionError):
                assert viewer.poll() is None, (tmp_path / "view.log").read_text()
                time.sleep(0.2)
        assert "<script" in page
        files = [entry["name"] for entry in json.loads(get("/api/log-files"))["files"]]
        assert {Path(urllib.parse.unquote(name)).name for name in files} == {file.name for file in logs.iterdir()}
        log = json.loads(get(f"/api/logs/{urllib.parse.quote(files[0], safe='')}"))
        assert log["samples"][0]["scores"]["exact"]["value"] in (0, 1)
    finally:
        viewer.terminate()
        viewer.wait()


@needs_inspect
def test_a_run_that_changed_is_refused(copied, tmp_path):
    other = tmp_path / "results/tiny"
    shutil.copytree(copied, other, copy_function=os.link, ignore=shutil.ignore_patterns("viewers"))
    answers = other / "evaluate/base/Q4_K_M/test.answers.jsonl"
    rows = list(read_jsonl(answers))
    answers.unlink()
    write_jsonl(answers, [{**row, "text": "aws s3 ls"} for row in rows])
    said = run(TOOLS / "python", "-m", "scripts.viewers.inspect_logs", other, code=1)
    assert said.startswith("Gradus: ")
    assert f"{answers}: not as in" in said
    assert not (other / "viewers/inspect").exists()


# --- lm-evaluation-harness


@pytest.fixture(scope="module")
def tasks(copied):
    """The folder with the tasks."""
    run(sys.executable, "-m", "scripts.viewers.lm_eval_task", copied)
    return copied / "viewers/lm-eval"


def test_the_tasks_have_the_rows_that_the_models_were_asked(copied, tasks):
    contract = read_contract(copied / "data/chat_contract.json")
    for split in ("test", "eval-hard", "eval-unseen"):
        rows = list(read_jsonl(tasks / f"tiny_{split}.jsonl"))
        assert [row["id"] for row in rows] == [
            row["id"] for row in read_jsonl(copied / f"evaluate/tuned/Q4_K_M/{split}.answers.jsonl")
        ]
        assert {row["system"] for row in rows} == {contract.system_prompt}
        assert all(row["rendered"].endswith(f"{row['prompt']}<|im_end|>\n<|im_start|>assistant\n") for row in rows)
        assert (tasks / f"tiny_{split}.yaml").is_file() and (tasks / f"tiny_{split}_rendered.yaml").is_file()
    assert "Not graded: `stopped`" in (tasks / "README.md").read_text()


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    said = run(sys.executable, "-m", "scripts.viewers.lm_eval_task", tmp_path, code=1)
    assert said.startswith(f"Gradus: {tmp_path}: no manifest.json")


ANSWER = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

class Told(LM):
    '''Answers every second row rightly, and the others with another command.'''
    def generate_until(self, requests, disable_tqdm=False):
        self.asked = [request.args for request in requests]
        return [request.doc["response"] if n % 2 == 0 else "aws sts get-caller-identity" for n, request in enumerate(requests)]
    loglikelihood = loglikelihood_rolling = None

Told.__abstractmethods__ = frozenset()
model = Told()
found = simple_evaluate(model, tasks=["tiny_test_rendered"], task_manager=TaskManager(include_path=sys.argv[1]))
found = {"results": found["results"]["tiny_test_rendered"], "samples": found["samples"]["tiny_test_rendered"], "asked": model.asked}
print("FOUND" + json.dumps(found, default=str))
"""


@needs_harness
def test_the_harness_asks_and_grades_as_the_project_does(tasks):
    found = json.loads(run(HARNESS, "-c", ANSWER, tasks, HF_HUB_OFFLINE="1").partition("FOUND")[2])
    rows = list(read_jsonl(tasks / "tiny_test.jsonl"))
    assert [context for context, _ in found["asked"]] == [row["rendered"] for row in rows]
    assert found["asked"][0][1]["until"] == ["<|im_end|>"]
    right = [row["id"] for row in rows[::2]]
    for sample in found["samples"]:
        expected = float(sample["doc"]["id"] in right)
        assert [sample[name] for name in ("text_exact", "exact", "operation", "option_f1")] == [expected] * 4
        assert sample["valid"] == 1
    assert found["results"]["exact,none"] == found["results"]["text_exact,none"] == len(right) / len(rows)


@needs_harness
def test_the_harness_runs_the_checkpoint_by_messages(copied, tasks, tmp_path):
    model = f"pretrained={copied / 'hf'},dtype=float32"
    command = [HARNESS, "-m", "lm_eval", "run", "--model", "hf", "--model_args", model, "--include_path", tasks]
    output = ["--output_path", tmp_path, "--log_samples"]
    run(*command, "--tasks", "tiny_test", "--apply_chat_template", *output, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    samples = list(read_jsonl(next(tmp_path.rglob("samples_tiny_test_*.jsonl"))))
    rows = list(read_jsonl(tasks / "tiny_test.jsonl"))
    asked = {sample["doc"]["id"]: sample["arguments"]["gen_args_0"]["arg_0"] for sample in samples}
    assert asked == {row["id"]: row["rendered"] for row in rows}  # system prompt and template are the contract's
    assert {sample["exact"] for sample in samples} == {0}  # random weights


# --- vLLM


@needs_vllm
def test_vllm_asks_the_folder_as_in_training(copied):
    said = run(sys.executable, "-m", "scripts.viewers.vllm", copied, "3")
    found = read_json(copied / "vllm.json")
    assert "3 of 3 prompts as in training" in said
    assert (found["asked"], found["same_prompts"]) == (3, 3)
    assert found["compared_with"] == "tuned/bf16"
    assert found["same_answers"] + len(found["differing"]) == 3
    grades = list(read_jsonl(copied / "evaluate/tuned/bf16/test.grades.jsonl"))[:3]
    assert found["metrics"]["evaluated"]["exact"] == sum(row["exact"] for row in grades) / 3


@needs_vllm
def test_a_template_that_drifted_shows_in_vllm(copied, tmp_path):
    folder = tmp_path / "hf"
    shutil.copytree(copied / "hf", folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("'<|im_end|>'", "' <|im_end|>'"))
    contract = read_contract(copied / "data/chat_contract.json")
    messages = contract.messages("List my queues")
    rendered = contract.template.render(messages)
    job = {"conversations": [messages], "rendered": [rendered], "max_tokens": 4, "context": 256}
    as_trained, drifted = (vllm.ask({**job, "model": str(model.resolve())}) for model in (copied / "hf", folder))
    assert (as_trained["answers"][0]["as_trained"], as_trained["answers"][0]["prompt"]) == (True, rendered)
    assert not drifted["answers"][0]["as_trained"]
    assert "List my queues <|im_end|>" in drifted["answers"][0]["prompt"]
