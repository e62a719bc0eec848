"""The training methods: METHODS, by the name in a phase's `method`.

To add a method, add an entry here and its name in config/schema.yaml (`curriculum.phases`); one of preference tuning is
an objective in scripts/train/preference.py. Every method gets the files of rule train_phase: the phase's rows or pairs,
held-out rows, base, chat contract and the previous phase's adapter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from scripts.common.pairs import read_pair_steps
from scripts.common.records import read_steps
from scripts.train import preference, sft
from scripts.train.packing import collate_step
from scripts.train.trainer import PhaseTrainer


@dataclass(frozen=True)
class Method:
    """The functions that train a phase. An item is a row, or for preference tuning a pair."""

    read: Callable[[str | Path], list[list[Any]]]  # the items of each step
    make_dataset: Callable[..., Dataset]  # (items, tokenizer, contract, max_length): one line per item
    make_steps: Callable[..., Dataset]  # (dataset, items of each step): one line per step
    single_rows: Callable[..., list[dict[str, list[int]]]]  # (dataset, count): single rows of it
    collate: Callable[..., Any]  # one step's line as tensors
    trainer: Callable[..., PhaseTrainer]


METHODS = {
    "sft": Method(read_steps, sft.make_dataset, sft.make_steps, sft.single_rows, collate_step, PhaseTrainer),
    **{
        name: Method(
            read_pair_steps,
            preference.dataset_of(name),
            preference.make_steps,
            preference.single_rows,
            preference.collate,
            preference.trainer_of(name),
        )
        for name in preference.OBJECTIVES
    },
}
