"""Estimate how much memory and disk space training needs, before it starts; stop the run if there is not enough.

In: training and validation rows, the bf16 base, the chat contract. Out: estimate.json, bytes by purpose.

The memory for the backward pass does not come from a formula: the model runs one forward pass on torch's meta device
(shapes without data), and the tensors that autograd saves are counted. This works for any architecture and adapter.
docs/training.md compares the estimate with the measured peak.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from scripts.common.chat import read_contract
from scripts.common.errors import GradusError
from scripts.common.io import write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import read_records
from scripts.train.fused import fuse_lora
from scripts.train.model import LoraParams, choose_attention, choose_device, lora_config
from scripts.train.packing import encode

GIB = 2**30
LIBRARIES = 800 * 2**20  # resident memory of Python with torch and transformers imported, before any model


def largest_micro_batch(lengths: Sequence[tuple[int, int]], token_budget: int) -> tuple[int, int, int]:
    """Return (rows, longest, completion tokens) of the largest micro-batch that could occur.

    `lengths`: (prompt tokens, completion tokens) of each row. The worst case is as many rows of the greatest length as
    fit the budget, all with the longest completion.
    """
    longest = max(prompt + completion for prompt, completion in lengths)
    rows = max(1, token_budget // longest)
    return rows, longest, rows * max(completion for _, completion in lengths)


def count_bytes(
    base: str | Path, lora: LoraParams, weights: str, shape: tuple[int, int, int], attention: str
) -> dict[str, int]:
    """Return bytes for weights, adapter, activations, vocabulary, and so on; `shape` is from `largest_micro_batch`."""
    rows, longest, completion = shape
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    saved: dict[Any, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        kept.append(tensor)  # so that no storage address is reused
        return tensor

    kept: list[torch.Tensor] = []
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention)
        head = model.get_output_embeddings().weight
        vocabulary = head.shape[0]
        whole = sum(p.numel() for p in model.parameters())
        linear = sum(
            m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m.weight is not head
        )
        adapted = get_peft_model(model, lora_config(lora), low_cpu_mem_usage=True)
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        for parameter in adapted.parameters():  # autocast does not support this device
            parameter.data = parameter.data.bfloat16()
        fuse_lora(adapted)
        frozen = {p.untyped_storage()._cdata for p in adapted.parameters()}
        tokens = torch.zeros((rows, longest), dtype=torch.long)
        mask = torch.zeros((rows, 1, longest, longest), dtype=torch.bfloat16)  # ready: computing one needs data
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model.get_decoder()(input_ids=tokens, attention_mask=mask, use_cache=False)
    activations = sum(size for key, size in saved.items() if key not in frozen)
    parts = {
        "weights": 2 * whole if weights != "nf4-packed" else int(2 * (whole - linear) + 0.52 * linear),
        "adapter": trained * 4 * 4,  # fp32: weights, gradients, Adam's two moments
        "activations": activations,
        # 128 rows at a time: logits in bf16 and fp32, and a copy for the exponential
        "vocabulary": min(completion, 128) * vocabulary * (2 + 4 + 4),
        "libraries": LIBRARIES,
    }
    # temporary gradients, kernels, and heap fragmentation: 30 % in the default run (docs/training.md)
    return {**parts, "margin": int(0.3 * sum(parts.values()))}


def disk_bytes(weights: int, adapter: int, phases: int) -> int:
    """Return the bytes that training and export write: a folder per phase and three checkpoints (each with the adapter
    and Adam's moments: 3 of the 4 parts of `adapter`), the rounded base, the merged model, and GGUFs in bf16 and
    quantized.
    """
    return (phases + 3) * adapter * 3 // 4 + 5 * weights


def free_memory(device: str) -> int:
    """Return the bytes available to a new process: of the machine, the container, or the GPU."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    free = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (allowed := limit.read_text().strip()) != "max":
        free = min(free, int(allowed) - int(used.read_text()))
    return free


def check_fit(parts: Mapping[str, int], free: int, disk: int, free_disk: int, settings: str) -> None:
    """Raise GradusError with the figures if there is not enough memory or disk space."""
    need = sum(parts.values())
    if need > free:
        listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
        raise GradusError(
            f"training needs about {need / GIB:.1f} GiB of memory ({listed}), but only {free / GIB:.1f} GiB are free. "
            f"{settings}, or use a smaller base_model. If you train on another machine, set train.memory_gib to its "
            "memory."
        )
    if disk > free_disk:
        raise GradusError(
            f"training and export need about {disk / GIB:.1f} GiB of disk space, but only {free_disk / GIB:.1f} GiB "
            "are free. Free up space, or work in a folder on a larger disk."
        )


def estimate(
    rows: str | Path,
    valid: str | Path,
    base: str | Path,
    contract_path: str | Path,
    train: Mapping[str, Any],
    phases: int,
    memory_gib: float | None,
    output: str | Path,
) -> None:
    """Write the estimate; raise GradusError if there is not enough memory or disk space.

    `train`: the training settings that the estimate depends on; `phases`: their number; `memory_gib`: the memory to
    count on, or None for what is free now.
    """
    device = choose_device()
    contract = read_contract(contract_path)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    encoded = [encode(tokenizer, contract, record) for file in (rows, valid) for record in read_records(file)]
    if not encoded:
        raise GradusError(f"{rows}: no rows to train on; see split.json and score.json for where they went")
    budget = train["micro_batch_tokens"]
    shape = largest_micro_batch([(len(a), len(b)) for a, b in encoded], budget)
    attention = choose_attention(train["attention"], device)
    if attention != "sdpa":  # `rows` computes the same products; flash attention saves less, and has no kernel here
        attention = "eager"
    parts = count_bytes(base, LoraParams(**train["lora"]), train["base_weights"], shape, attention)
    disk = disk_bytes(parts["weights"], parts["adapter"], phases)
    facts = {
        "bytes": parts,
        "memory_gib": round(sum(parts.values()) / GIB, 2),
        "disk_gib": round(disk / GIB, 2),
        "largest_micro_batch": dict(zip(("rows", "longest", "completion_tokens"), shape, strict=True)),
    }
    logging.info("%s", facts)
    output = Path(output)
    free_disk = shutil.disk_usage(next(p for p in output.parents if p.is_dir())).free
    free = int(memory_gib * GIB) if memory_gib else free_memory(device)
    advice = f"Lower train.micro_batch_tokens (now {budget}; a longer row is computed alone)"
    if train["base_weights"] != "nf4-packed":
        advice += ", set train.base_weights: nf4-packed"
    check_fit(parts, free, disk, free_disk, advice)
    write_json(output, facts)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        estimate(
            job.input.rows,
            job.input.valid,
            job.input.base,
            job.input.contract,
            job.params.train,
            job.params.phases,
            job.config["train"]["memory_gib"],
            job.output.estimate,
        )
