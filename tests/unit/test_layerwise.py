"""Predictions, computed layer by layer: to the bit those of the whole model, with one layer in memory."""

from contextlib import nullcontext

import pytest
import torch
from safetensors import safe_open
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from transformers import AutoConfig, AutoModelForCausalLM

from scripts.common import empty_model, layerwise
from scripts.common.empty_model import EmptyModel
from scripts.common.layerwise import predict
from scripts.train.model import LoraParams
from tests.unit.adapters import adapter_for, whole

ROWS = [[3, 9, 40, 7], [5, 3, 77, 80, 12, 6, 2]]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(None, torch.bfloat16), ("lora", torch.float32), ("lora", torch.bfloat16), ("dora", torch.float32)],
)
def test_layer_by_layer_is_the_whole_model_to_the_bit(base, untied, tmp_path, kind, dtype, monkeypatch):
    monkeypatch.setattr(layerwise, "_predict_whole", None)  # not taken
    for source in (base, untied):
        adapter = None
        if kind:
            adapter_for(source, tmp_path / source.parent.name, LoraParams(4, 8, 0.0, "all-linear", kind == "dora"))
            adapter = tmp_path / source.parent.name / "adapter"
        model = whole(source, adapter, dtype)
        found = list(predict(source, adapter, ROWS, [2, 0], dtype))
        with torch.no_grad():
            for row, keep, logits in zip(ROWS, [2, 0], found, strict=True):
                assert torch.equal(logits, model(input_ids=torch.tensor([row]), logits_to_keep=keep).logits[0])


def test_layers_of_other_kinds_get_what_the_model_gives_them(base, tmp_path):
    """Gemma 2: two kinds of attention, scaled embeddings, capped logits; Falcon-H1: layers that return more."""
    common = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    common |= {"num_key_value_heads": 1, "num_hidden_layers": 3, "head_dim": 16}
    ssm = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "lm_head_multiplier": 0.3}
    for kind, more in (("gemma2", {"sliding_window": 3}), ("qwen3", {}), ("falcon_h1", ssm)):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **common, **more), dtype=torch.bfloat16)
        model.save_pretrained(tmp_path / kind)
        model = whole(tmp_path / kind, None, torch.float32)
        found = list(predict(tmp_path / kind, None, ROWS, [0, 0], torch.float32))
        with torch.no_grad():
            for row, logits in zip(ROWS, found, strict=True):
                assert torch.equal(logits, model(input_ids=torch.tensor([row])).logits[0]), kind


def test_one_layer_at_a_time_has_weights(base):
    seen = []

    def watch(model):
        def note(layer, _):
            seen.append(sum(not p.is_meta for other in model.model.layers for p in other.parameters()))

        for layer in model.model.layers:
            layer.register_forward_pre_hook(note)

    list(predict(base, None, ROWS, [1, 1], torch.float32, watch))
    assert seen[:4] == [9] * 4  # 7 matrices and 2 norms of a layer


@pytest.mark.parametrize("kind", [None, "lora", "dora"])
def test_everything_is_computed_on_the_device(base, untied, tmp_path, monkeypatch, kind):
    """torch's fake tensors know their device, and refuse to compute with those of another."""

    def read(file, name):
        with safe_open(file, "pt") as handle:
            return torch.empty(handle.get_slice(name).get_shape(), dtype=torch.bfloat16)

    def empty(*given):  # PEFT moves weights in a way that fake ones do not bear
        with unset_fake_temporarily() if kind else nullcontext():
            made = EmptyModel(*given[:3], *([] if kind else given[3:]))
        if kind:
            made.device = torch.device(given[3])
            for name, buffer in list(made.model.named_buffers()):
                module, _, key = name.rpartition(".")
                setattr(made.model.get_submodule(module), key, torch.empty(buffer.shape, device=given[3]))
        return made

    for source in (base, untied):
        folder = tmp_path / source.parent.name
        if kind:
            adapter_for(source, folder, LoraParams(4, 8, 0.0, "all-linear", kind == "dora"))
        with monkeypatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True):
            patch.setattr(empty_model, "read_tensor", read)
            patch.setattr(layerwise, "EmptyModel", empty)
            walk = layerwise.Layerwise(source, folder / "adapter" if kind else None, ROWS, torch.float32, "lazy:0")
            assert {buffer.device.type for buffer in walk.model.buffers()} == {"lazy"}
            walk.run()
            logits = walk.logits(1, 2)
            assert (logits.device.type, tuple(logits.shape)) == ("lazy", (2, walk.model.config.vocab_size))
