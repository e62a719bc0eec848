"""A whole phase on a tiny random llama: what it writes, what it keeps, and how it goes on after a kill."""

import dataclasses
import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.common.chat import write_contract
from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import read_json, write_jsonl
from scripts.common.records import Record, write_steps
from scripts.export.merge import merge
from scripts.train import train_phase as module
from scripts.train.packing import encode
from scripts.train.round_base import round_base
from scripts.train.sft import METHODS
from scripts.train.train_phase import TrainParams, schedule_position, train_phase
from scripts.train.trainer import PhaseTrainer, check_loss

PARAMS = TrainParams(
    threads=2,
    lora={"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"},
    learning_rate=0.01,
    schedule="cosine",
    schedule_spans="all",
    warmup_share=0.1,
    weight_decay=0.0,
    max_gradient_norm=1.0,
    batch_size=4,
    micro_batch_tokens=128,
    max_length=128,
    base_weights="nf4",
    attention="auto",
    backend="peft",
    neftune_alpha=None,
    evaluate_every=None,
    patience=None,
    checkpoint_steps=None,
    checkpoint_minutes=60,
    memory_gib=None,
    report_to="none",
)


class Bench:
    """A folder with rows, base and contract in which phases can be trained."""

    def __init__(self, folder, base, contract, rows=10):
        self.folder, self.base, self.plain = folder, folder / "base-nf4", base
        self.records = [Record(f"request number {n}", f"aws s3 ls s3://bucket-{n}", "command") for n in range(rows)]
        size = PARAMS.batch_size
        self.write_steps([self.records[i : i + size] for i in range(0, rows, size)])
        write_jsonl(folder / "valid.jsonl", (r.to_json() for r in self.records[:2]))
        write_contract(folder / "contract.json", contract)
        round_base(base, self.base)

    def write_steps(self, steps):
        self.steps = len(steps)
        write_jsonl(self.folder / "rows.jsonl", write_steps(steps))

    def arguments(self, name, phase="easy", previous=None, base=None, **changes):
        schedule = dict.fromkeys(("easy", "medium", "hard"), self.steps)
        return {
            "rows": self.folder / "rows.jsonl",
            "valid": self.folder / "valid.jsonl",
            "base": base or self.base,
            "contract_path": self.folder / "contract.json",
            "schedule": schedule,
            "phase": phase,
            "method": "sft",
            "previous": previous,
            "seed": 1,
            "params": dataclasses.replace(PARAMS, **changes),
            "work": self.folder / f"work-{name}",
            "folder": self.folder / name,
            "history": self.folder / f"{name}.jsonl",
            "summary": self.folder / f"{name}.json",
        }

    def train(self, name, *args, **more):
        train_phase(**self.arguments(name, *args, **more))
        return self.folder / name

    def digest(self, name):
        files = ("adapter/adapter_model.safetensors", "optimizer.safetensors")
        return [hashlib.sha256((self.folder / name / file).read_bytes()).hexdigest() for file in files]


