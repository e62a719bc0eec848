"""Estimate how much memory and disk space training needs, before it starts; stop the run if there is not enough.

In: training and validation rows, the bf16 base, the chat contract. Out: estimate.json, bytes by purpose.

The memory for the backward pass does not come from a formula: the model runs one forward pass on torch's meta device
(shapes without data), and the tensors that autograd saves are counted. This works for any architecture and adapter.
Fused attention has no kernel there; a stand-in saves what it would save. docs/training.md compares the estimate with
the measured peak.
"""

import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import get_peft_model
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.sdpa_attention import repeat_kv

from scripts.common import experiment
from scripts.common.chat import read_contract
from scripts.common.device import bf16_warning, choose_device, training_dtype
from scripts.common.errors import GradusError
from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.machine import ON_CLUSTER
from scripts.common.models import resolve, trainings
from scripts.common.records import read_records
from scripts.train.fused import fuse_lora
from scripts.train.model import LoraParams, choose_attention, lora_config
from scripts.train.packing import encode

GIB = 2**30
# before any model: resident memory of Python with torch and transformers imported; on a GPU, CUDA's context and kernels
# (what an H100 took beyond the other parts, docs/gpu.md)
LIBRARIES = 800 * 2**20
# temporary gradients, kernels, fragmentation; on CPUs as measured (docs/training.md)
MARGIN = {"cpu": 0.3, "cuda": 0.1}
# Adam's two moments, bytes for each trained number; in 8 bits with a scale for each block of 256
MOMENTS = {"adamw": 8.0, "adamw8bit": 2 * (1 + 4 / 256)}


class _Kept(torch.autograd.Function):
    """Save what a fused attention kernel saves for its backward pass, without computing anything."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any) -> torch.Tensor:
        """Shapes: query (1, heads, tokens, width), key and value likewise; returns (1, tokens, heads, width)."""
        batch, heads, tokens, _ = query.shape
        output = query.new_empty((batch, tokens, heads, value.shape[-1]))
        sums = query.new_empty((batch, heads, tokens), dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, sums, mask)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Never run: nothing is computed here."""
        raise NotImplementedError


def _like_flash(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **_: Any) -> tuple[Any, None]:
    return _Kept.apply(query, key, value, None), None


def _like_sdpa(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **_: Any) -> tuple[Any, None]:
    """With a mask, transformers repeats keys and values for each head, and torch makes a mask of numbers each time."""
    groups = query.shape[1] // key.shape[1]
    return _Kept.apply(query, repeat_kv(key, groups), repeat_kv(value, groups), attention_mask.clone()), None


# what is run on the meta device to count for an attention (a name with `flash` in it would be taken for a kernel)
STANDS_FOR = {
    "sdpa": "counted-with-mask",
    "flash_attention_2": "counted-without-mask",
    "rows": "eager",
    "eager": "eager",
}
AttentionInterface.register("counted-with-mask", _like_sdpa)
AttentionInterface.register("counted-without-mask", _like_flash)


