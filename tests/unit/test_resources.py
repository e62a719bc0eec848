"""The memory and the minutes that the real rules declare: they grow with the inputs, and if a job is tried again."""

import json
import os
import subprocess
import sys

import pytest

from scripts.common.hashing import ROOT

# {rule: {resource: its value for attempts 1, 2, 3}} by size, if every input is one file of so many MB; and what ingest
# asks for if rows are in a folder and a file
DECLARED = """
import json, sys
from pathlib import Path
from scripts.common.snakemake_internals import plan_job

class Input(dict):
    estimate = "none"
    def __missing__(self, name):
        return self.file

def ask(rule, given):
    asked = {name: rule.resources[name] for name in ("mem_mb", "runtime") if name in rule.resources}
    return {
        name: [resource.evaluate(None, input=given, attempt=attempt).value for attempt in (1, 2, 3)]
        for name, resource in asked.items()
    }

job = plan_job(Path("Snakefile"), "results/tiny/verdict.json", [Path("config/runs/tiny.yaml")], 2)
rules = {rule.name: rule for rule in job.rule.workflow.rules}
found = {}
for size, file in json.loads(sys.argv[1]).items():
    Input.file = file
    found[size] = {name: ask(rule, Input()) for name, rule in rules.items()}
found["parts"] = ask(rules["ingest"], Input(rows=json.loads(sys.argv[2])))
print(json.dumps(found))
"""
# what data stages asked for when no rule looked at its rows, and their seconds for a million rows, 450 MB (docs/data.md)
DATA = {
    "ingest": (1000, 30),
    "mask": (1500, 40),
    "deduplicate": (3000, 51),
    "split": (1000, 25),
    "decontaminate": (3000, 83),
    "score": (1000, 39),
    "audit": (1500, 138),
}
BY_ROWS = {*DATA, "phase", "check_labels", "estimate", "passages", "neighbors", "nearest", "majority", "linear"}
BY_WEIGHTS = {"prepare_base", "round_base", "merge", "convert_gguf", "importance", "quantize", "hf", "check_merge"}
BY_WEIGHTS |= {"check_gguf", "reference_logits", "quant_loss", "speed", "check_serving", "answer", "probe"}
BY_BOTH = {"base_loss", "reference_losses", "train_phase", "train_arm"}


def sparse(path, megabytes):
    """Return a file that takes no space."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(int(megabytes * 1e6))
    return str(path)


@pytest.fixture(scope="module")
def declared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    sizes = {"none": folder / "none", "small": 0.02, "million": 450, "ten": 4500}
    files = {name: str(size) if name == "none" else sparse(folder / name, size) for name, size in sizes.items()}
    fetched = [sparse(folder / "fetched/rows.parquet", 100), sparse(folder / "own.jsonl", 200)]
    rows = [str(folder / "fetched"), fetched[1], sparse(folder / "more.jsonl.gz", 10)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DECLARED, json.dumps(files), json.dumps(rows)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def first(declared, size, resource):
    """Return {rule: what it asks for at first}, of the rules that declare the resource."""
    return {rule: asked[resource][0] for rule, asked in declared[size].items() if resource in asked}


def test_few_rows_ask_for_what_they_always_did_also_before_the_file_is_there(declared):
    for size in ("none", "small"):
        memory, minutes = (first(declared, size, resource) for resource in ("mem_mb", "runtime"))
        assert {rule: memory[rule] for rule in DATA} == {rule: known[0] for rule, known in DATA.items()}
        assert {minutes[rule] for rule in BY_ROWS | BY_WEIGHTS | BY_BOTH} == {60}  # profiles/slurm has as many for all


def test_memory_and_time_of_data_stages_grow_with_the_rows(declared):
    small, million, ten = (first(declared, size, "mem_mb") for size in ("small", "million", "ten"))
    for rule in BY_ROWS - {"estimate", "passages", "check_labels"}:  # whose memory does not grow
        assert small[rule] < million[rule] < ten[rule], rule
    # measured at a million rows; computed for ten million (docs/scaling.md)
    for rule in ("deduplicate", "decontaminate"):
        assert million[rule] > 2.1 * 1074
        assert ten[rule] > 20 * 1074
    minutes = {size: first(declared, size, "runtime") for size in ("million", "ten")}
    for rule, (_, seconds) in DATA.items():
        assert 60 * minutes["million"][rule] > 20 * seconds
        assert 60 * minutes["ten"][rule] > 100 * seconds
    assert all(minutes["ten"][rule] > minutes["million"][rule] > 60 for rule in BY_ROWS)


def test_time_grows_with_the_weights_and_is_three_days_at_most(declared):
    small, million, ten = (first(declared, size, "runtime") for size in ("small", "million", "ten"))
    assert {rule: (million[rule], ten[rule]) for rule in BY_WEIGHTS if not 60 <= million[rule] < ten[rule]} == {}
    assert {rule: ten[rule] for rule in BY_BOTH} == dict.fromkeys(BY_BOTH, 3 * 24 * 60)
    # what waits for the network does not grow
    fixed = {rule for rule, asked in small.items() if asked == ten[rule]}
    assert fixed <= {"fetch", "ask_endpoint", "ask_judge"}


def test_a_job_that_is_tried_again_asks_for_twice_and_three_times_as_much(declared):
    sizes = [declared[size] for size in ("none", "small", "million", "ten")]
    asked = [(rule, name, tries) for found in sizes for rule, each in found.items() for name, tries in each.items()]
    assert len(asked) > 200
    for rule, name, tries in asked:
        expected = [tries[0], 2 * tries[0], 3 * tries[0]]
        if name == "runtime":
            expected = [min(value, 3 * 24 * 60) for value in expected]
        assert tries == expected, (rule, name)


def test_rows_in_several_files_and_in_the_folder_of_a_fetched_source_count_together(declared):
    assert declared["parts"]["mem_mb"][0] == 1000 + 5 * (6 * 100 + 9 * 10 + 200)  # compressed rows count as unpacked
    assert declared["parts"]["runtime"][0] == 60 + 44
