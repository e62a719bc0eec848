"""What each lever brings: one optimizer step after the other, each way of doing it in turn on the same rows.

In: as scripts/bench/training.py. Out: levers.json, {lever: {ratio, low, high, loss}}: how many times as fast as
Gradus's default a step is with one thing done otherwise; median over the steps, with the quartiles. Taking turns
step by step makes a machine whose speed drifts slow all of them alike. Peak memory is not told apart.
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
from scripts.common.logs import logging_to
from scripts.common.records import read_records
from scripts.train.model import LoraParams, attach_adapter, load_base
from scripts.train.train_phase import make_dataset
from scripts.train.trainer import IGNORED, collate, completion_loss, micro_batches

Rows = Sequence[Any]
BUDGET = 640


def padded(
    budget: int, loss: Callable[..., torch.Tensor] = completion_loss
) -> Callable[[Any, Rows, int], Iterator[Any]]:
    """Return a way to work off a step: micro-batches of at most `budget` tokens, padded."""

    def work(model: Any, rows: Rows, pad: int) -> Iterator[torch.Tensor]:
        for group in micro_batches([len(row["input_ids"]) for row in rows], budget):
            yield loss(model, collate([rows[i] for i in group], pad))

    return work


def full_vocabulary_loss(model: Any, inputs: Any) -> torch.Tensor:
    """Return the loss with the head run at every position, and the cross-entropy in fp32 over all of them."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False).logits
    logits, labels = logits[:, :-1].float(), inputs["labels"][:, 1:]
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def block_diagonal(model: Any, rows: Rows, pad: int) -> Iterator[torch.Tensor]:
    """Work a step off packed: rows end to end without padding, each seeing itself alone (transformers makes the
    block-diagonal mask from positions that begin anew). Packs of at most the budget, in the order of the rows.
    """
    packs: list[list[Any]] = []
    for row in rows:
        if packs and sum(len(r["input_ids"]) for r in packs[-1]) + len(row["input_ids"]) <= BUDGET:
            packs[-1].append(row)
        else:
            packs.append([row])
    causal = model.get_base_model()
    for pack in packs:
        ids = torch.tensor([[token for row in pack for token in row["input_ids"]]])
        targets = torch.tensor([label for row in pack for label in [*row["labels"][1:], IGNORED]])
        positions = torch.cat([torch.arange(len(row["input_ids"])) for row in pack])[None]
        wanted = targets != IGNORED
        with torch.autocast("cpu", torch.bfloat16):
            hidden = causal.get_decoder()(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state[0]
            logits = causal.get_output_embeddings()(hidden[wanted])
        yield cross_entropy(logits.float(), targets[wanted], reduction="sum")


def build(base: str, rounded: str, lora: LoraParams) -> dict[str, tuple[Any, Callable[..., Iterator[Any]]]]:
    """Return {lever: (model, way to work off a step)}; the first is the default."""

    def model(folder: str = rounded, attention: str = "eager", packed: bool = False, **changes: Any) -> Any:
        shape = LoraParams(**{**vars(lora), **changes})
        return attach_adapter(load_base(folder, "cpu", attention, packed), shape, None, 1)

    compiled = model()
    for layer in compiled.get_base_model().get_decoder().layers:
        layer.compile(dynamic=True)
    half = model()
    for parameter in half.parameters():
        parameter.data = parameter.data.bfloat16()
    return {
        "as it is": (model(), padded(BUDGET)),
        "head and loss at every position": (model(), padded(BUDGET, full_vocabulary_loss)),
        "LoRA dropout 0.05": (model(dropout=0.05), padded(BUDGET)),
        "NF4 unpacked in every forward": (model(base, packed=True), padded(BUDGET)),
        "sdpa attention": (model(attention="sdpa"), padded(BUDGET)),
        "the whole batch at once, padded": (model(), padded(10**9)),
        "one row at a time": (model(), padded(1)),
        "micro-batches of 320 tokens": (model(), padded(320)),
        "micro-batches of 1280 tokens": (model(), padded(1280)),
        "block-diagonal packing": (model(), block_diagonal),
        "adapter and Adam in bf16": (half, padded(BUDGET)),
        "torch.compile, layer by layer": (compiled, padded(BUDGET)),
    }


def race(
    ways: dict[str, tuple[Any, Callable[..., Iterator[Any]]]], steps: Sequence[Rows], pad: int, warm_up: int
) -> dict[str, dict[str, float]]:
    """Let each way take each step in turn; return its speed over the first's, quartiles, and its last step's loss.

    The first `warm_up` steps are not counted (compilation, kernels for new shapes).
    """
    parameters = {name: [p for p in model.parameters() if p.requires_grad] for name, (model, _) in ways.items()}
    optimizers = {name: torch.optim.AdamW(found, lr=2e-4) for name, found in parameters.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    last: dict[str, float] = {}
    for number, rows in enumerate(tqdm(steps, desc="steps")):
        count = sum(label != IGNORED for row in rows for label in row["labels"][1:])
        for name, (model, work) in ways.items():
            model.train()
            began, total = time.monotonic(), 0.0
            for loss in work(model, rows, pad):
                (loss / count).backward()
                total += loss.item() / count
            torch.nn.utils.clip_grad_norm_(parameters[name], 1.0)
            optimizers[name].step()
            optimizers[name].zero_grad()
            if number >= warm_up:
                times[name].append(time.monotonic() - began)
            last[name] = total
    first = times[next(iter(ways))]
    found = {}
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(first, seconds, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        found[name] = {"ratio": round(middle, 2), "low": round(low, 2), "high": round(high, 2), "loss": last[name]}
    return found


if "snakemake" in globals():
    snakemake = globals()["snakemake"]
    with logging_to(snakemake.log[0]):
        given, train = snakemake.input, snakemake.params.train
        torch.set_num_threads(train["threads"])
        batch, warm_up = train["batch_size"], 3
        records = list(read_records(given.rows))[: batch * (snakemake.params.steps + warm_up)]
        contract = read_contract(given.contract)
        tokenizer = AutoTokenizer.from_pretrained(given.base, trust_remote_code=False)
        data = list(make_dataset(records, tokenizer, contract, train["max_length"]))
        batches = [data[start : start + batch] for start in range(0, len(data), batch)]
        found = race(
            build(given.base, given.rounded, LoraParams(**train["lora"])), batches, contract.pad_token_id, warm_up
        )
        write_json(
            Path(snakemake.output.measured), {"levers": found, "steps": len(batches) - warm_up, "rows_per_step": batch}
        )
