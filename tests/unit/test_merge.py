"""Merging and rounding, one tensor at a time: the bytes are those of the whole model."""

import filecmp
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from scripts.common.errors import GradusError
from scripts.common.weights import find_tensors, read_tensor, replace_tensors
from scripts.export.hf import require_weights
from scripts.export.merge import merge
from scripts.train.model import LoraParams
from scripts.train.round_base import round_base
from tests.unit.adapters import adapter_for, whole


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_a_merge_has_the_bytes_of_pefts(base, untied, tmp_path, kind):
    """In one file and in several, which stay as they are in the base."""
    for source in (base, untied):
        place = tmp_path / source.parent.name
        lora = LoraParams(4, 8, 0.0, "all-linear", use_dora=kind == "dora", use_rslora=kind == "rslora")
        adapter_for(source, place / "trained", lora)
        merge(source, place / "trained", place / "merged")
        model = whole(source, place / "trained/adapter", torch.float32).merge_and_unload(safe_merge=True)
        model.to(torch.bfloat16).save_pretrained(place / "expected")
        before, after, expected = map(find_tensors, (source, place / "merged", place / "expected"))
        assert {name: file.name for name, file in before.items()} == {name: file.name for name, file in after.items()}
        assert after.keys() == expected.keys()
        equal = {name for name in after if torch.equal(read_tensor(after[name], name), read_tensor(before[name], name))}
        assert len(after) - len(equal) == 14
        assert all(torch.equal(read_tensor(after[n], n), read_tensor(expected[n], n)) for n in after)
    place = tmp_path / base.parent.name
    assert filecmp.cmp(place / "merged/model.safetensors", place / "expected/model.safetensors", shallow=False)


def test_an_adapter_of_what_cannot_be_merged_alone_is_refused(base, untied, tmp_path):
    adapter_for(base, tmp_path / "tied", LoraParams(4, 8, 0.0, ["embed_tokens", "q_proj"]))
    with pytest.raises(GradusError, match=r"changes model.embed_tokens, whose weights this base shares"):
        merge(base, tmp_path / "tied", tmp_path / "merged")
    adapter_for(untied, tmp_path / "more", LoraParams(4, 8, 0.0, ["q_proj"]))
    file = tmp_path / "more/adapter/adapter_model.safetensors"
    save_file({**load_file(file), "base_model.model.lm_head.weight": torch.zeros(2, 2)}, file, {"format": "pt"})
    with pytest.raises(GradusError, match="lm_head.weight is not of a LoRA layer"):
        merge(untied, tmp_path / "more", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_output_layer_is_rounded_and_merged_as_it_is_in_the_whole_model(untied, tmp_path):
    round_base(untied, tmp_path / "rounded")
    before, after = find_tensors(untied), find_tensors(tmp_path / "rounded")
    changed = {name for name in before if not torch.equal(load_file(before[name])[name], load_file(after[name])[name])}
    assert before.keys() == after.keys()
    assert len(changed) == 14  # as bitsandbytes does, all linear layers but the output layer
    assert "lm_head.weight" not in changed
    adapter_for(untied, tmp_path / "trained", LoraParams(4, 8, 0.0, ["lm_head", "q_proj"]))
    merge(untied, tmp_path / "trained", tmp_path / "merged")
    expected = whole(untied, tmp_path / "trained/adapter", torch.float32).merge_and_unload().to(torch.bfloat16)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.bfloat16)
    assert all(torch.equal(value, merged.state_dict()[name]) for name, value in expected.state_dict().items())


def test_a_tensor_of_another_shape_is_not_written(untied, tmp_path):
    shutil.copytree(untied, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"model.norm.weight is BF16 \[64\], not torch.bfloat16 \[3\]"):
        replace_tensors(tmp_path / "copy", [("model.norm.weight", torch.zeros(3, dtype=torch.bfloat16))])


def test_merged_files_are_the_bases_but_for_the_card(base, tmp_path):
    adapter_for(base, tmp_path / "trained", LoraParams(4, 8, 0.0, ["q_proj"]))
    merge(base, tmp_path / "trained", tmp_path / "merged")
    left = {file.name for file in base.iterdir()} - {file.name for file in (tmp_path / "merged").iterdir()}
    assert left == {"base.json"}
    assert json.loads((tmp_path / "merged/config.json").read_text())["dtype"] == "bfloat16"


def test_a_folder_that_lacks_a_weight_is_not_put_in_its_place(base, untied, tmp_path):
    require_weights(base)
    require_weights(untied)
    shutil.copytree(base, tmp_path / "lacking")
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.7.mlp.up_proj.weight"] = tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, tmp_path / "lacking/model.safetensors", {"format": "pt"})
    with pytest.raises(GradusError, match="1 missing_keys, such as model.layers.1.mlp.up_proj.weight"):
        require_weights(tmp_path / "lacking")
