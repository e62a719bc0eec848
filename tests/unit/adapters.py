"""Adapters with random weights, for tests of what is done with trained ones."""

import shutil

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from scripts.train.model import attach_adapter, load_base


def adapter_for(base, folder, lora):
    """An adapter with random weights, as a phase leaves one."""
    model = attach_adapter(load_base(base, "cpu", "eager", False), lora, None, 1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder / "adapter")
    shutil.copy(base / "base.json", folder / "base.json")


def whole(folder, adapter, dtype):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return (PeftModel.from_pretrained(model, str(adapter)) if adapter else model).eval()
