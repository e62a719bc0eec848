"""Plan how many rows a run trains on, and estimate the time and memory that it takes on this machine.

Speeds come from an earlier run on this base if there is one (`results/*/train/**/summary.json`). Otherwise they are
scaled from the measurements in docs/training.md and docs/us-address.md: time is proportional to parameters and tokens,
and inversely proportional to threads. The pipeline estimates memory exactly before it trains (rule `estimate`).
"""

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from scripts.common.io import read_json
from scripts.common.speed import FP32_SPEED, TRAINED_PER_S, trains_in_bf16
from scripts.new.lengths import Lengths, runs_on

# measured on two cores without AMX, with a base of 135M parameters
PARAMETERS = 135e6
THREADS = 2
ANSWERED_PER_S = 85  # tokens of one answering job, which uses one thread
QUANTS = 3  # models that answer the first split: bf16, the served quant, the base
OTHER_MINUTES = 7  # everything except training and answering
LIBRARIES_GIB = 0.78
ADAPTER_GIB = 0.07
KEPT_GIB = 0.94  # activations and logits of a pack of 1,024 tokens
PACK = 1024
GAPS = 1.5  # measured peak over the sum of the parts

FEW_STEPS = 200  # optimizer steps; with fewer, little is learned
MOST_EPOCHS = 3
BATCHES = (16, 8)  # rows per step, the default first
NOT_ASKED = ("train", "valid")  # splits that models do not answer


@dataclass
class Machine:
    """The machine: threads, tokens per second if an earlier run measured them, and whether it trains in bf16."""

    threads: int
    measured: float | None = None
    measured_in: str = ""
    bf16: bool = True

    def trained_per_s(self, parameters: float) -> float:
        """Return training tokens per second."""
        expected = TRAINED_PER_S if self.bf16 else TRAINED_PER_S * FP32_SPEED
        return self.measured or expected * PARAMETERS / parameters * min(self.threads, THREADS) / THREADS

    def answered_per_s(self, parameters: float) -> float:
        """Return answer tokens per second, summed over all answering jobs."""
        return ANSWERED_PER_S * PARAMETERS / parameters * self.threads

    def basis(self, parameters: float) -> str:
        """Describe the speed and its origin."""
        speed = f"{self.trained_per_s(parameters):,.0f} training tokens/s"
        if self.measured:
            return f"{speed}, measured in {self.measured_in}"
        why = "" if self.bf16 else ", in fp32, since this CPU has no instructions for bf16"
        return f"{speed}, scaled from docs/training.md{why} (no measurements on this machine)"


@dataclass
class Budget:
    """The training budget: `rows` of each phase (None for all), epochs and batch size; and its estimated cost."""

    rows: list[int | None]
    epochs: int
    batch_size: int
    steps: int
    tokens: int
    training_minutes: float
    minutes: float
    memory_gib: float
    splits: dict[str, int]


def count_parameters(base: Mapping[str, Any]) -> float:
    """Return the number of parameters in a base's name, such as SmolLM2-135M; 0 if the name has none."""
    for text in (base.get("alias"), base.get("name"), base.get("gguf"), base["source"]):
        if found := re.search(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)\s?([mb])(?![a-z0-9])", text or "", re.IGNORECASE):
            return float(found[1]) * (1e9 if found[2].lower() == "b" else 1e6)
    return 0.0


def this_machine(base: Mapping[str, Any], root: Path) -> Machine:
    """Return this machine's threads, and the median training speed of earlier runs on this base."""
    speeds = {
        file: read_json(file)["tokens_per_s"]
        for run in runs_on(base, root)
        for file in sorted((run / "train").rglob("summary.json"))
    }
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not speeds:
        return Machine(threads, bf16=trains_in_bf16())
    last = list(speeds)[-1].relative_to(root).parts[1]
    return Machine(threads, median(speeds.values()), f"results/{last}", trains_in_bf16())


def answer_tokens(splits: Mapping[str, int], longest: int, usual: float) -> float:
    """Return the tokens of all answers: the base's reach the token limit, the tuned model's are as long as the rows'.

    At most 200 rows of `test`, and 100 of each other split, are answered.
    """
    asked = {
        name: min(count, 200 if name == "test" else 100) for name, count in splits.items() if name not in NOT_ASKED
    }
    every = sum(asked.values())
    return every * (longest + usual) + (QUANTS - 2) * asked.get("test", 0) * usual


def make_budget(
    places: Sequence[str],
    levels: Sequence[int],
    phases: Sequence[Sequence[int]],
    lengths: Lengths,
    max_tokens: int,
    parameters: float,
    machine: Machine,
    minutes: float,
) -> Budget:
    """Return the budget: all rows of each phase, repeated if there are few steps, reduced if training takes too long.

    `places`, `levels`: split and level of each record; `phases`: the levels of each; `minutes`: limit for training.
    """
    size = [sum(pair) for pair in lengths.pairs]
    trained = [number for number, place in enumerate(places) if place == "train"]
    pools = [[number for number in trained if levels[number] in wanted] for wanted in phases]
    rows = sum(map(len, pools))
    tokens = sum(size[number] for pool in pools for number in pool)
    held_out = sum(size[number] for number, place in enumerate(places) if place == "valid")
    speed = machine.trained_per_s(parameters)

    # the held-out loss at the end of each phase is a forward pass without a backward pass: a third of a step
    checking = len(phases) * held_out / 3
    most = minutes * 60 * speed - checking  # tokens that can be trained
    batch = next((b for b in BATCHES if rows / b >= FEW_STEPS), BATCHES[-1])
    epochs = min(MOST_EPOCHS, max(1, math.ceil(FEW_STEPS * batch / max(1, rows))))
    while epochs > 1 and tokens * epochs > most:
        epochs -= 1
    fraction = min(1.0, max(0.0, most) / max(1, tokens * epochs))
    kept: list[int | None] = [None if fraction == 1 else max(1, int(len(pool) * fraction)) for pool in pools]
    tokens = round(tokens * epochs * fraction)
    training = (tokens + checking) / speed / 60
    splits = Counter(place for place in places if place)
    usual = sum(answer for _, answer in lengths.pairs) / len(lengths.pairs)
    answering = answer_tokens(splits, max_tokens, usual) / machine.answered_per_s(parameters) / 60
    scale = parameters / PARAMETERS
    bytes_per_number = 2 if machine.bf16 else 4  # of base and activations
    memory = (
        LIBRARIES_GIB
        + bytes_per_number * parameters / 2**30
        + ADAPTER_GIB * scale
        + bytes_per_number / 2 * KEPT_GIB * scale ** (2 / 3) * max(lengths.longest, PACK) / PACK
    )
    return Budget(
        kept,
        epochs,
        batch,
        sum(math.ceil(len(pool) * fraction * epochs / batch) for pool in pools),
        tokens,
        training,
        training + answering + OTHER_MINUTES * max(1.0, scale) * THREADS / min(THREADS, machine.threads),
        memory * GAPS,
        dict(splits),
    )
