"""The methods that a phase can be trained by: METHODS, by the name in the phase's `method`.

A new method is an entry here, and its name in config/schema.yaml (`curriculum.phases`). Every method gets the files
of rule train_phase: the phase's rows, held-out rows, base, chat contract and the previous phase's adapter. Base and
adapter can also serve as a reference model. A method whose rows need more than prompt and response, such as a
rejected response, needs that field in scripts/common/records.py first.
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
    """What trains a phase."""

    make_dataset: Callable[..., Dataset]  # (records, tokenizer, contract, max_length): one item per row
    make_steps: Callable[..., Dataset]  # (dataset, rows of each step): one item per step
    collate: Callable[..., Any]  # one step's item as tensors
    trainer: Callable[..., PhaseTrainer]
    heldout_loss: Callable[..., float]  # (model, dataset, tokens of a micro-batch): in nats per completion token


METHODS = {"sft": Method(make_dataset, make_steps, collate_step, PhaseTrainer, heldout_loss)}
