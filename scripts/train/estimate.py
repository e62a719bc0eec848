"""Say how much memory and disk training needs, before it starts; stop the run if that is not there.

In: the rows of every phase, the bf16 base, the chat contract. Out: estimate.json, bytes by what they are for.

What backward keeps is not guessed from a formula: the model runs its forward once on torch's meta device (shapes
without data), and what autograd saves is counted. That holds for any architecture and adapter. docs/training.md sets the
estimate against the measured peak.
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
from scripts.common.logs import logging_to
from scripts.common.records import read_records
from scripts.train.model import LoraParams, choose_attention, choose_device, lora_config
from scripts.train.trainer import encode, micro_batches

GIB = 2**30
LIBRARIES = 800 * 2**20  # resident memory of Python with torch and transformers imported, before any model


def largest_micro_batch(lengths: Sequence[tuple[int, int]], batch_size: int, token_budget: int) -> tuple[int, int, int]:
    """Return (rows, longest, completion tokens) of the micro-batch with the most tokens, padding counted.

    `lengths`: (prompt tokens, completion tokens) of each row, in the order of training.
    """
    shapes = []
    for start in range(0, len(lengths), batch_size):
        step = lengths[start : start + batch_size]
        for group in micro_batches([a + b for a, b in step], token_budget):
            longest = max(sum(step[row]) for row in group)
            shapes.append((len(group), longest, sum(step[row][1] for row in group)))
    return max(shapes, key=lambda s: (s[0] * s[1], s[2]))


def count_bytes(
    base: str | Path, lora: LoraParams, weights: str, shape: tuple[int, int, int], attention: str
) -> dict[str, int]:
    """Return bytes for weights, adapter, activations and vocabulary; `shape` as of `largest_micro_batch`."""
    rows, longest, completion = shape
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    saved: dict[Any, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        kept.append(tensor)  # so that no storage's address is used twice
        return tensor

    kept: list[torch.Tensor] = []
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention)
        head = model.get_output_embeddings().weight
        vocabulary = head.shape[0]
        whole = sum(p.numel() for p in model.parameters())
        linear = sum(
            m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m.weight is not head
        )
        adapted = get_peft_model(model, lora_config(lora), low_cpu_mem_usage=True)
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        for parameter in adapted.parameters():  # autocast does not know this device
            parameter.data = parameter.data.bfloat16()
        frozen = {p.untyped_storage()._cdata for p in adapted.parameters()}
        tokens = torch.zeros((rows, longest), dtype=torch.long)
        mask = torch.zeros((rows, 1, longest, longest), dtype=torch.bfloat16)  # ready-made: making one looks at data
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            adapted.get_base_model().get_decoder()(input_ids=tokens, attention_mask=mask, use_cache=False)
    activations = sum(size for key, size in saved.items() if key not in frozen)
    return {
        "weights": 2 * whole if weights != "nf4-packed" else int(2 * (whole - linear) + 0.52 * linear),
        "adapter": trained * 4 * 4,  # fp32: weights, gradients, Adam's two moments
        "activations": activations,
        # logits in bf16 and fp32, their log-softmax and its gradient in fp32, the gradient in bf16
        "vocabulary": completion * vocabulary * (2 + 4 + 4 + 4 + 2),
        "libraries": LIBRARIES,
    }


def disk_bytes(weights: int, adapter: int, phases: int) -> int:
    """Return bytes that training and export write: phases' folders and checkpoints (adapter and moments, so 3 of
    `adapter`'s 4 parts, each), the rounded base, the merged model, its bf16 GGUF and a quantized one.
    """
    return (phases + 3) * adapter * 3 // 4 + int(3.5 * weights)


def free_memory(device: str) -> int:
    """Return bytes that a new process can have, of the machine, the container, or the GPU."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    free = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - int(used.read_text()))
    return free


def check_fit(parts: Mapping[str, int], free: int, disk: int, free_disk: int, settings: str) -> None:
    """Raise GradusError with the figures if memory or disk is short."""
    need = sum(parts.values())
    if need > free:
        listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
        raise GradusError(
            f"training needs about {need / GIB:.1f} GiB of memory ({listed}), and {free / GIB:.1f} are free. "
            f"{settings}; or take a smaller base_model."
        )
    if disk > free_disk:
        raise GradusError(
            f"training and export need about {disk / GIB:.1f} GiB of disk, and {free_disk / GIB:.1f} are free. "
            "Make room, or work in a folder on a larger disk."
        )


def estimate(
    rows: Sequence[str | Path],
    valid: str | Path,
    base: str | Path,
    contract_path: str | Path,
    train: Mapping[str, Any],
    output: str | Path,
) -> None:
    """Write the estimate; raise GradusError if it does not fit. `train`: the config's section."""
    device = choose_device()
    contract = read_contract(contract_path)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    files = [[encode(tokenizer, contract, r.prompt, r.response) for r in read_records(f)] for f in [*rows, valid]]
    budget = train["micro_batch_tokens"]
    shapes = [
        largest_micro_batch([(len(a), len(b)) for a, b in file], train["batch_size"], budget) for file in files if file
    ]
    shape = max(shapes, key=lambda s: s[0] * s[1])
    attention = choose_attention(train["attention"], device)
    parts = count_bytes(base, LoraParams(**train["lora"]), train["base_weights"], shape, attention)
    disk = disk_bytes(parts["weights"], parts["adapter"], len(rows))
    # rounded up to 50 MB, so that one edited row seldom changes the file
    facts = {
        "bytes": {name: -(-size // 50_000_000) * 50_000_000 for name, size in parts.items()},
        "memory_gib": round(sum(parts.values()) / GIB, 1),
        "disk_gib": round(disk / GIB, 1),
        "micro_batch_tokens": budget,
    }
    logging.info("largest micro-batch (rows, tokens of the longest, completion tokens): %s; %s", shape, facts)
    output = Path(output)
    free_disk = shutil.disk_usage(next(p for p in output.parents if p.is_dir())).free
    advice = f"Lower train.micro_batch_tokens (now {budget}; a row longer than that goes alone)"
    if train["base_weights"] != "nf4-packed":
        advice += ", set train.base_weights: nf4-packed"
    check_fit(parts, free_memory(device), disk, free_disk, advice)
    write_json(output, facts)


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        estimate(
            job.input.rows, job.input.valid, job.input.base, job.input.contract, job.params.train, job.output.estimate
        )
