"""The training methods, by the name in a phase's `method`.

To add a method, name its module in MODULES, its Method in the METHODS there, and itself in config/schema.yaml
(`curriculum.phases`); one of preference tuning is an objective in scripts/train/preference.py. Every method gets the
files of rule train_phase: the phase's rows or pairs, held-out rows, base, chat contract and the previous phase's
adapter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rules import this module, and should not wait for torch
    from datasets import Dataset

    from scripts.train.trainer import PhaseTrainer

SFT = "sft"
# imported by name, so that an edit of what is for pairs alone retrains no supervised phase
MODULES = {SFT: "sft", "dpo": "preference", "orpo": "preference", "kto": "preference"}


@dataclass(frozen=True)
class Method:
    """The functions that train a phase. An item is a row, or for preference tuning a pair."""

    read: Callable[[str | Path], list[list[Any]]]  # the items of each step
    make_dataset: "Callable[..., Dataset]"  # (items, tokenizer, contract, max_length): one line per item
    make_steps: "Callable[..., Dataset]"  # (dataset, items of each step): one line per step
    single_rows: Callable[..., list[dict[str, list[int]]]]  # (dataset, count): single rows of it
    collate: Callable[..., Any]  # one step's line as tensors
    trainer: "Callable[..., PhaseTrainer]"
    against_reference: bool = False  # whether rewards are log-ratios to a reference, which must not sink


def find_method(name: str) -> Method:
    """Return a method by its name."""
    method: Method = import_module(f"scripts.train.{MODULES[name]}").METHODS[name]
    return method


def code_of(name: str) -> list[str]:
    """Return the files of a method, in scripts, that the fingerprint of train_phase's code does not cover."""
    return [] if name == SFT else [f"train/{MODULES[name]}.py"]
