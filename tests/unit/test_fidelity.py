"""What the gates measure, and that they notice: each check is shown something broken."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scripts.common.errors import GradusError
from scripts.common.io import write_jsonl
from scripts.common.records import Record
from scripts.export.merge import merge
from scripts.fidelity.check_merge import check_merge, compare_tensors
from scripts.fidelity.check_stopping import least, shares
from scripts.fidelity.divergence import Divergence, probes
from scripts.fidelity.fidelity import collect
from scripts.fidelity.gate import hold
from scripts.fidelity.gates import GATES, explain, judge
from scripts.fidelity.quantization import flips, side_by_side

THRESHOLDS = {gate.threshold: 0.5 for gate in GATES.values() if isinstance(gate.threshold, str)}


def test_divergence_is_torchs_and_perplexity_transformers():
    numbers = torch.Generator().manual_seed(0)
    p, q = (torch.randn(7, 50, generator=numbers, dtype=torch.float64) * 3 for _ in range(2))
    targets = torch.randint(50, (7,), generator=numbers)
    gathered = Divergence()
    gathered.add(p[:3].numpy(), q[:3].numpy(), targets[:3].tolist())
    gathered.add(p[3:].numpy(), q[3:].numpy(), targets[3:].tolist())
    found = gathered.summary()
    each = torch.nn.functional.kl_div(q.log_softmax(1), p.log_softmax(1), reduction="none", log_target=True).sum(1)
    assert found["tokens"] == 7
    assert found["mean_kl"] == pytest.approx(each.mean().item(), abs=1e-6)
    assert found["max_kl"] == pytest.approx(each.max().item(), abs=1e-6)
    assert found["top1_agreement"] == pytest.approx((p.argmax(1) == q.argmax(1)).double().mean().item(), abs=1e-6)
    assert found["perplexity"] == pytest.approx(torch.nn.functional.cross_entropy(q, targets).exp().item(), rel=1e-5)
    assert found["reference_perplexity"] == pytest.approx(
        torch.nn.functional.cross_entropy(p, targets).exp().item(), rel=1e-5
    )


def test_a_model_is_at_no_distance_from_itself_whatever_is_padded():
    logits = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    padded = np.concatenate([logits, np.full((4, 3), -1e9, np.float32)], axis=1)
    gathered = Divergence()
    gathered.add(logits, padded, [1, 2, 3, 4])
    assert gathered.summary()["max_kl"] == 0
    assert gathered.summary()["top1_agreement"] == 1


def test_probes_are_a_stable_sample_of_whole_rows(base, contract):
    rows = [Record(f"what is {n}?", f"it is {n}", "qa") for n in range(20)]
    chosen = probes(str(base), contract, rows, 60)
    assert chosen == probes(str(base), contract, rows[::-1], 60)
    assert 2 <= len(chosen) < 20
    for ids, start in chosen:
        assert ids[-1] == contract.end_of_turn_id
        assert 0 < start < len(ids)
    with pytest.raises(GradusError, match="no held-out row"):
        probes(str(base), contract, [], 60)


def test_a_gate_says_value_threshold_step_and_what_to_do(tmp_path):
    facts = {
        "values": {"quant.mean_kl": 0.7, "quant.top1_agreement": 0.6, "quant.task_drop": None},
        "skipped": "no rows",
    }
    rows = judge("curriculum-1/quantization", facts, THRESHOLDS)
    assert [row["passed"] for row in rows] == [False, True, None]
    assert rows[2]["skipped"] == "no rows"
    text = explain([rows[0]])
    assert text.startswith("step quantize failed gate quant.mean_kl (curriculum-1/quantization)")
    assert "is 0.7, at most 0.5 is required; use a larger export.quant" in text
    file = tmp_path / "facts.json"
    file.write_text(json.dumps(facts))
    listed = collect({"curriculum-1/quantization": file}, THRESHOLDS)
    assert listed["passed"] is False
    assert {key for row in listed["gates"] for key in row} >= {"name", "value", "threshold", "passed", "step"}
    file.write_text(json.dumps({"values": {"quant.mean_kl": 0.5, "quant.task_drop": None}, "skipped": "no rows"}))
    assert collect({"x": file}, THRESHOLDS)["passed"] is True


def test_a_failed_gate_leaves_the_list_of_all_gates_in_a_file_of_its_own(tmp_path):
    def measured(check, gate, value):
        (tmp_path / f"{check}.json").write_text(json.dumps({"values": {gate: value}}))

    checks = ["labels", "template", "stopping"]
    measured("labels", "labels.prompt_trained", 0)
    measured("template", "template.system_differs", 1)
    assert hold("labels", tmp_path, checks, THRESHOLDS) == ["labels.prompt_trained"]
    assert not (tmp_path / "failed.json").exists()
    with pytest.raises(GradusError, match="step modelfile failed gate template.system_differs") as error:
        hold("template", tmp_path, checks, THRESHOLDS)
    assert str(tmp_path / "failed.json") in str(error.value)
    listed = json.loads((tmp_path / "failed.json").read_text())
    assert [row["passed"] for row in listed["gates"]] == [True, False]
    assert {path.name for path in tmp_path.iterdir()} == {"labels.json", "template.json", "failed.json"}
    hold("labels", tmp_path, checks, THRESHOLDS)
    assert (tmp_path / "failed.json").exists()  # another check still fails
    measured("template", "template.system_differs", 0)
    hold("template", tmp_path, checks, THRESHOLDS)
    assert not (tmp_path / "failed.json").exists()


def test_flips_are_counted_both_ways():
    before = [{"id": n, "exact": mark, "stopped": 1.0} for n, mark in enumerate([1, 1, 0, 0, 1])]
    after = [{"id": n, "exact": mark, "stopped": 0.0 if n else 1.0} for n, mark in enumerate([0, 1, 1, 0, 0])]
    found = flips(before, after, "exact")
    assert (found["worse"], found["better"], found["n"]) == (2, 1, 5)
    assert found["delta"] == pytest.approx(-0.2)
    assert found["stopped"] == pytest.approx(0.2)
    graded = flips([{**row, "exact": 0.5} for row in before], [{**row, "exact": 0.4} for row in after], "exact")
    assert (graded["worse"], graded["better"]) == (5, 0)
    loss = {"mean_kl": 0.01, "top1_agreement": 0.99}
    table = side_by_side({"bf16": loss, "Q8_0": loss}, {"bf16": before, "Q8_0": after}, "Q8_0", "exact", True, "test")
    assert table["values"] == {"quant.mean_kl": 0.01, "quant.top1_agreement": 0.99, "quant.task_drop": 0.2}
    empty = side_by_side({"bf16": loss}, {"bf16": []}, "bf16", "exact", True, "test")
    assert empty["values"]["quant.task_drop"] is None


def test_the_least_share_of_a_trained_model_that_stops_counts(tmp_path):
    for model, stopped in (("base", [False, False]), ("a-1", [True, True]), ("b-1", [True, False])):
        file = tmp_path / model / "Q8_0" / "test.answers.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text("".join(json.dumps({"stopped": s}) + "\n" for s in stopped))
    rows = shares([str(path) for path in sorted(tmp_path.rglob("*.jsonl"))])
    assert {(row["model"], row["share"]) for row in rows} == {("base", 0.0), ("a-1", 1.0), ("b-1", 0.5)}
    assert least(rows, ["a-1", "b-1"], "Q8_0", "test") == 0.5
    assert least(rows, ["a-1", "b-1"], "Q4_K_M", "test") is None


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """A base with its card, and an adapter of three large steps on it."""
    from scripts.train.model import LoraParams, attach_adapter, load_base

    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(base, folder / "base")
    (folder / "base/base.json").write_text(json.dumps({"source": "path:here", "sha256": "a" * 64}))
    model = attach_adapter(load_base(base, "cpu", "eager", False), LoraParams(4, 8, 0.0, "all-linear"), None, 1)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 3.0)
    ids = torch.arange(3, 40)[None]
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.save_pretrained(folder / "trained/adapter")
    shutil.copy(folder / "base/base.json", folder / "trained/base.json")
    merge(folder / "base", folder / "trained", folder / "merged")
    return folder


ROWS = [Record(f"say {word}", f"{word} {word}", "qa") for word in ("hi", "ho", "he")]


def test_a_good_merge_passes_and_a_wrong_one_does_not(trained, contract, tmp_path):
    def check(merged):
        adapter = trained / "trained/adapter"
        return check_merge(trained / "base", trained / "base", adapter, merged, ROWS, contract, 100, "cpu")

    good = check(trained / "merged")
    assert good["values"]["merge.targets_changed"] == 1
    assert good["values"]["merge.others_changed"] == good["values"]["merge.ties_broken"] == 0
    assert good["values"]["merge.mean_kl"] < 1e-3
    assert good["tensors"]["targeted"] == 14
    moved = check_merge(
        trained / "base", trained / "base", trained / "trained/adapter", trained / "base", ROWS, contract, 100, "cpu"
    )
    assert moved["values"]["merge.targets_changed"] == 0  # the base passes for nothing
    assert moved["values"]["merge.mean_kl"] > 10 * good["values"]["merge.mean_kl"]


@pytest.mark.parametrize("fault", ["other", "missing", "tie"])
def test_a_merge_that_touched_something_else_is_seen(trained, tmp_path, fault):
    shutil.copytree(trained / "merged", tmp_path / "merged")
    file = tmp_path / "merged/model.safetensors"
    tensors = load_file(file)
    if fault == "other":
        tensors["model.norm.weight"][3] += 0.25
    elif fault == "missing":
        del tensors["model.norm.weight"]
    else:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, file, {"format": "pt"})
    found = compare_tensors(trained / "base", trained / "trained/adapter", tmp_path / "merged")
    assert found["others_changed"] == ["lm_head.weight" if fault == "tie" else "model.norm.weight"]
    assert found["ties_broken"] == (fault == "tie")


def test_an_adapter_for_another_base_is_refused(trained, tmp_path):
    shutil.copytree(trained / "trained", tmp_path / "trained")
    (tmp_path / "trained/base.json").write_text(json.dumps({"source": "path:here", "sha256": "b" * 64}))
    with pytest.raises(GradusError, match=r"another base \(sha256 'bbb.* instead of 'aaa"):
        merge(trained / "base", tmp_path / "trained", tmp_path / "merged")
    (tmp_path / "trained/base.json").unlink()
    with pytest.raises(GradusError, match="no base.json"):
        merge(trained / "base", tmp_path / "trained", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_nothing_is_merged_into_packed_weights(trained, tmp_path):
    shutil.copytree(trained / "base", tmp_path / "base")
    config = json.loads((tmp_path / "base/config.json").read_text())
    (tmp_path / "base/config.json").write_text(json.dumps({**config, "quantization_config": {"load_in_4bit": True}}))
    with pytest.raises(GradusError, match="unquantized weights only"):
        merge(tmp_path / "base", trained / "trained", tmp_path / "merged")


def test_a_base_that_is_not_whole_is_refused(base, tmp_path):
    """A shard that the index names is gone; a weight is in no file; a file is cut short."""
    from transformers import AutoModelForCausalLM

    from scripts.train.prepare_base import check_folder, load

    sharded = tmp_path / "sharded"
    shutil.copytree(base, sharded)
    (sharded / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(sharded, max_shard_size="60KB")
    check_folder(sharded)
    gone = sorted(sharded.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(GradusError, match=f"names weights that are missing: {gone.name}"):
        check_folder(sharded)
    lacking = tmp_path / "lacking"
    shutil.copytree(base, lacking)
    tensors = load_file(lacking / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(GradusError, match="1 weights of the model are not in its files"):
        load(lacking, None)
    (lacking / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:-1000])
    with pytest.raises(GradusError, match="cannot be read"):
        load(lacking, None)


def test_importance_is_the_sum_of_squared_inputs_by_llama_cpps_names(base, contract, tmp_path):
    """Against the inputs computed by hand from the embeddings; and the file is what llama.cpp's tools read."""
    from transformers import AutoModelForCausalLM

    from scripts.common.tokens import TokenCounter
    from scripts.export.importance import gguf_names, measure, pick_rows, write_imatrix
    from scripts.export.quantize import read_imatrix

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    names = gguf_names(model, "llama", 2)
    assert names["model.layers.1.mlp.down_proj"] == "blk.1.ffn_down.weight"
    assert "lm_head" not in names
    assert len(names) == 14
    rows = pick_rows(TokenCounter(base, contract), ROWS, 10**6)
    assert len(rows) == 3
    assert len(pick_rows(TokenCounter(base, contract), ROWS, 1)) == 1
    sums = measure(base, rows, "llama", torch.float32)
    with torch.no_grad():
        first = model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.tensor(sum(rows, []))))
    expected = first.double().square().sum(0)
    assert torch.allclose(sums["blk.0.attn_q.weight"], expected, rtol=1e-5)
    assert torch.equal(sums["blk.0.attn_q.weight"], sums["blk.0.attn_v.weight"])
    tokens = sum(map(len, rows))
    write_imatrix(tmp_path / "importance.gguf", sums, tokens, 512, "train.jsonl")
    means, about = read_imatrix(tmp_path / "importance.gguf")
    assert np.allclose(means["blk.0.attn_q.weight"], (expected / tokens).numpy(), rtol=1e-5)
    assert about["quantize.imatrix.entries_count"] == 14
    assert about["quantize.imatrix.dataset"] == "train.jsonl"
    with pytest.raises(GradusError, match="no training row"):
        pick_rows(TokenCounter(base, contract), [], 10)


