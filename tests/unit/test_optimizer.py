"""The optimizer: its state through a file and on, for each one that the config offers; what the Trainer is told."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from scripts.config.schema import load_schema
from scripts.train.checkpoint import load_optimizer, save_optimizer
from scripts.train.train_phase import optimizer_name

OFFERED = load_schema()["properties"]["train"]["properties"]["optimizer"]["enum"]


def make(name, tmp_path):
    """A model with one weight large enough for 8 bits and one that is not, and the optimizer that training takes."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(96, 96), torch.nn.Linear(96, 8, bias=False))
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, optim=optimizer_name(name, "cpu"), learning_rate=0.01, weight_decay=0.1
    )
    return model, Trainer(model=model, args=args).create_optimizer()


def take_steps(model, optimizer, numbers):
    for number in numbers:
        torch.manual_seed(number)
        model(torch.randn(16, 96)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", OFFERED)
def test_state_goes_through_a_file_and_on_to_the_same_bits(name, tmp_path):
    whole, optimizer = make(name, tmp_path)
    take_steps(whole, optimizer, range(6))
    first, optimizer = make(name, tmp_path)
    take_steps(first, optimizer, range(3))
    save_optimizer(optimizer, tmp_path / "state.safetensors")
    assert (name == "adamw8bit") == any(
        value.dtype == torch.uint8
        for values in optimizer.state.values()
        for value in values.values()
        if torch.is_tensor(value)
    )
    second, optimizer = make(name, tmp_path)
    second.load_state_dict(first.state_dict())
    load_optimizer(optimizer, tmp_path / "state.safetensors")
    save_optimizer(optimizer, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "state.safetensors").read_bytes()
    take_steps(second, optimizer, range(3, 6))
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_state_that_a_file_cannot_hold_is_not_dropped(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    optimizer.state[weight]["more"] = "words"
    with pytest.raises(TypeError, match="the optimizer's more is 'words'"):
        save_optimizer(optimizer, tmp_path / "state.safetensors")


def test_on_cuda_it_is_the_fused_one():
    assert optimizer_name("adamw", "cuda") == "adamw_torch_fused"
    assert optimizer_name("adamw", "cpu") == "adamw_torch"
