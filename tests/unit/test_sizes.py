"""`make sizes`: real shapes are real, memory is measured as it says, and what fails does not hide the rest."""

import sys
import time

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from scripts.bench import size_stages
from scripts.bench.size_stages import STAGES, checkpoint, write_weights
from scripts.bench.sizes import memory_of, run_stage, table, too_large, watch
from scripts.gpu_check.shapes import config_of

# takes 100 MB in a child process, and maps a file of 200 MB
TAKES = """
import mmap, subprocess, sys, time
if len(sys.argv) > 1:
    with open(sys.argv[1], "wb+") as file:
        file.truncate(200 << 20)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        sum(mapped[::4096])
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2]])
    child.wait()
else:
    taken = bytearray(b"x" * (100 << 20))
    time.sleep(2)
"""


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [("qwen2.5-1.5b", 1_543_714_304), ("llama-3.2-3b", 3_212_749_824), ("qwen2.5-7b", 7_615_616_512)],
)
def test_the_shapes_have_as_many_parameters_as_the_models_on_the_hub(shape, parameters):
    with torch.device("meta"):
        assert AutoModelForCausalLM.from_config(config_of(shape)).num_parameters() == parameters


@pytest.mark.parametrize("tied", [True, False])
def test_weights_in_several_files_are_a_whole_checkpoint(tmp_path, monkeypatch, tied):
    monkeypatch.setattr(size_stages, "SHARD", "50KB")
    config = config_of("tiny")
    config.tie_word_embeddings = tied
    count = write_weights(config, tmp_path)
    config.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.num_parameters() == count
    layer = model.model.layers[1]
    assert layer.mlp.up_proj.weight.std().item() == pytest.approx(config.initializer_range, rel=0.1)
    assert (layer.input_layernorm.weight == 1).all()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells mapped files apart")
def test_memory_is_that_of_all_processes_and_mapped_files_are_apart(tmp_path):
    found = watch([sys.executable, "-c", TAKES, str(tmp_path / "file"), TAKES], tmp_path / "log", 1)
    assert (tmp_path / "log").read_text() == ""
    assert 0.1 <= found["peak_gib"] < 0.25
    assert 0.29 <= found["resident_gib"] < 0.5
    assert "failed" not in found
    own, resident = memory_of(psutil.Process())
    assert 0 < own < resident


def test_a_stage_that_takes_too_long_is_stopped_with_its_children(tmp_path):
    code = (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '77']); print(child.pid, flush=True); child.wait()"
    )
    began = time.monotonic()
    found = watch([sys.executable, "-c", code], tmp_path / "log", 0.05)
    assert found["failed"] == "stopped after 0.05 minutes"
    assert time.monotonic() - began < 20
    child = int((tmp_path / "log").read_text())
    ends = time.monotonic() + 10  # a killed process ends when the machine comes to it
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_a_stage_that_fails_says_why(tmp_path):
    dead = watch([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path / "log", 1)
    assert dead["failed"] == "killed by signal 9 (memory ran out?)"
    assert watch([sys.executable, "-c", "1 / 0"], tmp_path / "log", 1)["failed"] == "failed"
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()


def test_what_needs_missing_files_is_left_out(tmp_path):
    stages = {stage.name: stage for stage in STAGES}
    (tmp_path / "base").mkdir()
    found = run_stage(stages["check_merge"], tmp_path, tmp_path / "logs", {"steps": 1}, 1)
    assert found == {"left_out": "without rounded and merged"}
    assert "left_out" in run_stage(stages["train_phase"], tmp_path, tmp_path / "logs", {"steps": 0}, 1)


def test_no_stage_needs_what_an_earlier_one_was_the_last_to_need():
    gone = set()
    for stage in STAGES:
        assert not gone & set(stage.needs), stage.name
        gone |= set(stage.spent)
    assert STAGES[0].run is checkpoint


def test_the_table_tells_what_was_not_done_and_what_took_too_much():
    good = {"minutes": 1.26, "peak_gib": 1.04, "resident_gib": 5.5}
    stages = {
        "merge": good,
        "train_phase": {**good, "peak_gib": 9.0},
        "quantize": {**good, "failed": "the disk is full"},
        "answer": {"left_out": "without Q4_K_M.gguf"},
    }
    measured = {"a": {"stages": stages}, "b": {"left_out": "it needs 76 GB"}}
    lines = table(measured)
    assert "| merge | 1.3 | 1.0 | 5.5 |" in lines
    assert "| quantize | – | – | – |" in lines
    assert "- a, quantize: the disk is full" in lines
    assert "- a, answer: without Q4_K_M.gguf" in lines
    assert "- b: left out, because it needs 76 GB" in lines
    assert lines[-1].startswith("No stage took more than 4 GiB of its own")
    stages["merge"] = {**good, "peak_gib": 4.1}
    assert too_large(measured) == ["merge (a): 4.1 GiB"]
    assert table(measured)[-1] == "More than 4 GiB: merge (a): 4.1 GiB"
