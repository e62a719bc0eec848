"""Order the pairs of one phase of preference tuning, by how hard they are for the reference, and cut them into steps.

In: the pairs, and what rule reference_losses measured of each under the reference.
Out: the pairs step by step, the schedule (number of optimizer steps), and the ledger.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.hashing import unit_hash
from scripts.common.io import read_jsonl, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.pairs import Pair, read_pairs, write_pair_steps


@dataclass(frozen=True)
class Measured:
    """A pair with its reference and difficulty, and the tokens of its answers."""

    pair: Pair
    chosen_tokens: int
    rejected_tokens: int

    @property
    def difficulty(self) -> float:
        """Return the pair's difficulty."""
        return self.pair.difficulty or 0.0


def measure(pairs: Sequence[Pair], lines: Sequence[Mapping[str, Any]]) -> list[Measured]:
    """Return the pairs with what the reference says of them: a line of rule reference_losses for each.

    The difficulty is by how many nats per token the reference prefers the wrong answer: log π(rejected) / its tokens
    minus log π(chosen) / its tokens. Raises GradusError if the lines are not those of the pairs.
    """
    if [pair.key for pair in pairs] != [line["pair"] for line in lines]:
        raise GradusError(
            f"the reference's {len(lines)} lines are not those of the {len(pairs)} pairs; delete reference.jsonl and "
            "run again"
        )
    found = []
    for pair, line in zip(pairs, lines, strict=True):
        chosen, rejected = line["chosen_tokens"], line["rejected_tokens"]
        difficulty = round(line["rejected"] / rejected - line["chosen"] / chosen, 6)
        reference = (line["chosen"], line["rejected"], *([line["other"]] if "other" in line else []))
        measured = replace(pair, other=line.get("other_answer"), reference=reference, difficulty=difficulty)
        found.append(Measured(measured, chosen, rejected))
    return found


def lot(measured: Measured, *what: object) -> float:
    """Return a random sort key that depends on the pair, not on the others."""
    pair = measured.pair
    return unit_hash(*what, pair.record.id, pair.record.response, pair.rejected)


def keep_easiest(pairs: Sequence[Measured], share: float) -> list[Measured]:
    """Return the easiest share of the pairs, at least one, the easiest first.

    Pairs that are too hard for a model can make it worse (Gao et al. 2025, arXiv 2502.09650).
    """
    ranked = sorted(pairs, key=lambda one: (one.difficulty, lot(one)))
    return ranked[: max(1, round(share * len(ranked)))]


def lay_out(
    pairs: Sequence[Measured], order: str, epochs: float, batch_size: int, seed: int
) -> list[Sequence[Measured]]:
    """Return the pairs of each optimizer step. The pairs come in each epoch anew, and the last may be a part of one, of
    pairs drawn at random. `order`: easiest first (as Pattnaik et al. 2024, arXiv 2403.07230), or `random`.
    """
    left = max(1, round(len(pairs) * epochs))
    stream: list[Measured] = []
    epoch = 0
    while left > 0:
        epoch += 1
        drawn = sorted(pairs, key=lambda one: lot(one, seed, "pairs", epoch))[:left]
        if order == "difficulty":
            drawn.sort(key=lambda one: one.difficulty)  # it is stable: equally hard ones in random order
        stream += drawn
        left -= len(drawn)
    return [stream[start : start + batch_size] for start in range(0, len(stream), batch_size)]


def ledger(pairs: int, kept: Sequence[Measured], steps: int, share: float) -> dict[str, Any]:
    """Return what the phase learns from: counts of the pairs that are kept, and their mean lengths in tokens.

    `limit`: the difficulty of the hardest of them, in nats per token; None if `share` leaves none out.
    """
    made = Counter(one.pair.origin["made"] for one in kept)
    return {
        "pairs": pairs,
        "kept": len(kept),
        "too_hard": pairs - len(kept),
        "limit": max(one.difficulty for one in kept) if share < 1 else None,
        "own": made["own"],
        "sampled": made["sampled"],
        "steps": steps,
        "mean_tokens": {
            "chosen": round(fmean(one.chosen_tokens for one in kept), 2),
            "rejected": round(fmean(one.rejected_tokens for one in kept), 2),
        },
        "mean_difficulty": round(fmean(one.difficulty for one in kept), 6),
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        phase = job.params.phase
        every = measure(list(read_pairs(job.input.pairs)), list(read_jsonl(job.input.reference)))
        kept = keep_easiest(every, phase["max_difficulty"])
        steps = lay_out(kept, phase["order"], phase["epochs"], job.params.batch_size, int(job.wildcards.seed))
        write_jsonl(job.output.steps, write_pair_steps([one.pair for one in step] for step in steps))
        write_json(job.output.schedule, {job.wildcards.phase: len(steps)})
        write_json(job.output.ledger, ledger(len(every), kept, len(steps), phase["max_difficulty"]))
