"""`python -m scripts.bench.calibration [draws]`: how often the intervals of an experiment hold the truth.

Draws experiments whose true difference is known, from models with crossed random effects, and prints for each interval
of scripts/common/experiment_statistics.py how often it holds the truth (coverage), and how often it excludes 0 where
the truth is 0 (false positives). With 2,000 draws (the default), 95% is known to ± 1 point.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from scripts.common.experiment_statistics import (
    Floats,
    crossed_bootstrap,
    crossed_t,
    seeds_t,
    sum_clusters,
)
from scripts.common.statistics import linearize

EFFECT = 0.02
SEEDS, ITEMS = (3, 5, 8, 12), (50, 200)
INTERVALS = ("interval", "bootstrap", "seeds_t")
BATCH = 100  # draws that are analyzed together, for memory


@dataclass(frozen=True)
class World:
    """Where experiments are drawn from. Standard deviations of the paired difference: between seeds, between items
    (rows, or groups of `together` rows), and of one seed on one row. In nats a token; `binary`: of the latent normal
    variable whose sign is right or wrong, whose rest is 1.
    """

    name: str
    seed: float
    item: float
    rest: float
    together: int = 1
    binary: bool = False


WORLDS = (
    World("seeds and rows differ alike", 0.01, 0.05, 0.1),
    World("seeds differ most", 0.03, 0.02, 0.05),
    World("rows differ most", 0.002, 0.15, 0.1),
    World("neither differs", 0, 0, 0.1),
    World("rows in groups of five", 0.01, 0.05, 0.1, together=5),
    World("right or wrong", 0.1, 0.3, 1, binary=True),
)


def draw(
    world: World, effect: float, seeds: int, items: int, draws: int, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """Return paired differences (draws, seeds, items) with the true mean `effect`, and each item's cluster."""
    clusters = np.arange(items) // world.together

    def effects(by_seed: float, by_item: float) -> Floats:
        of_items = rng.normal(0, 1, (draws, 1, clusters[-1] + 1))[..., clusters]
        return by_seed * rng.normal(0, 1, (draws, seeds, 1)) + by_item * of_items

    noise = rng.normal(0, world.rest, (2, draws, seeds, items)) / sqrt(2)
    if not world.binary:
        return effect + effects(world.seed, world.item) + noise[0] - noise[1], clusters
    difficulty = effects(0, 1)  # of the rows, the same for both arms
    total = sqrt(1 + world.seed**2 + world.item**2 + world.rest**2)
    shift = total * float(norm.ppf(0.5 + effect))
    right = [shift * arm + difficulty + effects(world.seed, world.item) + sqrt(2) * noise[arm] > 0 for arm in (0, 1)]
    return right[1].astype(float) - right[0], clusters


def hold(
    world: World, truth: float, seeds: int, items: int, draws: int, resamples: int = 999, seed: int = 1
) -> dict[str, int]:
    """Return {interval: how many of the draws it holds the truth in}."""
    rng, held = np.random.default_rng([seed, seeds, items]), dict.fromkeys(INTERVALS, 0)
    for start in range(0, draws, BATCH):
        differences, clusters = draw(world, truth, seeds, items, min(BATCH, draws - start), rng)
        sums, sizes = sum_clusters(differences, clusters)
        found = (crossed_t(linearize(sums, sizes)), crossed_bootstrap(sums, sizes, resamples), seeds_t(sums, sizes))
        for name, (low, high) in zip(INTERVALS, found, strict=True):
            held[name] += int(((low <= truth) & (truth <= high)).sum())
    return held


def show(world: World, draws: int) -> None:
    """Print a world's table."""
    columns = [f"{name}: {what}" for what in ("holds", "false") for name in INTERVALS]
    print(f"\n{world}\n\n| seeds | rows | {' | '.join(columns)} |\n|{'--:|' * 8}")
    for seeds in SEEDS:
        for items in ITEMS:
            holds, at_zero = hold(world, EFFECT, seeds, items, draws), hold(world, 0, seeds, items, draws, seed=2)
            shares = [holds[name] / draws for name in INTERVALS] + [1 - at_zero[name] / draws for name in INTERVALS]
            print(f"| {seeds} | {items} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Draw and print."""
    for world in WORLDS:
        show(world, int(arguments[0]) if arguments else 2000)


if __name__ == "__main__":
    main(sys.argv[1:])
