"""Preference tuning in the real pipeline: rows with rejected answers, from the file to the GGUF and the report."""

import hashlib
import json
import shutil

import pytest

from scripts.common.io import read_json, read_jsonl, write_json
from tests.fault.test_kill import run_until_killed
from tests.project import Project

CONFIG = """
run: preferred
base_model: {source: "path:%s", name: my/base, license: MIT}
data:
  task: my_task.py
  files: [rows.jsonl]
  allow_few: true
deduplicate: {by: prompt}
split: {by: row, valid_share: 0.1, test_share: 0.2, unseen_share: 0}
score: {weights: {rules: null, length: 1}, quantiles: [0.5]}
curriculum:
  levels: [plain, tricky]
  phases:
    - {name: train, levels: [plain, tricky], rows: 8}
    - {name: dpo, method: dpo, learning_rate: 0.005, max_difficulty: 0.8}
    - {name: odds, method: orpo, order: random}
preference: {rows: 12, samples: 4, temperature: 2, metric: even, min_pairs: 10}
train: {learning_rate: 0.002, batch_size: 4}
models:
  base: {}
  supervised: {trained: {arm: curriculum, seed: 1}}
  preferred: {trained: {arm: curriculum, seed: 1, phase: dpo}}
  odds: {trained: {arm: curriculum, seed: 1, phase: odds}}
serve: preferred
contenders: false
evaluate: {splits: [test], max_rows: {test: 3}, max_tokens: 8}
export: {more_quants: [], imatrix: {enabled: false}}
forgetting: {enabled: false}
fidelity: {probe_tokens: 64, served_rows: 2, stopped: 0, served_alike: 0, quant_task_drop: 1, quant_agreement: 0.2}
"""
TASK = """
def even(record, answer, stopped):
    return float(len(answer) % 2 == 0)

BASE = "qa"
METRICS = {"even": even}
BINARY = {"even"}
"""
COLORS = ["red", "green", "blue", "black", "white", "grey", "pink", "brown", "teal", "ochre", "cyan", "plum"]
FOLDER = "preference/curriculum/seed1"


