"""How scores divide rows into levels, and which scorer would divide them better. Pure functions on numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scripts.common.curriculum import Curriculum, wanted_quantiles, wanted_shares
from scripts.common.errors import GradusError

# the preference among scorers that divide the rows about equally well: correlation with failures on AWS commands
PREFERRED = ("facts", "length", "rules")
ALIKE = 0.05  # shares that differ by less count as equal


@dataclass
class Proposal:
    """A scorer and quantiles, the share of rows that each level would have, and the config lines to paste."""

    scorer: str
    quantiles: list[float]
    shares: list[float]
    lines: list[str] = field(default_factory=list)


def to_levels(values: np.ndarray, thresholds: Sequence[float] | None, quantiles: Sequence[float] | None) -> np.ndarray:
    """Return each value's level, from 0: by quantiles if given (a value equal to a quantile is below it), else by
    thresholds (a value equal to a threshold is above it).
    """
    if quantiles and len(values):
        return np.searchsorted(np.quantile(values, quantiles), values, side="left")
    return np.searchsorted(np.array(thresholds or []), values, side="right")


def divide(values: Sequence[float], quantiles: Sequence[float]) -> list[float]:
    """Return the share of the values in each level, by quantiles."""
    counts = np.bincount(to_levels(np.asarray(values, dtype=float), None, quantiles), minlength=len(quantiles) + 1)
    return [float(count) / max(1, len(values)) for count in counts]


def propose(scores: Mapping[str, Sequence[float]], count: int) -> tuple[dict[str, list[float]], Proposal | None]:
    """Return the shares of `count` levels by each scorer, and a proposal: the scorer closest to the wanted shares.

    `scores`: {scorer: values of the same rows}. The proposal is None if every scorer leaves a level empty.
    """
    quantiles = wanted_quantiles(count)
    shares = {name: divide(values, quantiles) for name, values in scores.items()}
    wanted = wanted_shares(count)
    off = {
        name: max(abs(share - want) for share, want in zip(divided, wanted, strict=True))
        for name, divided in shares.items()
        if min(divided) > 0
    }
    if not off:
        return shares, None
    close = [name for name in off if off[name] <= min(off.values()) + ALIKE]
    best = next((name for name in PREFERRED if name in close), close[0])
    weights = ", ".join(f"{name}: {1 if name == best else 0}" for name in scores)
    lines = ["score:", f"  weights: {{{weights}}}", f"  quantiles: {quantiles}"]
    return shares, Proposal(best, quantiles, shares[best], lines)


def percentages(shares: Sequence[float]) -> str:
    """Format shares, such as 30/50/20%."""
    return "/".join(f"{100 * share:.0f}" for share in shares) + "%"


def check_phases(counts: Mapping[str, int], curriculum: Curriculum, scores: Mapping[str, Sequence[float]]) -> None:
    """Raise GradusError if a phase would train on no rows, or only on rows of earlier phases.

    `counts`: training rows of each level. `scores`: {scorer: values of training rows}, to propose a better division.
    """
    for phase in curriculum.phases:
        new = curriculum.new_levels()[phase.name]
        if sum(counts.get(level, 0) for level in new or phase.levels):
            continue
        listed = ", ".join(f"{counts.get(level, 0)} {level}" for level in curriculum.levels)
        lines = [
            f"no training row is {' or '.join(new or phase.levels)}, so the {phase.name} phase would have no rows of "
            f"its own. Training rows by difficulty: {listed}."
        ]
        shares, proposal = propose(scores, len(curriculum.levels))
        if shares:
            quantiles = wanted_quantiles(len(curriculum.levels))
            lines.append(f"Shares with quantiles {quantiles} of each scorer ({'/'.join(curriculum.levels)}):")
            lines += [f"  {name} {percentages(each)}" for name, each in shares.items()]
        if proposal:
            lines += [
                "Put this into the config. (Rows with their own difficulty keep it: if all rows have one, list only "
                "their levels in curriculum.levels.)",
                *proposal.lines,
            ]
        else:
            lines += ["No scorer separates these rows. Train them in one phase:", *one_phase(curriculum.levels)]
        raise GradusError("\n  ".join(lines))


def one_phase(levels: Sequence[str]) -> list[str]:
    """Return the config lines for training in one phase."""
    return ["curriculum:", "  phases:", f"    - {{name: train, levels: [{', '.join(levels)}]}}"]
