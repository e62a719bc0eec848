"""How long jobs take, from the last time that they ran, from jobs like them, or from a table."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import read_json
from scripts.common.speed import trained_per_s

# seconds on two slow cores, of rules whose jobs take long: for a first run; what has run since scales them
TYPICAL = {
    "ask_judge": 300,
    "train_arm": 300,
    "choose_examples": 300,
    "train_phase": 240,
    "sample_answers": 120,
    "answer": 100,
    "answer_arm": 90,
    "probe": 75,
    "ask_endpoint": 60,
    "base_loss": 60,
    "importance": 60,
    "speed": 60,
    "check_gguf": 40,
    "check_merge": 40,
    "reference_losses": 30,
    "quant_loss": 20,
    "reference_logits": 15,
    "check_serving": 20,
    "prepare_base": 18,
    "round_base": 15,
    "check_labels": 12,
    "convert_gguf": 10,
    "estimate": 10,
    "prepare_tokenizer": 8,
    "hf": 8,
    "merge": 8,
    "convert": 6,
    "quantize": 5,
}
GUESSED = 60  # seconds from which on the rows decide, and the table is a guess
STARTUP = 15  # seconds of a training besides its steps
PHASE = re.compile(r"(results/[^/]+)/train/([^/]+/seed\d+)/([^/]+)(?:/|$)")
SHORT = 1.0  # seconds of any other rule
LEAST, MOST = 0.25, 4.0  # how far the table is scaled


@dataclass(frozen=True)
class Planned:
    """A job that has not finished."""

    job: int
    rule: str
    outputs: tuple[str, ...]


def last_times(records: Mapping[str, Mapping[str, Any]], run: str) -> dict[str, float]:
    """Return {file: seconds that its job took}, of the files of a run and of fetched ones, from Snakemake's records."""
    return {
        path: record["endtime"] - record["starttime"]
        for path, record in records.items()
        if path.startswith((f"results/{run}/", "data/")) and record.get("endtime") and record.get("starttime")
    }


def training_seconds(outputs: Iterable[str]) -> float | None:
    """Return what the training of a phase takes on two slow cores, by its tokens; None before they are known, and for
    other jobs.
    """
    for path in outputs:
        if found := PHASE.match(path):
            folder, training, phase = found.groups()
            try:
                tokens = read_json(Path(folder, "curriculum", training, "ledger.json"))[phase]["tokens"]
            except (OSError, KeyError, GradusError):
                continue
            return STARTUP + float(tokens) / trained_per_s()
    return None


class Times:
    """What jobs take."""

    def __init__(self, past: Mapping[str, float]) -> None:
        """`past`: {output: seconds}, of an earlier run of the same config."""
        self.past = past
        self.seen: dict[str, list[float]] = {}

    def note(self, rule: str, seconds: float) -> None:
        """Note that a job has finished."""
        self.seen.setdefault(rule, []).append(seconds)

    def _scale(self) -> float:
        pairs = [(sum(seen), len(seen) * TYPICAL[rule]) for rule, seen in self.seen.items() if rule in TYPICAL]
        expected = sum(pair[1] for pair in pairs)
        return min(MOST, max(LEAST, sum(pair[0] for pair in pairs) / expected)) if expected else 1.0

    def expect(self, planned: Planned, likes: Iterable[float] = ()) -> tuple[float, bool]:
        """Return the seconds that a job will take, and whether they are guessed: its rule is one of those that take
        longest, and nothing like it has run. `likes`: what running jobs of its rule will have taken.
        """
        if known := [self.past[output] for output in planned.outputs if output in self.past]:
            return max(known), False
        if planned.rule == "train_phase" and (seconds := training_seconds(planned.outputs)):  # phases differ in size
            return seconds * self._scale(), seconds >= GUESSED
        if seen := [*self.seen.get(planned.rule, ()), *likes]:
            return sum(seen) / len(seen), False
        typical = TYPICAL.get(planned.rule, SHORT)
        return typical * self._scale(), typical >= GUESSED


def clock(seconds: float) -> str:
    """Return a duration as on a clock: 0:07, 12:40, 1:05:00."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def rough(seconds: float, guessed: bool = False) -> str:
    """Return a duration that is not known exactly: <1 min, ~12 min, ~2 h 10 min; with a question mark if guessed."""
    mark = "?" if guessed else ""
    if seconds < 60:
        return f"<1 min{mark}"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"~{minutes} min{mark}"
    hours, minute = divmod(round(minutes, -1), 60)
    return f"~{hours} h {minute} min{mark}" if minute else f"~{hours} h{mark}"