@pytest.fixture(scope="module")
def run(reference, tmp_path_factory):
    """A finished run whose rows have rejected answers."""
    fresh = Project.fresh(tmp_path_factory.mktemp("preferred") / "project")
    (fresh.folder / "my_task.py").write_text(TASK)
    (fresh.folder / "preferred.yaml").write_text(CONFIG % (reference.results / "base"))
    rows = [
        {"prompt": f"What is {a} and {b}?", "response": f"{a}-{b}, a color", "rejected": f"{b} is not {a}"}
        for a in COLORS
        for b in COLORS[:4]
        if a != b
    ]
    (fresh.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, text = fresh.snakemake(configs=("preferred.yaml",))
    assert code == 0, text
    return fresh


def results(run):
    return run.folder / "results" / "preferred"


def files(folder):
    """All files in a folder, but for Snakemake's own."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pairs_go_the_whole_way(run):
    found = results(run)
    ledger = read_json(found / FOLDER / "dpo" / "ledger.json")
    pairs = list(read_jsonl(found / FOLDER / "train" / "pairs.jsonl"))
    train = {row["id"] for row in read_jsonl(found / "curriculum" / "train.jsonl")}
    assert len(pairs) >= 20
    assert {pair["id"] for pair in pairs} <= train
    assert ledger["pairs"] == len(pairs)
    assert ledger["kept"] == round(0.8 * len(pairs))
    steps = list(read_jsonl(found / FOLDER / "dpo" / "steps.jsonl"))
    assert [step["difficulty"] for step in steps] == sorted(step["difficulty"] for step in steps)
    assert all(step["origin"]["made"] == "own" for step in steps)
    # random weights hardly ever end an answer, and one that was cut off is never the right one
    counts = read_json(found / FOLDER / "train" / "pairs.json")
    answers = list(read_jsonl(found / FOLDER / "train" / "samples.jsonl"))
    assert len(answers) == 12 * 4
    assert len({row["text"] for row in answers}) > 12
    assert 0 < counts["cut_off"] <= counts["rows_asked"] <= 12
    history = list(read_jsonl(found / "train/curriculum/seed1/dpo/history.jsonl"))
    assert history[0]["loss"] == pytest.approx(0.693, abs=0.02)  # against itself
    assert history[-1]["accuracy"] >= 0.75
    assert history[-1]["margin"] > history[0]["margin"] + 0.05
    adapters = {
        phase: digest(found / f"train/curriculum/seed1/{phase}/trained/adapter/adapter_model.safetensors")
        for phase in ("train", "dpo", "odds")
    }
    assert len(set(adapters.values())) == 3
    served = digest(found / "export/preferred/Q4_K_M.gguf")
    assert served == digest(next((found / "ollama").glob("*.gguf"))) != digest(found / "export/supervised/Q4_K_M.gguf")
    assert read_json(found / "fidelity.json")["passed"]


def test_a_rejected_answer_is_in_no_file_that_supervised_training_or_answering_depends_on(run):
    folder = results(run) / "curriculum"
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl", "curriculum/seed1/train.jsonl"):
        rows = list(read_jsonl(folder / name))
        assert rows
        assert not any("rejected" in row for row in rows)
    assert all(row["rejected"] for row in read_jsonl(folder / "rejected.jsonl"))


def test_the_report_shows_models_before_and_after_and_the_card_the_phase(run):
    page = (results(run) / "report.html").read_text()
    assert "<h3>Preference tuning</h3>" in page
    assert "tokens an answer" in page
    assert "curriculum, seed 1, after dpo" in page
    table = (results(run) / "tables" / "preference_models.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in table[1:]] == [
        ["supervised", "train"],
        ["preferred", "dpo"],
        ["odds", "odds"],
    ]
    assert "| dpo (pairs, dpo) |" in (results(run) / "hf" / "README.md").read_text()


def test_a_setting_of_one_phase_trains_that_phase_alone(run):
    config = (run.folder / "preferred.yaml").read_text()
    (run.folder / "rate.yaml").write_text(config.replace("learning_rate: 0.005", "learning_rate: 0.004"))
    planned = run.planned(configs=("rate.yaml",))
    assert planned["train_phase"] == 1
    assert not planned.keys() & {"sample_answers", "make_pairs", "reference_losses", "order_pairs", "phase"}
    assert run.planned(configs=("preferred.yaml",)) == {}


def test_killed_in_each_step_of_preference_tuning_it_goes_on_to_the_same_bytes(run, tmp_path):
    copy = run.copy_to(tmp_path / "project", linked=False)
    for folder in (FOLDER, "train/curriculum/seed1/dpo", "train/curriculum/seed1/odds"):
        shutil.rmtree(results(copy) / folder)
    target = "results/preferred/train/curriculum/seed1/dpo/trained"
    pending = {
        "sample_answers": (0.5, "everything"),
        "reference_losses": (1, "job"),
        "train_phase": (2, "everything"),
        "order_pairs": (0, "snakemake"),
    }
    killed = []
    for _ in range(2 * len(pending)):
        rule, code, text = run_until_killed(copy, pending, target, configs=("preferred.yaml",))
        if rule is None:
            break
        pending.pop(rule)
        killed += [rule] if code else []
    assert (rule, code) == (None, 0), text
    assert {"sample_answers", "reference_losses", "train_phase"} <= set(killed)
    made = [path for folder in (FOLDER, "train/curriculum/seed1/dpo") for path in files(results(copy) / folder)]
    assert len(made) > 10
    for path in made:
        there = results(run) / path.relative_to(results(copy))
        if not path.name.endswith(("history.jsonl", "speed.json", "summary.json")):  # have seconds
            assert digest(path) == digest(there), path


def test_a_phase_that_breaks_the_model_stops_the_run(run, tmp_path):
    copy = run.copy_to(tmp_path / "project", linked=False)
    summary = results(copy) / "train/curriculum/seed1/train/summary.json"
    write_json(summary, {**read_json(summary), "heldout_loss": 0.001})  # as if the phase before had been better by far
    target = "results/preferred/train/curriculum/seed1/dpo/trained"
    shutil.rmtree(copy.folder / target)
    code, text = copy.snakemake(target, configs=("preferred.yaml",))
    assert code == 1, text
    assert "this phase breaks the model" in text and ", after 0.001 before the phase" in text, text
    assert not (copy.folder / target).exists()


def test_too_few_pairs_are_said_before_the_phase(run):
    before = digest(results(run) / "train/curriculum/seed1/dpo/trained/adapter/adapter_model.safetensors")
    config = (run.folder / "preferred.yaml").read_text()
    (run.folder / "many.yaml").write_text(config.replace("min_pairs: 10", "min_pairs: 5000"))
    code, text = run.snakemake(configs=("many.yaml",))
    assert code != 0
    assert "preference.min_pairs" in text
    assert digest(results(run) / "train/curriculum/seed1/dpo/trained/adapter/adapter_model.safetensors") == before