def history(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(base, contract, tmp_path_factory):
    """Two phases of training, the first one twice, and the whole merged."""
    bench = Bench(tmp_path_factory.mktemp("train"), base, contract)
    bench.train("easy")
    bench.train("again")
    bench.train("medium", "medium", bench.folder / "easy")
    merge(base, bench.folder / "medium", bench.folder / "merged")
    return bench


def test_training_twice_gives_the_same_bytes(trained):
    assert trained.digest("easy") == trained.digest("again")


def test_killed_after_its_last_step_it_comes_to_the_same_bytes(trained, monkeypatch):
    """What is left then is a checkpoint of the last step, and no steps."""
    work = trained.folder / "work-late"
    with monkeypatch.context() as kept:
        kept.setattr("scripts.train.train_phase.shutil.rmtree", lambda *args, **more: None)
        trained.train("late", checkpoint_steps=1)
    assert sorted(work.glob("*/step-*"))[-1].name == f"step-{trained.steps:06d}"
    before, made = trained.digest("late"), history(trained.folder / "late.jsonl")
    trained.train("late", checkpoint_steps=1)
    assert trained.digest("late") == before == trained.digest("easy")
    assert history(trained.folder / "late.jsonl") == made
    assert not work.exists()


def test_schedule_spans_all_phases_or_each():
    schedule = {"easy": 3, "medium": 5, "hard": 7}
    assert schedule_position(schedule, "medium", "all") == (3, 15)
    assert schedule_position(schedule, "medium", "phase") == (0, 5)
    five = {"a": 3, "d": 1, "c": 5, "b": 7, "e": 2}  # the order of training, not that of the names
    assert [schedule_position(five, name, "all") for name in five] == [(0, 18), (3, 18), (4, 18), (9, 18), (16, 18)]
    assert schedule_position({"only": 4}, "only", "all") == (0, 4)


def test_each_step_takes_exactly_the_rows_that_the_file_has_for_it(base, contract, tmp_path, monkeypatch):
    """What reached the loss, step by step, is the file; steps need not be of equal size."""
    bench = Bench(tmp_path, base, contract)
    laid = [bench.records[2:5], bench.records[0:1], bench.records[5:10], [bench.records[3], bench.records[3]]]
    bench.write_steps(laid)
    seen = []
    loss = PhaseTrainer.training_step

    def note(self, model, inputs, *args, **kwargs):
        seen.append([row.tolist() for row in inputs["input_ids"].split(inputs["lengths"].tolist())])
        return loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(PhaseTrainer, "training_step", note)
    bench.train("seen")
    tokenizer = AutoTokenizer.from_pretrained(base)
    expected = [[sum(encode(tokenizer, contract, r), []) for r in step] for step in laid]
    assert seen == expected
    spent = [sum(map(len, step)) for step in expected]
    assert [line["tokens"] for line in history(tmp_path / "seen.jsonl")] == [sum(spent[: n + 1]) for n in range(4)]
    assert read_json(tmp_path / "seen.json")["rows"] == 11


@pytest.mark.parametrize("how", ["shuffled steps", "shuffled rows"])
def test_a_sampler_or_collator_that_reorders_ends_the_training(trained, monkeypatch, how):
    if how == "shuffled steps":
        real = module.SFTConfig
        monkeypatch.setattr(module, "SFTConfig", lambda **k: real(**{**k, "train_sampling_strategy": "random"}))
    else:
        real = METHODS["sft"].collate
        turned = lambda items: real([{name: rows[::-1] for name, rows in items[0].items()}])  # noqa: E731
        monkeypatch.setitem(METHODS, "sft", dataclasses.replace(METHODS["sft"], collate=turned))
    with pytest.raises(GradusError, match="got other rows than the phase's file has for it"):
        trained.train("reordered")
    assert not (trained.folder / "reordered").exists()


def test_schedule_and_optimizer_go_on_into_the_next_phase(trained):
    first, second = (history(trained.folder / f"{name}.jsonl") for name in ("easy", "medium"))
    rates = [line["learning_rate"] for line in first + second]
    assert rates[0] == 0
    assert max(rates) == 0.01
    assert rates[3] < 0.01
    assert rates[3:] == sorted(rates[3:], reverse=True)
    state = load_file(trained.folder / "medium" / "optimizer.safetensors")
    assert {value.item() for name, value in state.items() if name.endswith(".step")} == {6.0}


def test_the_adapter_goes_on_from_the_previous_phase(trained):
    one, other = (
        load_file(trained.folder / name / "adapter" / "adapter_model.safetensors") for name in ("easy", "medium")
    )
    moved = [name for name in one if not torch.equal(one[name], other[name])]
    assert len(moved) == len(one) == 2 * 7 * 2
    closeness = [
        torch.cosine_similarity(one[n].float().flatten(), other[n].float().flatten(), 0) for n in one if "lora_A" in n
    ]
    assert min(closeness) > 0.8


KINDS = {
    "qlora": ("nf4", {}, {}),
    "qlora-packed": ("nf4-packed", {}, {}),
    "lora": ("bf16", {}, {}),
    "dora": ("nf4", {"use_dora": True}, {}),
    "rslora": ("nf4", {"use_rslora": True}, {}),
    "neftune": ("nf4", {}, {"neftune_alpha": 5}),
    "dropout": ("nf4", {"dropout": 0.1}, {}),
    "attention-only": ("nf4", {"target_modules": ["q_proj", "v_proj"], "rank": 2}, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_adapter_kind_goes_from_a_step_to_a_merged_model(trained, kind):
    """Merged: what was aimed at changed, nothing else did, and the logits are those of base and adapter."""
    weights, lora, more = KINDS[kind]
    start = trained.base if weights == "nf4" else trained.plain
    out = trained.train(kind, base=start, base_weights=weights, lora=PARAMS.lora | lora, **more)
    merge(trained.plain, out, trained.folder / f"merged-{kind}")
    before = load_file(trained.plain / "model.safetensors")
    after = load_file(trained.folder / f"merged-{kind}" / "model.safetensors")
    aimed = ("q_proj", "v_proj") if kind == "attention-only" else ("proj",)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if any(part in name for part in aimed)}
    assert all(tensor.dtype == torch.bfloat16 for tensor in after.values())
    live = AutoModelForCausalLM.from_pretrained(trained.plain, dtype=torch.float32)
    untuned = live(torch.arange(40)[None]).logits
    live = PeftModel.from_pretrained(live, out / "adapter")
    merged = AutoModelForCausalLM.from_pretrained(trained.folder / f"merged-{kind}", dtype=torch.float32)
    with torch.no_grad():
        expected, found = (model(torch.arange(40)[None]).logits for model in (live, merged))
    moved = (expected - untuned).abs().max()
    assert (found - expected).abs().max() < 0.15 * moved
    losses = [line["loss"] for line in history(trained.folder / f"{kind}.jsonl")]
    assert losses[-1] < losses[0]


def test_noise_dropout_and_kinds_change_what_is_trained(trained):
    """None of the settings is taken and then ignored; how the base is stored changes no bit."""
    digests = {kind: trained.digest(kind)[0] for kind in KINDS if (trained.folder / kind).exists()}
    if len(digests) < len(KINDS):
        pytest.skip("needs the runs of the test before")
    assert digests.pop("qlora-packed") == digests["qlora"]  # in 4 bits or expanded, the same training
    assert len(set(digests.values())) == len(digests)


def test_the_best_adapter_is_kept_and_training_stops_in_time(base, contract, tmp_path, monkeypatch):
    """Held-out losses 3, 2, 2.5, 2.6: with patience 2 the phase ends after step 4 with the adapter of step 2."""
    bench = Bench(tmp_path, base, contract, rows=24)
    with monkeypatch.context() as patch:
        losses = iter([3.0, 2.0, 2.5, 2.6, 9.0, 9.0])
        patch.setattr(module, "heldout_loss", lambda *_: next(losses))
        bench.train("early", evaluate_every=1, patience=2)
    summary = read_json(tmp_path / "early.json")
    assert (summary["steps"], summary["planned_steps"], summary["kept_step"]) == (4, 6, 2)
    assert summary["heldout_loss"] == 2.0
    assert [line["heldout_loss"] for line in history(tmp_path / "early.jsonl")] == [3.0, 2.0, 2.5, 2.6]
    assert not (tmp_path / "work-early").exists()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_after(patch, 3)
        bench.train("two", checkpoint_steps=1)
    second = next((tmp_path / "work-two").glob("*/step-000002"))
    kept = (tmp_path / "early" / "adapter/adapter_model.safetensors").read_bytes()
    assert kept == (second / "adapter/adapter_model.safetensors").read_bytes()


def test_a_loss_that_is_not_a_number_stops_with_advice(trained):
    with pytest.raises(GradusError, match=r"Lower train.learning_rate"):
        trained.train("nan", learning_rate=1e30, warmup_share=0.0, max_gradient_norm=1e30)
    assert not (trained.folder / "nan").exists()
    assert not list(trained.folder.glob("nan.json*"))


def test_an_exploding_loss_is_told_from_a_harder_phase():
    good = [2.0 / (1 + n / 10) for n in range(40)]
    check_loss(good)
    check_loss([*good, 9.0, 0.5, 0.5])  # one bad step
    check_loss([*good, *[0.9] * 20])  # harder rows
    with pytest.raises(
        GradusError, match=r"has exploded: 7.50 over the last 10 steps \(to step 50 .* Lower train.learning"
    ):
        check_loss([*good, *[7.5] * 10])


# --- a kill -9 at any moment

# imports once, and trains in a process of its own for each line: torch has no threads yet when it is forked
DRIVER = """
import dataclasses, json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
from tests.unit.test_phase import PARAMS, train_phase
given = json.loads(sys.argv[2])
given["params"] = dataclasses.replace(PARAMS, **given["params"])
for _ in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(2, 1)
        try:
            train_phase(**given)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def start_driver(bench, name, **changes):
    given = {key: str(v) if hasattr(v, "parts") else v for key, v in bench.arguments(name, **changes).items()}
    command = [sys.executable, "-c", DRIVER, str(ROOT), json.dumps({**given, "params": changes})]
    with open(bench.folder / "driver.log", "w") as log:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)


def start_training(driver):
    """Return the process id of a training that goes on from what the one before left."""
    driver.stdin.write("\n")
    driver.stdin.flush()
    return int(driver.stdout.readline())


CHANGES = {"checkpoint_steps": 1, "evaluate_every": 3, "lora": PARAMS.lora | {"dropout": 0.05}, "neftune_alpha": 5}


def test_killed_at_five_moments_it_comes_to_the_same_bytes(base, contract, tmp_path):
    """Seeded moments, from the writing of a checkpoint to the middle of a step; dropout and noise on, so that the
    random numbers must be the same ones, too."""
    bench = Bench(tmp_path, base, contract, rows=96)
    bench.train("whole", **CHANGES)
    lots = random.Random(20261122)
    begun = []
    driver = start_driver(bench, "killed", **CHANGES)
    for kill in range(5):
        training = start_training(driver)
        target = 4 * kill + lots.randrange(2, 5)  # checkpoints there are before the clock of this kill starts
        while psutil.pid_exists(training) and not any(
            int(p.name[5:]) >= target for p in (tmp_path / "work-killed").glob("*/step-*")
        ):
            time.sleep(0.002)
        time.sleep(lots.random() * 0.1)
        os.kill(training, signal.SIGKILL)
        assert driver.stdout.readline() == f"{-signal.SIGKILL}\n"
        assert not (tmp_path / "killed").exists()
        begun.append(max(int(p.name[5:]) for p in (tmp_path / "work-killed").glob("*/step-*")))
    start_training(driver)
    out, _ = driver.communicate()
    assert out == "0\n", (tmp_path / "driver.log").read_text()[-2000:]
    assert bench.digest("killed") == bench.digest("whole")
    assert begun == sorted(set(begun))  # each attempt came further than the one before
    assert read_json(tmp_path / "killed.json")["resumed_at_step"] == begun[-1]
    one, other = (history(tmp_path / f"{name}.jsonl") for name in ("whole", "killed"))
    assert [(line["step"], line["loss"]) for line in one] == [(line["step"], line["loss"]) for line in other]
    assert not (tmp_path / "work-killed").exists()


class Killed(Exception):
    """Stands for the end of a process where a real kill would cost seconds."""


def stop_after(monkeypatch, steps):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == steps:
            raise Killed

    monkeypatch.setattr(module.PhaseCallback, "on_step_end", on_step_end, raising=False)


def test_a_damaged_checkpoint_is_not_used(base, contract, tmp_path, monkeypatch, caplog):
    bench = Bench(tmp_path, base, contract, rows=32)
    bench.train("whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_after(patch, 6)
        bench.train("damaged", checkpoint_steps=1)
    folders = sorted((tmp_path / "work-damaged").glob("*/step-*"))
    assert [folder.name for folder in folders] == ["step-000004", "step-000005"]  # older ones are gone
    weights = folders[-1] / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        bench.train("damaged", checkpoint_steps=1)
    assert "step-000005 is not used" in caplog.text
    assert read_json(tmp_path / "damaged.json")["resumed_at_step"] == 4
    assert bench.digest("damaged") == bench.digest("whole")


def test_checkpoints_of_other_settings_or_rows_are_not_gone_on_from(base, contract, tmp_path, monkeypatch):
    bench = Bench(tmp_path, base, contract, rows=16)

    def killed():
        with monkeypatch.context() as patch, pytest.raises(Killed):
            stop_after(patch, 3)
            bench.train("other", checkpoint_steps=1)

    killed()
    bench.train("other", learning_rate=0.005)
    assert read_json(tmp_path / "other.json")["resumed_at_step"] == 0
    killed()
    rows = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(rows.replace("bucket-9", "bucket-x"))
    bench.train("other", checkpoint_steps=1)
    assert read_json(tmp_path / "other.json")["resumed_at_step"] == 0
    (tmp_path / "rows.jsonl").write_text(rows)
    killed()
    bench.train("other", checkpoint_steps=7, report_to="none", checkpoint_minutes=5)  # when it is written down is all
    assert read_json(tmp_path / "other.json")["resumed_at_step"] == 2


def test_progress_goes_to_a_tracker_when_asked(base, contract, tmp_path, monkeypatch):
    """An unknown tracker stops the training before any step; tests/unit/test_tracking.py has those that are known."""
    bench = Bench(tmp_path, base, contract, rows=4)
    with pytest.raises(GradusError, match=r"train.report_to: no-such-tracker cannot be used here: .*tensorboard"):
        bench.train("tracked", report_to="no-such-tracker")


def test_unsloth_is_refused_with_advice_where_it_is_not(trained):
    with pytest.raises(GradusError, match=r"train.backend: unsloth cannot be used here .* set train.backend: peft"):
        trained.train("unsloth", backend="unsloth")


# --- what must not change a bit


@pytest.mark.parametrize("weights", ["nf4", "nf4-packed"])
def test_a_cpu_without_bf16_trains_in_fp32_and_goes_on_exactly(
    base, contract, tmp_path, monkeypatch, weights, cpu_with
):
    bench = Bench(tmp_path, base, contract, rows=24)
    given = {"base": base if weights == "nf4-packed" else None, "base_weights": weights, "device": "cpu"}
    cpu_with("amx_bf16")
    bench.train("bf16", **given)
    cpu_with("avx2", "fma")
    bench.train("fp32", **given)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_after(patch, 4)
        bench.train("stopped", checkpoint_steps=1, **given)
    bench.train("stopped", **given)
    assert read_json(tmp_path / "stopped.json")["resumed_at_step"] == 3
    assert bench.digest("stopped") == bench.digest("fp32") != bench.digest("bf16")
    one, other = (
        [line["loss"] for line in history(tmp_path / f"{name}.jsonl") if "loss" in line] for name in ("fp32", "bf16")
    )
    assert one == pytest.approx(other, rel=0.05)
    assert all(
        tensor.dtype == torch.float32
        for tensor in load_file(bench.folder / "fp32/adapter/adapter_model.safetensors").values()
    )


def test_a_checkpoint_in_bf16_is_not_gone_on_from_in_fp32(base, contract, tmp_path, monkeypatch, cpu_with):
    bench = Bench(tmp_path, base, contract, rows=16)
    cpu_with("amx_bf16")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_after(patch, 3)
        bench.train("moved", checkpoint_steps=1, device="cpu")
    cpu_with("avx2")
    bench.train("moved", device="cpu")
    assert read_json(tmp_path / "moved.json")["resumed_at_step"] == 0


@pytest.mark.parametrize("changes", [{"optimizer": "adamw8bit"}, {"base_weights": "nf4-packed"}])
def test_a_stopped_training_goes_on_exactly(base, contract, tmp_path, monkeypatch, changes):
    """8-bit moments, and an adapter on packed weights (which TRL would round): what was saved is what goes on."""
    bench = Bench(tmp_path, base, contract, rows=24)
    start = {"base": base} if "base_weights" in changes else {}
    bench.train("whole", **start, **changes)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_after(patch, 4)
        bench.train("stopped", checkpoint_steps=1, **start, **changes)
    bench.train("stopped", **start, **changes)
    assert read_json(tmp_path / "stopped.json")["resumed_at_step"] == 3
    assert bench.digest("stopped") == bench.digest("whole")


def test_a_packed_phase_starts_from_the_adapter_that_the_one_before_left(trained):
    """At a learning rate of next to nothing, the adapter stays the previous one, not its bf16."""
    packed = {"base_weights": "nf4-packed", "learning_rate": 1e-12}
    trained.train("still", "medium", trained.folder / "easy", trained.plain, **packed)
    one, other = (load_file(trained.folder / name / "adapter/adapter_model.safetensors") for name in ("easy", "still"))
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], rtol=1e-6, atol=1e-9), name


def test_checkpointing_changes_no_bit_with_dropout_and_noise(trained):
    """The whole phase: loss, gradients, and the random numbers of each step."""
    more = {"lora": PARAMS.lora | {"dropout": 0.1}, "neftune_alpha": 5}
    trained.train("kept", **more)
    trained.train("computed-again", gradient_checkpointing=True, **more)
    assert trained.digest("computed-again") == trained.digest("kept")


def test_two_visible_gpus_are_no_reason_to_fail(trained, monkeypatch):
    """Trainer counts the GPUs that it sees, and TRL refuses more than one."""
    real = module.SFTConfig

    def with_two(**settings):
        args = real(**settings)
        assert args.n_gpu < 2
        args._n_gpu = 2
        return args

    monkeypatch.setattr(module, "SFTConfig", with_two)
    trained.train("two-gpus")
    assert trained.digest("two-gpus") == trained.digest("easy")


def test_ligers_kernels_stay_off_on_a_cpu(trained, monkeypatch):
    """They are for GPUs only, and may be installed all the same."""
    there = module.importlib.util.find_spec
    found = lambda name, *more: True if name == "liger_kernel" else there(name, *more)  # noqa: E731
    monkeypatch.setattr(module.importlib.util, "find_spec", found)

    def refuse(**settings):
        raise InterruptedError(f"liger {settings['use_liger_kernel']}")

    monkeypatch.setattr(module, "SFTConfig", refuse)
    with pytest.raises(InterruptedError, match="liger False"):
        trained.train("liger")


# --- memory


def test_a_training_that_does_not_fit_is_refused_with_figures(trained, monkeypatch):
    from scripts.train import estimate

    train = dataclasses.asdict(PARAMS)
    arguments = (
        trained.folder / "rows.jsonl",
        trained.folder / "valid.jsonl",
        trained.plain,
        trained.folder / "contract.json",
        train,
        {"phases": 3, "trainings": 1, "merged": 1, "exported": 2, "quants": ["Q4_K_M"] * 3},
    )
    estimate.estimate(*arguments, None, "auto", trained.folder / "estimate.json")
    found = read_json(trained.folder / "estimate.json")
    assert found["gradient_checkpointing"] is False
    assert set(found["bytes"]) == {"weights", "adapter", "activations", "vocabulary", "libraries", "margin"}
    estimate.estimate(*arguments, None, "auto", trained.folder / "pairs.json", wrong_tokens=900)
    pairs = read_json(trained.folder / "pairs.json")  # a pair has the wrong answer in its pack
    before, after = (each["largest_micro_batch"]["longest"] for each in (found, pairs))
    assert after == before + 900
    assert pairs["bytes"]["activations"] > 5 * found["bytes"]["activations"]
    with pytest.raises(
        GradusError, match=r"needs about \d\.\d GiB of memory \(weights .* only 0.5 GiB are free. Lower train.micro"
    ):
        estimate.estimate(*arguments, 0.5, "auto", trained.folder / "refused.json")
    assert not (trained.folder / "refused.json").exists()
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(GradusError, match=r"of disk space, but only 0.0 GiB are free"):
        estimate.estimate(*arguments, None, "auto", trained.folder / "refused.json")


@pytest.mark.parametrize(("flag", "size"), [("amx_bf16", 2), ("avx2", 4)])
def test_the_estimate_counts_what_autograd_saves(trained, cpu_with, flag, size):
    """Against the real thing: the bytes that a real forward of the same shape keeps for backward."""
    cpu_with(flag)
    from scripts.train.estimate import count_bytes
    from scripts.train.model import LoraParams, attach_adapter, load_base

    lora = LoraParams(**PARAMS.lora)
    parts = count_bytes(trained.plain, lora, "nf4", (4, 60, 100), "rows")
    model = attach_adapter(load_base(trained.base, "cpu", "eager", False), lora, None, 1)
    kept, storages = [], {}

    def note(tensor):
        kept.append(tensor)
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    inputs = {"input_ids": torch.ones((4, 60), dtype=torch.long), "attention_mask": torch.ones((4, 60))}
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=size == 2),
        torch.autograd.graph.saved_tensors_hooks(note, lambda t: t),
    ):
        hidden = model.get_base_model().get_decoder()(**inputs, use_cache=False).last_hidden_state
    measured = sum(size for pointer, size in storages.items() if pointer not in own)
    assert hidden.shape == (4, 60, 64)
    assert parts["activations"] == pytest.approx(measured, rel=0.25)
    assert parts["weights"] == size * sum(p.numel() for p in model.parameters() if not p.requires_grad)
