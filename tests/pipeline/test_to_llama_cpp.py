"""The Hugging Face folder, and families on the way to llama.cpp.

This file runs last: it uses torch in this process, and what is forked off after that cannot use OpenMP.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.bench.families import FAMILIES, TOLERANCE, prove, table
from scripts.common.chat import read_contract
from scripts.common.records import read_records
from scripts.fidelity.check_gguf import check_gguf
from scripts.reproduce.reference import BASE_NAME

SLOW = "Qwen 3"  # like Qwen 2.5, which is tested here; `make families` takes it, too


def read(path):
    return json.loads(path.read_text())


def test_the_hugging_face_folder_loads_and_answers(reference):
    import torch
    from huggingface_hub import ModelCard
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = reference.results / "hf"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    row = json.loads((reference.results / "evaluate/tuned/bf16/test.answers.jsonl").read_text().splitlines()[0])
    records = [json.loads(line) for line in (reference.results / "curriculum/test.jsonl").read_text().splitlines()]
    prompt = next(r["prompt"] for r in records if r["id"] == row["id"])
    system = "You turn a request into one AWS CLI command."
    talk = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert inputs["input_ids"].shape[1] == row["prompt_tokens"]
    # greedy and bounded by generation_config.json; in fp32, because with random weights the best tokens are nearly tied, and
    # which one bf16 takes differs between CPUs
    out = model.float().generate(**inputs)[0, row["prompt_tokens"] :]
    assert len(out) <= 24
    assert row["text"].startswith(tokenizer.decode(out[:3]))  # llama.cpp's answer
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(reference.results / "base"), folder / "adapter"
    )
    with torch.no_grad():
        one, other = (m(**inputs).logits[0, -1].float().log_softmax(-1) for m in (model, adapted))
    assert (one.exp() * (one - other)).sum() < 0.01
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.base_model == BASE_NAME
    assert len(card.data.eval_results) == 15
    for words in ("## Limits", "| test | 4 | exact |", "pypi:awscli==1.46.3", system):
        assert words in card.text
    assert (folder / "model.safetensors").samefile(reference.results / "export/tuned/merged/model.safetensors")


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != SLOW])
def test_a_family_survives_the_way_to_llama_cpp(tmp_path, family):
    """Architectures with random weights: LoRA steps, merge, conversion, llama.cpp; predictions as transformers'."""
    found = prove(family, tmp_path)
    assert found["mean_kl"] <= TOLERANCE
    assert found["packed"]
    assert found["tensors"]["targeted_changed"] == found["tensors"]["targeted"] >= 16
    assert not found["tensors"]["others_changed"]
    assert f"| {family} |" in table({family: found})[-1]
    assert "proved" in table({family: found})[-1]


def test_the_proof_of_a_family_notices_a_conversion_that_lost_something(tmp_path, monkeypatch):
    """The positions of Llama 3.2 are scaled; a GGUF without that must not pass."""
    from scripts.bench import families

    def lossy(model, *arguments):
        config = read(Path(model) / "config.json")
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
        (Path(model) / "config.json").write_text(json.dumps(config))
        convert(model, *arguments)
        (Path(model) / "config.json").write_text(before)

    convert = families.convert
    before = ""

    def remember(base, trained, merged):
        nonlocal before
        merge(base, trained, merged)
        before = (Path(merged) / "config.json").read_text()

    merge = families.merge
    monkeypatch.setattr(families, "convert", lossy)
    monkeypatch.setattr(families, "merge", remember)
    assert prove("Llama 3.2", tmp_path)["mean_kl"] > TOLERANCE


@pytest.mark.parametrize("family", ["llama", "qwen"])
def test_a_checkpoint_of_make_sizes_goes_to_llama_cpp(tmp_path, monkeypatch, family):
    """Its vocabulary is larger than the tokenizer, as that of the real models is, and the adapter is the stand-in."""
    from transformers import Qwen2Config

    from scripts.bench import size_stages
    from scripts.gpu_check import shapes

    kind, *sizes, _, tied = shapes.SHAPES["tiny"]
    kind = Qwen2Config if family == "qwen" else kind
    monkeypatch.setitem(shapes.SHAPES, "tiny", (kind, *sizes, 152064 if family == "qwen" else 128256, tied))
    settings = {"shape": "tiny", "steps": 0, "tokens": 64, "threads": 1}
    for name in ("checkpoint", "round_base", "stand_in", "merge", "hf", "convert_gguf"):
        getattr(size_stages, name)(folder=tmp_path, **settings)
    merge = size_stages.check_merge(folder=tmp_path, **settings)
    assert merge["merge.targets_changed"] == 1 and merge["merge.others_changed"] == merge["merge.ties_broken"] == 0
    assert merge["merge.mean_kl"] < TOLERANCE
    gguf = size_stages.check_gguf(folder=tmp_path, **settings)
    assert gguf.pop("gguf.mean_kl") < TOLERANCE
    assert gguf == dict.fromkeys(gguf, 0)
    if family == "qwen":  # its tokenizer composes accents, and llama.cpp does not: a row must not have such text
        contract = read_contract(tmp_path / "contract.json")
        rows = [replace(record, prompt="cafe\u0301", id="") for record in read_records(tmp_path / "probes.jsonl")]
        found = check_gguf(tmp_path / "merged", tmp_path / "bf16.gguf", rows[:1], contract, 64, 1, True, wanted="cpu")
        assert (found["composes"], found["differing"][0].count("cafe\u0301")) == (True, 1)
        assert found["values"]["gguf.token_mismatches"] == 1