@pytest.mark.parametrize(("flag", "dtype"), [("amx_bf16", "bfloat16"), ("avx2", "float32")])
def test_importance_is_measured_in_what_the_cpu_multiplies(base, contract, tmp_path, caplog, cpu_with, flag, dtype):
    from scripts.export.importance import importance

    cpu_with(flag)
    write_jsonl(tmp_path / "rows.jsonl", (record.to_json() for record in ROWS))
    with caplog.at_level("INFO"):
        importance(base, tmp_path / "rows.jsonl", contract, 100, "llama", tmp_path / "importance.gguf", "cpu")
    assert f"computed in torch.{dtype} on cpu" in caplog.text


def test_labels_are_audited_by_the_code_that_trains(base, contract, monkeypatch):
    """Each fault is made where training would make it."""
    import dataclasses

    from transformers import AutoTokenizer

    from scripts.train import check_labels, packing, sft

    tokenizer = AutoTokenizer.from_pretrained(base)

    def audit(which=contract):
        return check_labels.check_labels(ROWS, tokenizer, which, 512)["values"]

    assert list(sft.make_dataset(ROWS, tokenizer, contract, 512)) == packing.label(ROWS, tokenizer, contract, 512)
    good = check_labels.check_labels(ROWS, tokenizer, contract, 512)
    assert set(good["values"].values()) == {0}
    shown = good["example"]["tokens"]
    assert "".join(token["token"] for token in shown if token["trained"]).endswith("<|im_end|>")
    assert not shown[0]["trained"]
    assert good["trained_tokens"] == sum(len(row.response.encode()) + 1 for row in ROWS)
    padded = dataclasses.replace(contract, pad_token="<|im_end|>", pad_token_id=2)
    assert audit(padded)["labels.padding_trained"] == 3
    right = packing.encode
    monkeypatch.setattr(packing, "encode", lambda *a: (right(*a)[0][:-1], [right(*a)[0][-1], *right(*a)[1]]))
    assert audit()["labels.prompt_trained"] == 3
    assert audit()["labels.text_differs"] == 3
    monkeypatch.setattr(packing, "encode", lambda *a: (right(*a)[0], right(*a)[1][:-1]))
    assert audit()["labels.end_untrained"] == 3


