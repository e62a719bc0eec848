"""Measure what each optimization brings: every optimizer step is done in each way, in turn, on the same rows.

In: as in scripts/bench/training.py. Out: levers.json, {lever: {ratio, low, high, loss}}: how many times as fast as
Gradus's default a step is with one thing changed; the median over the steps, with quartiles. Because the ways alternate
at every step, drift in the machine's speed affects all of them equally. Peak memory is not measured for each.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import AutoTokenizer

from scripts.common.chat import read_contract
from scripts.common.io import write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import read_records
from scripts.train.loss import completion_loss
from scripts.train.model import LoraParams, attach_adapter, load_base
from scripts.train.packing import IGNORED, collate, packs
from scripts.train.sft import make_dataset

Rows = Sequence[Any]
Work = Callable[[Any, Rows], Iterator[torch.Tensor]]
BUDGET = 1024


def packed(budget: int, share: bool = True) -> Work:
    """Return Gradus's way to compute a step: packs of at most `budget` tokens, with or without a shared prefix."""

    def work(model: Any, rows: Rows) -> Iterator[torch.Tensor]:
        for pack in packs(collate(rows), budget, share):
            yield completion_loss(model, pack)

    return work


def padded(budget: int, every_position: bool = False) -> Work:
    """Return the usual way: rows sorted by length, padded, in micro-batches of at most `budget` tokens.

    With `every_position`, head and cross-entropy are computed for prompt and padding as well.
    """

    def work(model: Any, rows: Rows) -> Iterator[torch.Tensor]:
        causal = model.get_base_model()
        groups: list[list[Any]] = [[]]
        for row in sorted(rows, key=lambda row: len(row["input_ids"])):
            if (len(groups[-1]) + 1) * len(row["input_ids"]) > budget and groups[-1]:
                groups.append([])
            groups[-1].append(row)
        for group in groups:
            longest = len(group[-1]["input_ids"])
            ids, labels, mask = (
                torch.tensor([[*row[name], *[fill] * (longest - len(row["input_ids"]))] for row in group])
                for name, fill in (("input_ids", 0), ("labels", IGNORED), ("attention_mask", 0))
            )
            mixed = model.needs_autocast and causal.dtype == torch.bfloat16
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                hidden = causal.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                hidden, targets = hidden[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
                if not every_position:
                    hidden, targets = hidden[targets != IGNORED], targets[targets != IGNORED]
                logits = causal.get_output_embeddings()(hidden)
            yield cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")

    return work


def build(base: str, rounded: str, lora: LoraParams) -> dict[str, tuple[Any, Work]]:
    """Return {lever: (model, way to compute a step)}. The first is the default; each of the others removes or adds one
    thing; the padded ones do without packing.
    """

    def model(attention: str = "rows", packed_base: bool = False, fused: bool = True, **changes: Any) -> Any:
        loaded = load_base(base if packed_base else rounded, "cpu", attention, packed_base)
        adapted = attach_adapter(loaded, LoraParams(**{**vars(lora), **changes}), None, 1)
        if not fused:
            for module in adapted.modules():
                vars(module).pop("forward", None)
            adapted.needs_autocast = True
        return adapted

    compiled, half = model(), model()
    for layer in compiled.get_base_model().get_decoder().layers:
        for part in (layer.mlp, layer.input_layernorm, layer.post_attention_layernorm):
            part.compile(dynamic=True)
    for parameter in half.parameters():
        parameter.data = parameter.data.bfloat16()
    return {
        "the default": (model(), packed(BUDGET)),
        "the common prefix computed for each row": (model(), packed(BUDGET, share=False)),
        "a block-diagonal mask instead of attention by rows": (model("eager"), packed(BUDGET, share=False)),
        "padded micro-batches of 640, eager": (model("eager"), padded(640)),
        "padded micro-batches of 640, sdpa": (model("sdpa"), padded(640)),
        "padded micro-batches of 640, eager, PEFT's LoRA": (model("eager", fused=False), padded(640)),
        "padded micro-batches of 640, eager, PEFT's LoRA, loss at every position": (
            model("eager", fused=False),
            padded(640, every_position=True),
        ),
        "packs of 512 tokens": (model(), packed(512)),
        "PEFT's own LoRA under autocast": (model(fused=False), packed(BUDGET)),
        "LoRA dropout 0.05": (model(dropout=0.05), packed(BUDGET)),
        "NF4 unpacked in every forward": (model(packed_base=True), packed(BUDGET)),
        "adapter and Adam in bf16": (half, packed(BUDGET)),
        "torch.compile of norms and MLP": (compiled, packed(BUDGET)),
    }


def take_step(model: Any, work: Work, rows: Rows, trained: Sequence[Any], optimizer: torch.optim.Optimizer) -> float:
    """Do one optimizer step; return its loss, the mean over its completion tokens in nats."""
    count, total = sum(label != IGNORED for row in rows for label in row["labels"][1:]), 0.0
    for loss in work(model, rows):
        (loss / count).backward()
        total += loss.item() / count
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return total


def race(ways: dict[str, tuple[Any, Work]], steps: Sequence[Rows], warm_up: int) -> dict[str, dict[str, float]]:
    """Do each step in each way, in turn; return each way's speed relative to the first, quartiles, and its last loss.

    The first `warm_up` steps are not counted (compilation, kernels for new shapes).
    """
    parameters = {name: [p for p in model.parameters() if p.requires_grad] for name, (model, _) in ways.items()}
    optimizers = {name: torch.optim.AdamW(trained, lr=2e-4) for name, trained in parameters.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    last: dict[str, float] = {}
    for number, rows in enumerate(tqdm(steps, desc="steps")):
        for name, (model, work) in ways.items():
            model.train()
            began = time.monotonic()
            last[name] = take_step(model, work, rows, parameters[name], optimizers[name])
            if number >= warm_up:
                times[name].append(time.monotonic() - began)
    first = times[next(iter(ways))]
    table = {}
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(first, seconds, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        table[name] = {"ratio": round(middle, 2), "low": round(low, 2), "high": round(high, 2), "loss": last[name]}
    return table


if job := find_job(globals()):
    with logging_to(job.log[0]):
        given, train = job.input, job.params.train
        torch.set_num_threads(train["threads"])
        batch, warm_up = train["batch_size"], 3
        records = list(read_records(given.rows))[: batch * (job.params.steps + warm_up)]
        contract = read_contract(given.contract)
        tokenizer = AutoTokenizer.from_pretrained(given.base, trust_remote_code=False)
        data = [
            {**row, "attention_mask": [1] * len(row["input_ids"])}
            for row in make_dataset(records, tokenizer, contract, train["max_length"])
        ]
        batches = [data[start : start + batch] for start in range(0, len(data), batch)]
        table = race(build(given.base, given.rounded, LoraParams(**train["lora"])), batches, warm_up)
        write_json(
            Path(job.output.measured), {"levers": table, "steps": len(batches) - warm_up, "rows_per_step": batch}
        )
