"""The training methods: METHODS, by the name in a phase's `method`.

To add a method, add an entry here and its name in config/schema.yaml (`curriculum.phases`). Every method gets the
files of rule train_phase: the phase's rows, held-out rows, base, chat contract and the previous phase's adapter. Base
and adapter can also serve as a reference model. If a method's rows need more than prompt and response, such as a
rejected response, add that field to scripts/common/records.py first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from scripts.train.packing import collate_step
from scripts.train.sft import heldout_loss, make_dataset, make_steps
from scripts.train.trainer import PhaseTrainer


@dataclass(frozen=True)
class Method:
    """The functions that train a phase."""

    make_dataset: Callable[..., Dataset]  # (records, tokenizer, contract, max_length): one item per row
    make_steps: Callable[..., Dataset]  # (dataset, rows of each step): one item per step
    collate: Callable[..., Any]  # one step's item as tensors
    trainer: Callable[..., PhaseTrainer]
    heldout_loss: Callable[..., float]  # (model, dataset, tokens per micro-batch): nats per completion token


METHODS = {"sft": Method(make_dataset, make_steps, collate_step, PhaseTrainer, heldout_loss)}