def largest_micro_batch(lengths: Sequence[tuple[int, int]], token_budget: int) -> tuple[int, int, int]:
    """Return (rows, longest, completion tokens) of the largest micro-batch that could occur.

    `lengths`: (prompt tokens, completion tokens) of each row. The worst case is as many rows of the greatest length as
    fit the budget, all with the longest completion.
    """
    longest = max(prompt + completion for prompt, completion in lengths)
    rows = max(1, token_budget // longest)
    return rows, longest, rows * max(completion for _, completion in lengths)


def count_bytes(
    base: str | Path,
    lora: LoraParams,
    weights: str,
    shape: tuple[int, int, int],
    attention: str,
    device: str = "cpu",
    optimizer: str = "adamw",
    checkpointing: bool = False,
    shared: bool = False,
) -> dict[str, int]:
    """Return bytes for weights, adapter, activations, vocabulary, and so on; `shape` is from `largest_micro_batch`.

    `shared`: whether the process is one of several, which add up their gradients.
    """
    rows, longest, completion = shape
    dtype = training_dtype(device)
    if attention != "rows":  # others see the whole pack as one sequence
        rows, longest = 1, rows * longest
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    saved: dict[Any, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        kept.append(tensor)  # so that no storage address is reused
        return tensor

    kept: list[torch.Tensor] = []
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=STANDS_FOR[attention])
        head = model.get_output_embeddings().weight
        vocabulary = head.shape[0]
        whole = sum(p.numel() for p in model.parameters())
        linear = sum(
            m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m.weight is not head
        )
        adapted = get_peft_model(model, lora_config(lora), low_cpu_mem_usage=True)
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        for parameter in adapted.parameters():  # autocast does not support this device
            parameter.data = parameter.data.to(dtype)
        fuse_lora(adapted)
        frozen = {p.untyped_storage()._cdata for p in adapted.parameters()}
        tokens = torch.zeros((rows, longest), dtype=torch.long)
        mask = torch.zeros((rows, 1, longest, longest), dtype=dtype)  # ready: computing one needs data
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model.get_decoder()(input_ids=tokens, attention_mask=mask, use_cache=False)
    activations = sum(size for key, size in saved.items() if key not in frozen)
    if checkpointing:  # the input of each layer, and what one layer saves when it is computed again
        text = config.get_text_config()
        layers = text.num_hidden_layers
        activations = layers * rows * longest * text.hidden_size * dtype.itemsize + activations // layers
    packed = linear if weights == "nf4-packed" else 0
    parts = {
        "weights": int(dtype.itemsize * (whole - packed) + 0.52 * packed),
        # fp32: weights, gradients, and their sum over processes; then Adam's moments
        "adapter": int(trained * (4 + 4 + 4 * shared + MOMENTS[optimizer])),
        "activations": activations,
        # 128 rows at a time: logits as computed and in fp32, and a copy for the exponential
        "vocabulary": min(completion, 128) * vocabulary * (dtype.itemsize + 4 + 4),
        "libraries": LIBRARIES,
    }
    return {**parts, "margin": int(MARGIN[device] * sum(parts.values()))}


def disk_bytes(
    base: int, adapter: int, phases: int, trainings: int, merged: int, exported: int, quants: Sequence[str]
) -> int:
    """Return the bytes that training and export write, at most.

    `base`: the size of the bf16 checkpoint, which is that of the rounded base, of each of `merged` models, of the GGUF
    in bf16 of each of `exported` ones, and of the folder for the Hub; `quants`: those of all exported models together,
    and of the folder for Ollama; `adapter`: memory that the adapter takes in training, more than a phase's folder or
    one of three checkpoints holds of it.
    """
    sizes = sum((int(name[1]) + 1.5) / 16 for name in quants)  # Q4_K_M: 5.5 bits for 16, at most
    return (phases * trainings + 3) * adapter * 3 // 4 + int((2 + merged + exported + sizes) * base)


def written(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what training and export write, for `disk_bytes`, from the whole config."""
    models, export = resolve(config["models"]), config["export"]
    exported = {model.weights for model in models.values() if model.exported}
    further = [export["quant"]] * export["imatrix"]["compare"] + export["more_quants"]
    return {
        "phases": len(config["curriculum"]["phases"]),
        "trainings": len(trainings(models)) + len(experiment.trainings(config["experiment"])),
        "merged": len({model.weights for model in models.values() if model.trained}),
        "exported": len(exported),
        "quants": [export["quant"]] * (len(exported) + 1) + [quant for quant in further if quant != "bf16"],
    }


def with_checkpointing(wanted: bool | str, plain: int, free: int) -> bool:
    """Return whether activations are computed twice: as wanted, or if a training of `plain` bytes would not fit."""
    return plain > free if wanted == "auto" else bool(wanted)


def of_all(parts: Mapping[str, int], processes: int, device: str) -> dict[str, int]:
    """Return the bytes of a training in several processes, given those of one: each has the whole model, and one more
    process starts them. On GPUs, those of one card, of which each process has its own.
    """
    if processes == 1 or device == "cuda":
        return dict(parts)
    return {name: processes * size + (LIBRARIES if name == "libraries" else 0) for name, size in parts.items()}


def free_memory(device: str) -> int:
    """Return the bytes available to a new process: of the machine, the container, or the GPU.

    On a cluster's node, where SLURM gives a job what it asks for: what the node has, less a tenth for the system.
    """
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    if ON_CLUSTER in os.environ:
        return psutil.virtual_memory().total * 9 // 10
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
    written: Mapping[str, Any],
    memory_gib: float | None,
    checkpointing: bool | str,
    output: str | Path,
    wrong_tokens: int = 0,
) -> None:
    """Write the estimate; raise GradusError if there is not enough memory or disk space.

    `train`: the training settings that the estimate depends on; `written`: what `disk_bytes` takes, but for the sizes;
    `memory_gib`: the memory to count on, or None for what is free now; `checkpointing`: `train.gradient_checkpointing`;
    `wrong_tokens`: the most that a wrong answer has in preference tuning, 0 without: a row is then with it in a pack.
    """
    device = choose_device(train["device"])
    contract = read_contract(contract_path)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    encoded = [encode(tokenizer, contract, record) for file in (rows, valid) for record in read_records(file)]
    if not encoded:
        raise GradusError(f"{rows}: no rows to train on; see split.json and score.json for where they went")
    budget = train["micro_batch_tokens"]
    attention = choose_attention(train["attention"], device)
    # only `rows` computes the prompt of a pair once, and not where every row is computed alone
    prompts = 2 if wrong_tokens and (attention != "rows" or budget == 1) else 1
    shape = largest_micro_batch([(prompts * len(a), len(b) + wrong_tokens) for a, b in encoded], budget)
    given = (base, LoraParams(**train["lora"]), train["base_weights"], shape, attention, device, train["optimizer"])
    free = int(memory_gib * GIB) if memory_gib else free_memory(device)
    processes = train.get("processes", 1)
    one = count_bytes(*given, shared=processes > 1)
    parts = of_all(one, processes, device)
    if checkpointed := with_checkpointing(checkpointing, sum(parts.values()), free):
        one = count_bytes(*given, shared=processes > 1, checkpointing=True)
        parts = of_all(one, processes, device)
    size = sum(file.stat().st_size for file in Path(base).glob("*.safetensors"))
    disk = disk_bytes(size, one["adapter"], **written)
    facts = {
        "bytes": parts,
        "gradient_checkpointing": checkpointed,
        "memory_gib": round(sum(parts.values()) / GIB, 2),
        "disk_gib": round(disk / GIB, 2),
        "largest_micro_batch": dict(zip(("rows", "longest", "completion_tokens"), shape, strict=True)),
    }
    logging.info("%s", facts)
    output = Path(output)
    free_disk = shutil.disk_usage(next(p for p in output.parents if p.is_dir())).free
    advice = f"Lower train.micro_batch_tokens (now {budget}; a longer row is computed alone)"
    if train["base_weights"] != "nf4-packed":
        advice += ", set train.base_weights: nf4-packed"
    if processes > 1 and device == "cpu":
        advice += f", lower train.processes (now {processes}, each with the whole model)"
    if not checkpointed:
        advice += ", set train.gradient_checkpointing: auto"
    if slow := bf16_warning(device):
        logging.warning("%s", slow)
        print(f"Gradus: {slow}", file=sys.stderr)
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
            written(job.config),
            job.config["train"]["memory_gib"],
            job.config["train"]["gradient_checkpointing"],
            job.output.estimate,
            read_json(job.input.checked)["wrong_tokens"] if job.input.get("checked") else 0,
        )
