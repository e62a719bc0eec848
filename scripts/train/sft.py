"""Supervised fine-tuning on prompt and response: rows as token ids, steps, and held-out loss."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset

from scripts.common.chat import ChatContract
from scripts.common.records import Record, read_steps
from scripts.train.loss import completion_loss, shares_beginnings
from scripts.train.methods import SFT, Method
from scripts.train.packing import IGNORED, collate, collate_step, cut, label, on, packs
from scripts.train.trainer import PhaseTrainer


def make_dataset(records: Sequence[Record], tokenizer: Any, contract: ChatContract, max_length: int) -> Dataset:
    """Return the rows as `input_ids` and `labels`; see `label`."""
    return Dataset.from_list(label(records, tokenizer, contract, max_length))


def make_steps(rows: Dataset, sizes: Sequence[int]) -> Dataset:
    """Return the rows of `make_dataset` as steps of `sizes` rows each, in order."""
    return Dataset.from_list(
        [{name: [row[name] for row in step] for name in ("input_ids", "labels")} for step in cut(rows, sizes)]
    )


def single_rows(rows: Dataset, count: int) -> list[dict[str, list[int]]]:
    """Return the first `count` rows."""
    return [rows[number] for number in range(min(count, len(rows)))]


def heldout_loss(model: Any, rows: Dataset, token_budget: int) -> float:
    """Return the mean loss per completion token, in nats, computed without gradients."""
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for packed in packs(on(model.device, collate(list(rows))), token_budget, shares_beginnings(model)):
            total += completion_loss(model, packed).item()
            count += int((packed.targets != IGNORED).sum())
    model.train()
    return total / count


METHODS = {SFT: Method(read_steps, make_dataset, make_steps, single_rows, collate_step, PhaseTrainer)}
