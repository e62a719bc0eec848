"""`make bench` on the tiny model: the ways run, are judged alike, and the levers race. LLaMA-Factory is not installed for it."""

import dataclasses
import venv

import pytest

from scripts.bench.levers import build, race
from scripts.bench.training import install_llamafactory, judge, run, summarize
from scripts.progress.output import Outputs
from scripts.train.model import LoraParams
from scripts.train.sft import make_dataset
from tests.unit.test_phase import PARAMS, Bench


@pytest.fixture(scope="module")
def bench(base, contract, tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench"), base, contract, rows=16)


def test_a_user_is_told_if_llamafactory_is_left_out(monkeypatch, tmp_path, capsys):
    def create(folder, **_):  # where pip fails
        (folder / "bin").mkdir(parents=True)
        (folder / "bin/python").write_text("#!/bin/sh\necho no index; exit 1\n")
        (folder / "bin/python").chmod(0o755)

    monkeypatch.setattr(venv, "create", create)
    assert install_llamafactory(tmp_path / "venv") is None
    (tmp_path / "output").mkdir()
    (tmp_path / "output/99999999").write_text(f"a warning\n{capsys.readouterr().err}")
    (told,) = Outputs(tmp_path / "output").messages(1, ())
    assert told == "Gradus: LLaMA-Factory cannot be installed here and is left out: no index"


@pytest.mark.parametrize("way", ["ours", "tutorial", "tutorial-tuned"])
def test_each_way_trains_the_same_rows_and_is_judged(bench, way):
    output = bench.folder / way
    output.mkdir()
    train = {**dataclasses.asdict(PARAMS), "schedule": "constant_with_warmup"}
    job = {
        "way": way,
        "tuned": way == "tutorial-tuned",
        "rows": [record.to_json() for record in bench.records],
        "valid": str(bench.folder / "valid.jsonl"),
        "base": str(bench.plain),
        "rounded": str(bench.base),
        "contract": str(bench.folder / "contract.json"),
        "system_prompt": "Be brief.",
        "train": train,
        "threads": 2,
        "batch_size": 4,
        "learning_rate": 0.02,
        "rank": 4,
        "alpha": 8,
        "seed": 1,
        "output": str(output),
    }
    found = run(way.partition("-")[0], job)
    assert 0 < found["seconds_steps"] < found["seconds_all"]
    assert found["peak_gib"] > 0.2
    loss, tokens = judge(output / "adapter", job)
    assert tokens == sum(len(record.response) + 1 for record in bench.records[:2])
    assert loss < 5.5  # ln(259) = 5.56 is a guess


def test_the_slower_of_our_runs_is_compared():
    ways = {
        "ours": {"tokens_per_s": 500, "heldout_loss": 0.70},
        "ours-seed2": {"tokens_per_s": 400, "heldout_loss": 0.71},
        "tutorial": {"tokens_per_s": 100, "heldout_loss": 0.60},
    }
    assert summarize(ways) == {"tutorial": {"times_as_fast": 4.0, "heldout_loss_difference": 0.1, "no_worse": False}}


def test_levers_race_and_compute_the_same_thing(bench, contract):
    from transformers import AutoTokenizer

    ways = build(str(bench.plain), str(bench.base), LoraParams(**PARAMS.lora))
    del ways["torch.compile of norms and MLP"]  # compiles for a minute
    data = make_dataset(bench.records, AutoTokenizer.from_pretrained(bench.plain), contract, 128)
    rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in data]
    found = race(ways, [rows[i : i + 4] for i in range(0, 16, 4)], warm_up=1)
    assert list(found) == list(ways)
    assert found["the default"]["ratio"] == 1
    losses = {name: lever["loss"] for name, lever in found.items()}
    assert max(losses.values()) - min(losses.values()) < 0.05, losses