def test_publishing_takes_a_repository_and_a_token(monkeypatch):
    from scripts.export.publish import publish

    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(GradusError, match="hub.repo is not set"):
        publish("hf", None, True)
    with pytest.raises(GradusError, match="HF_TOKEN is not set"):
        publish("hf", "me/model", True)


def test_a_server_that_cannot_load_the_file_is_an_error_with_its_last_words(tmp_path):
    from scripts.fidelity.check_serving import serving

    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 64)
    with pytest.raises(GradusError, match="the server did not start: "), serving(tmp_path / "broken.gguf", 64, 1):
        pass


def test_a_large_model_has_time_to_load_and_to_answer_on_a_slow_machine():
    from scripts.fidelity.check_serving import patience

    small, large = patience(105_000_000, 256 + 128), patience(4_700_000_000, 1500 + 500)  # 135M and 7B in Q4_K_M
    assert 120 < min(small) < max(small) < 300
    assert large[0] > 4700 / 25  # MB, from a slow disk
    assert large[1] > 500 / 0.5 + 1500 / 5  # tokens a second of answer and prompt, half of what two slow cores do
    assert patience(4_700_000_000, 4000)[1] > 1.9 * large[1]


def test_what_a_merge_into_nf4_does_to_the_task_is_told_by_split_and_metric():
    from scripts.report.sections.fidelity import merge_deltas

    def found(value):
        return {"test": {"exact": {"value": value, "n": 4}}, "eval-unseen": {"exact": {"value": None, "n": 0}}}

    rows = merge_deltas({"base": found(0.0), "a-1": found(0.5), "a-1-nf4": found(0.75)}, [["a-1", "a-1-nf4"]])
    assert rows == [
        {"models": "a-1, a-1-nf4", "split": "test", "metric": "exact", "n": 4, "bf16": 0.5, "nf4": 0.75, "delta": 0.25}
    ]


def test_metadata_names_ones_own_files_and_their_licence():
    from scripts.common.about import data_license, data_sources

    config = {"data": {"files": ["a/rows.csv", {"path": "b.jsonl", "role": "eval"}], "license": "CC0-1.0"}}
    assert data_sources(config) == ["rows.csv", "b.jsonl"]
    assert data_license(config) == "CC0-1.0"
