"""`make gpu-check`, with the CPU in the GPU's place."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest

from scripts.config.check import check_config
from scripts.config.reading import read_config
from scripts.gpu_check.__main__ import Check, main
from scripts.gpu_check.findings import Findings


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What the check prints and writes for a tiny model."""
    output = tmp_path_factory.mktemp("checked") / "gpu-check.json"
    command = [sys.executable, "-m", "scripts.gpu_check", "--device", "cpu", "--shape", "tiny", "--output", str(output)]
    command += ["--only", "gradients", "checkpoints", "answers", "training", "--weights", "nf4-packed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, json.loads(output.read_text(encoding="utf-8")), output


def test_everything_that_it_promises_is_checked(checked):
    done, written, _ = checked
    assert done.returncode == 0, done.stdout + done.stderr
    found = {finding["name"]: finding for finding in written["findings"]}
    kinds = [f"gradients {kind}, rows" for kind in ("bf16", "nf4", "nf4-packed")]
    expected = [
        "NF4 as on the CPU",
        *(f"{kind}{what}" for kind in kinds for what in ("", ", again", ", checkpointing")),
        *(
            kind.replace("gradients", f"gradients of pairs ({name})")
            for kind in kinds
            for name in ("dpo", "orpo", "kto")
        ),
        *(f"predictions layer by layer, {what}" for what in ("base", "LoRA", "DoRA")),
        "importance",
        "importance, again",
        "answers with offload",
        "answers with offload, again",
        "training nf4-packed, 20 steps",
        "training nf4-packed with checkpointing, 20 steps",
        "training nf4-packed, checkpointing",
        "training nf4-packed, phase to phase",
        "training nf4-packed, kill and resume",
    ]
    assert [found[name]["status"] for name in expected] == ["passed"] * len(expected)
    assert written["counts"] == {"passed": len(expected), "FAILED": 0, "not tested": 0}
    assert 0 < found["gradients nf4-packed, rows"]["figures"]["distance"] < 0.05
    assert found["training nf4-packed, kill and resume"]["figures"]["resumed_at"] in (7, 14)
    assert found["training nf4-packed, memory"]["figures"]["peak"] > 10**8
    assert found["packages"]["figures"]["installed"]["torch"]


def test_each_finding_is_a_line_and_nothing_is_left_but_the_log(checked):
    done, written, output = checked
    for finding in written["findings"]:
        assert f"{finding['status']:<10} {finding['name']}" in done.stdout
    assert sorted(file.name for file in output.parent.iterdir()) == ["gpu-check.json", "gpu-check.log"]
    assert (
        done.stdout.strip().splitlines()[-1].startswith(f"{written['counts']['passed']} passed, 0 failed, 0 not tested")
    )


def test_a_check_that_dies_is_a_line_and_the_next_one_runs(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    check = Check(tmp_path, "cpu", 5, tmp_path / "out" / "found.json")
    check.have = {"transformers", "peft"}
    check.run("shapes", "small model", shape="huge", folder=str(tmp_path / "small"), steps=1, tokens=128, pack=128)
    check.run("gradients", "gradients", base=str(tmp_path / "none"))  # its job lacks what it needs
    check.run("machine", "machine")
    printed = capsys.readouterr().out
    assert "FAILED     small model" in printed and "no shape 'huge'; there are tiny, smollm2-135m" in printed
    assert "FAILED     gradients" in printed and "ended with code 1: KeyError: 'threads'" in printed
    assert "told       packages" in printed
    assert check.counts["FAILED"] == 2
    assert "KeyError: 'threads'" in (tmp_path / "out" / "found.log").read_text(encoding="utf-8")


def test_what_is_not_installed_is_named_and_left_out(tmp_path, capsys):
    check = Check(tmp_path, "cpu", 5, tmp_path / "found.json")
    check.have = {"transformers", "peft", "bitsandbytes"}
    check.run("training", "training bf16")
    check.run("answers", "answers")
    assert capsys.readouterr().out.splitlines() == [
        "not tested training bf16                                      trl, datasets not installed",
        "not tested answers                                            llama-cpp-python, gguf not installed",
    ]


def test_when_the_minutes_are_over_what_runs_is_ended(tmp_path, capsys, monkeypatch):
    check = Check(tmp_path, "cpu", 0.02, tmp_path / "found.json")
    monkeypatch.setattr(subprocess, "Popen", partial(slow, subprocess.Popen))
    check.run("machine", "machine")
    check.run("machine", "more")
    (pid,) = slow.started
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert capsys.readouterr().out.splitlines() == [
        "not tested machine                                            not ended in time (--minutes gives more)",
        "not tested more                                               no time left (--minutes gives more)",
    ]


def slow(popen, command, **options):
    """Start a process that sleeps for a minute instead of the command."""
    child = popen(["sleep", "60"], **options)
    slow.started = [child.pid]
    return child


def test_a_figure_that_is_no_number_is_a_line_like_the_others(tmp_path):
    """A loss of NaN is what the check is for: it must not end it."""
    found = Findings(tmp_path / "found.jsonl")
    found.add("loss", False, "it is nan", losses=[1.5, float("nan")], peak=float("inf"))
    check = Check(tmp_path, "cpu", 5, tmp_path / "written.json")
    check.show(found.read()[0])
    (written,) = json.loads((tmp_path / "written.json").read_text())["findings"]
    assert written["figures"] == {"losses": [1.5, "nan"], "peak": "inf"}


def test_a_line_that_is_half_written_is_read_later(tmp_path):
    found = Findings(tmp_path / "found.jsonl")
    found.add("one", True, "right")
    with open(found.path, "a") as handle:
        handle.write('{"name": "two", "sta')
    assert [finding.name for finding in found.read()] == ["one"]


def test_a_package_that_only_some_have_is_found(tmp_path, monkeypatch):
    from scripts.gpu_check import machine

    have = machine.installed_version
    monkeypatch.setattr(machine, "installed_version", lambda name: "9.9" if name == "unsloth" else have(name))
    found = Findings(tmp_path / "found.jsonl")
    machine.check({"device": "cpu"}, found)
    kernels = next(finding for finding in found.read() if finding.name == "kernels")
    assert (kernels.text, kernels.figures) == ("unsloth 9.9", {"installed": {"unsloth": "9.9"}})
    assert have("no-such-package") is None


def test_trainings_are_those_of_a_config_that_sets_nothing(tmp_path):
    """A default that changes, or a new key, changes the check, too."""
    from scripts.gpu_check.training import settings

    file, config = tmp_path / "config.yaml", {"base_model": {"source": "path:base"}, "data": {"files": ["rows.jsonl"]}}
    file.write_text(json.dumps({"run": "r", **config}))
    train = check_config(read_config(file), [file])["train"]
    found = settings("bf16", 512, threads=1)
    own = (
        "base_weights",
        "micro_batch_tokens",
        "max_length",
        "checkpoint_minutes",
        "gradient_checkpointing",
        "threads",
    )
    assert found == {**train, **{name: found[name] for name in own}}


def test_defaults_are_read_without_the_packages_that_check_a_config():
    code = "import sys; from scripts.config.schema import default; default('train'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "yaml" in loaded and not {"jsonschema", "trl", "bitsandbytes", "snakemake"} & set(loaded)


def test_a_model_too_large_for_the_card_is_left_out(tmp_path, monkeypatch):
    from scripts.gpu_check import sizes

    monkeypatch.setattr(sizes, "free_memory", lambda device: 10**8)
    found = Findings(tmp_path / "found.jsonl")
    job = {"shape": "tiny", "device": "cpu", "output": str(tmp_path), "steps": 1, "tokens": 128, "pack": 256}
    sizes.check({**job, "threads": 1, "before": 0}, found)
    told = [(finding.status, finding.text) for finding in found.read()[1:]]
    assert [status for status, _ in told] == ["not tested"] * 3
    assert all("GiB by the estimate, and 0.1 GiB are free" in text for _, text in told)


def test_ended_by_a_signal_it_ends_its_processes_and_deletes_what_it_made(tmp_path):
    command = [sys.executable, "-m", "scripts.gpu_check", "--device", "cpu", "--output", str(tmp_path / "found.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as check:
        check.stdout.readline()  # the first finding: its process runs
        ends = time.monotonic() + 60
        while not (children := psutil.Process(check.pid).children()) and time.monotonic() < ends:
            time.sleep(0.01)  # between two processes
        assert children
        check.terminate()
        check.stdout.read()
    assert check.returncode == 128 + signal.SIGTERM
    assert sorted(file.name for file in tmp_path.iterdir()) == ["found.json", "found.log"]
    assert not psutil.wait_procs(children, timeout=10)[1]  # their ends may be seen a moment later


@pytest.mark.parametrize("wrong", [1.2, float("nan")])
def test_wrong_gradients_fail(tmp_path, monkeypatch, wrong):
    import torch

    from scripts.gpu_check import gradients

    def computed(base, device, attention, packed, checkpointing, whole, method=None):
        return torch.ones(9) if whole else torch.full((9,), wrong)

    monkeypatch.setattr(gradients, "gradient", computed)
    found = Findings(tmp_path / "found.jsonl")
    gradients.check({"device": "cpu", "base": str(tmp_path / "base"), "packages": [], "threads": 1}, found)
    by_name = {finding.name: finding.status for finding in found.read()}
    assert by_name["gradients bf16, rows"] == by_name["gradients of pairs (kto) bf16, rows"] == "FAILED"


def test_another_checkpoint_computed_layer_by_layer_fails(tmp_path, monkeypatch):
    """On the GPU, as it were, a layer gives something else."""
    from scripts.gpu_check import checkpoints
    from scripts.gpu_check.shapes import write_base

    write_base("tiny", tmp_path / "base")
    true_logits, true_sums = checkpoints.answer_logits, checkpoints.measure
    calls = iter(range(9))

    def logits(*given):
        wrong = next(calls) % 2  # the second time it is the GPU
        return (value * (1 + wrong) for value in true_logits(*given))

    def sums(base, rows, kind, dtype, device=None):
        return {
            name: value * (1 if device is None else 1.1) for name, value in true_sums(base, rows, kind, dtype).items()
        }

    monkeypatch.setattr(checkpoints, "answer_logits", logits)
    monkeypatch.setattr(checkpoints, "measure", sums)
    found = Findings(tmp_path / "found.jsonl")
    checkpoints.check({"device": "cpu", "base": str(tmp_path / "base"), "threads": 1}, found)
    assert [(finding.name, finding.status) for finding in found.read()] == [
        ("predictions layer by layer, base", "FAILED"),
        ("predictions layer by layer, LoRA", "FAILED"),
        ("predictions layer by layer, DoRA", "FAILED"),
        ("importance", "FAILED"),
        ("importance, again", "passed"),
    ]


def test_other_bytes_after_a_kill_fail(tmp_path, monkeypatch):
    """The comparison itself: a training with another seed does not count as the same."""
    from scripts.gpu_check import training

    hashes = iter([{"a": "1"}, {"a": "1"}, {"a": "1"}, {"a": "1"}, {"a": "2"}, {"a": "1"}])
    monkeypatch.setattr(training, "hashes", lambda output: next(hashes))
    monkeypatch.setattr(training, "read_steps", lambda path: [])
    monkeypatch.setattr(training, "write_jsonl", lambda path, rows: None)
    monkeypatch.setattr(
        training, "measure", lambda job, *rest: (tmp_path / "plain" / "trained").mkdir(parents=True, exist_ok=True)
    )
    monkeypatch.setattr(training, "train", lambda job: {})
    monkeypatch.setattr(training, "run_once", lambda job, kill_at=None: kill_at is None)
    monkeypatch.setattr(training, "read_json", lambda path: {"resumed_at_step": 7})
    found = Findings(tmp_path / "found.jsonl")
    job = {"device": "cpu", "threads": 1, "folder": str(tmp_path), "output": str(tmp_path), "weights": "bf16"}
    training.check({**job, "steps": 20, "tokens": 128, "pack": 512, "before": 0}, found)
    assert {finding.name: finding.status for finding in found.read()} == {
        "training bf16, checkpointing": "passed",
        "training bf16, phase to phase": "passed",
        "training bf16, kill and resume": "FAILED",
    }


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["--output", str(tmp_path / "found.json")]) == 1
    assert "no GPU that torch can use: see above. --device cpu tries the check itself" in capsys.readouterr().out


def test_mean_kl_is_scipys():
    import numpy as np
    from scipy.special import log_softmax, rel_entr

    from scripts.gpu_check.answers import mean_kl

    numbers = np.random.default_rng(1)
    one, other = numbers.normal(size=(2, 5, 30))
    expected = rel_entr(np.exp(log_softmax(one, -1)), np.exp(log_softmax(other, -1))).sum(-1).mean()
    assert mean_kl(one, other) == pytest.approx(expected)
    assert mean_kl(one, one) == 0
