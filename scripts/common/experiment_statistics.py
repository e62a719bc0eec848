"""Two arms of an experiment, compared on the same seeds and the same held-out items (rows).

What is analyzed is the paired difference of each seed and item, arm minus control. Its model has crossed random
effects: difference[seed, item] = mean + seed's + item's + rest, since every seed answers the same items. A claim about
other seeds and other rows has to allow for both. Rows that hang together (a cluster: a row's group) count as one unit.
docs/statistics.md says which number is for what, and how often each interval holds the truth.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t, ttest_1samp
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from scripts.common.errors import GradusError
from scripts.common.statistics import holm, linearize, number_clusters

ALPHA = 0.05  # of two-sided tests; intervals are of 1 - ALPHA
POWER = 0.8  # probability of finding an effect of the size that is planned for
# differences below it do not matter in practice: 0.01 is a point of accuracy, the region of practical equivalence of
# Benavoli et al. 2017 (Journal of Machine Learning Research 18, 77), or 0.01 nats a token, 1% of perplexity
MARGIN = 0.01
RESAMPLES = 9999
MOST_SEEDS, MOST_ITEMS = 1000, 1_000_000  # a plan for more is none

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Table = Mapping[str, Mapping[int, Mapping[str, float]]]  # {arm: {seed: {item: value}}}


@dataclass(frozen=True)
class Components:
    """Variances of the paired difference: between seeds, between items (clusters), and the rest, which is of one seed
    on one item. Numbers, or arrays of the same shape.
    """

    seed: Any
    item: Any
    rest: Any


@dataclass(frozen=True)
class Comparison:
    """An arm compared with its control. Differences are arm minus control, in the metric's unit (nats a token for a
    loss, 0 to 1 for a share). An interval or p is None if there is no spread to take it from.
    """

    arm: str
    control: str
    higher_is_better: bool
    seeds: int
    items: int
    clusters: int  # as many as items, if none hang together
    value: float  # of the arm: mean over seeds and items
    control_value: float
    difference: float
    seed_sd: float  # standard deviation over the seeds of the difference's mean over the items
    components: Components
    margin: float
    interval: Interval | None = None  # over seeds and items; the one to decide by
    bootstrap: Interval | None = None  # over seeds and items, resampled
    seeds_t: Interval | None = None  # over seeds, for these items only
    p: float | None = None  # belongs to `interval`
    p_holm: float | None = None  # corrected for the number of comparisons; None for the primary one
    equivalent: bool = False  # whether the interval of 1 - 2 ALPHA lies within the margin on both sides
    tost_p: float | None = None  # of the two one-sided tests, over seeds, for these items only
    minimum_detectable_effect: float | None = None
    seeds_needed: int | None = None  # to detect a difference as large as the margin on these items; None: too many
    items_needed: int | None = None  # with these seeds

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {name: six_digits(value) for name, value in asdict(self).items()}


def six_digits(value: Any) -> Any:
    """Return a value as JSON has it, each number with six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, tuple):
        return [six_digits(each) for each in value]
    return {name: six_digits(each) for name, each in value.items()} if isinstance(value, dict) else value


def compare_arms(
    table: Table,
    arm: str,
    control: str,
    clusters: Mapping[str, str] | None = None,
    margin: float = MARGIN,
    higher_is_better: bool = False,
) -> Comparison:
    """Compare an arm with its control, of a loss unless `higher_is_better`.

    `clusters`: {item: its group}; an item without one is a unit of its own. Raises GradusError if the control is
    missing, seeds or items differ, there is only one seed or group, or a value is no number.
    """
    seeds, items = check(table, arm, control)
    of_arm, of_control = (
        np.array([[table[name][seed][item] for item in items] for seed in seeds]) for name in (arm, control)
    )
    differences = of_arm - of_control
    sums, sizes = sum_clusters(differences, cluster_numbers(items, clusters))
    units = linearize(sums, sizes)
    spread = components_of(units)
    found = Comparison(
        arm=arm,
        control=control,
        higher_is_better=higher_is_better,
        seeds=len(seeds),
        items=len(items),
        clusters=len(sizes),
        value=float(of_arm.mean()),
        control_value=float(of_control.mean()),
        difference=float(differences.mean()),
        seed_sd=float(differences.mean(axis=1).std(ddof=1)),
        components=Components(*(float(variance) for variance in (spread.seed, spread.item, spread.rest))),
        margin=margin,
    )
    smallest = 1e-9 * float(np.abs([of_arm, of_control]).max())  # below it, a spread is rounding
    if np.ptp(units) <= smallest:  # not `differences`: what changes may cancel within each cluster
        return found
    error, freedom = standard_error(found.components, found.seeds, found.clusters)
    low, high = crossed_t(units, 1 - 2 * ALPHA)
    over_seeds, tost_p = None, None
    if np.ptp(differences.mean(axis=1)) > smallest:
        over_seeds = _pair(seeds_t(sums, sizes))
        tost_p = float(ttost_paired(of_arm.mean(axis=1), of_control.mean(axis=1), -margin, margin)[0])
    items_needed = needed_items(found.components, found.seeds, margin)
    return replace(
        found,
        interval=_pair(crossed_t(units)),
        bootstrap=_pair(crossed_bootstrap(sums, sizes)),
        seeds_t=over_seeds,
        p=float(2 * t.sf(abs(found.difference) / error, freedom)),
        equivalent=bool(-margin < low and high < margin),
        tost_p=tost_p,
        minimum_detectable_effect=detectable(found.components, found.seeds, found.clusters),
        seeds_needed=needed_seeds(found.components, found.clusters, margin),
        items_needed=items_needed and ceil(items_needed * found.items / found.clusters),
    )


def correct(comparisons: Sequence[Comparison], primary: tuple[str, str]) -> list[Comparison]:
    """Return the comparisons with p corrected for their number (Holm 1979), all but the `primary` one (arm, control):
    it was named before the first training, so it is the only one that needs no correction.
    """
    p = {
        str(place): found.p
        for place, found in enumerate(comparisons)
        if (found.arm, found.control) != primary and found.p is not None
    }
    adjusted = holm(p)
    return [replace(found, p_holm=adjusted.get(str(place))) for place, found in enumerate(comparisons)]


# --- the table


def check(table: Table, arm: str, control: str) -> tuple[list[int], list[str]]:
    """Return the seeds and items of both arms, sorted. Raises GradusError if they are not the same, or too few."""
    for role, name in (("control", control), ("arm", arm)):
        if not table.get(name):
            raise GradusError(
                f"The {role} {name} has no values; {', '.join(sorted(table)) or 'no arm'} has. A difference needs both "
                f"arms on the same seeds: train {name}, or name another {role}."
            )
    of_arm, of_control = set(table[arm]), set(table[control])
    if of_arm != of_control:
        missing = [f"{control} {seed}" for seed in sorted(of_arm - of_control)]
        missing += [f"{arm} {seed}" for seed in sorted(of_control - of_arm)]
        raise GradusError(
            f"{arm} and {control} were not trained with the same seeds; missing: {', '.join(missing)}. A seed counts "
            "only as a pair: finish these trainings, or name the seeds in experiment.left_out."
        )
    seeds = sorted(of_arm)
    if len(seeds) == 1:
        raise GradusError(
            f"{arm} and {control} were trained with one seed only ({seeds[0]}). That shows how two models differ, and "
            "nothing about the arms: another seed may turn the difference around, and no interval, test or plan can "
            "say how likely that is. Train more seeds; 8 detect a difference of 1.15 of their standard deviations."
        )
    items = sorted(table[control][seeds[0]])
    for name in (control, arm):
        for seed in seeds:
            _check_items(table[name][seed], items, f"{name}, seed {seed}", f"{control}, seed {seeds[0]}")
    if not items:
        raise GradusError(f"{arm} and {control} have no held-out rows: there is nothing to compare.")
    return seeds, items


def _check_items(values: Mapping[str, float], items: Sequence[str], where: str, first: str) -> None:
    differing = sorted(set(values) ^ set(items))
    if differing:
        raise GradusError(
            f"{where} and {first} were not measured on the same rows: {len(differing)} are in only one of them, such "
            f"as {differing[0]}. Measure all models on the same rows."
        )
    unknown = [item for item in items if not np.isfinite(values[item])]
    if unknown:
        raise GradusError(
            f"{where}: the value of {len(unknown)} of {len(items)} rows is no number, such as {unknown[0]} "
            f"({values[unknown[0]]}). Measure this model again; if it stays so, its training diverged: "
            "name its seed in experiment.left_out, so that it counts in no arm."
        )


def cluster_numbers(items: Sequence[str], clusters: Mapping[str, str] | None) -> NDArray[np.int64]:
    """Return the number of each item's cluster, from 0. Raises GradusError if there is only one."""
    numbers = number_clusters(items, clusters or {})
    if numbers is None:
        numbers = np.arange(len(items))
    if numbers.max() < 1:
        group = (clusters or {}).get(items[0], items[0])
        raise GradusError(
            f"The held-out rows are one unit ({len(items)} rows of {group}). It cannot be told how other rows "
            "would differ: hold out rows of at least two groups."
        )
    return numbers


def sum_clusters(differences: Floats, numbers: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the sums by cluster, (…, seeds, clusters), of differences (…, seeds, items), and the clusters' sizes."""
    member = np.equal.outer(numbers, np.arange(numbers.max() + 1)).astype(float)
    return differences @ member, member.sum(axis=0)


# --- intervals of the mean difference, over seeds and items unless said otherwise; all take leading axes


def components_of(units: Floats) -> Components:
    """Return the variance components of units (…, seeds, clusters), from the mean squares of a two-way analysis of
    variance (Henderson 1953, Biometrics 9, 226–252), those below zero set to zero. For such a balanced table they are
    REML's (Searle, Casella and McCulloch 1992, Variance Components, section 4.8) wherever none is below zero.
    """
    seeds, clusters = units.shape[-2:]
    by_seed, by_item = units.mean(axis=-1, keepdims=True), units.mean(axis=-2, keepdims=True)
    rest = units - by_seed - by_item + units.mean(axis=(-1, -2), keepdims=True)
    square = (rest**2).sum(axis=(-1, -2)) / ((seeds - 1) * (clusters - 1))
    seed = by_seed[..., 0].var(axis=-1, ddof=1) - square / clusters
    item = by_item[..., 0, :].var(axis=-1, ddof=1) - square / seeds
    return Components(np.maximum(seed, 0), np.maximum(item, 0), square)


def standard_error(spread: Components, seeds: int, items: int) -> tuple[Any, Any]:
    """Return the standard error of the mean difference of so many seeds and items (clusters), and its degrees of
    freedom (Satterthwaite 1946, Biometrics Bulletin 2, 110–114; for crossed factors Clark 1973, Journal of Verbal
    Learning and Verbal Behavior 12, 335–359, "quasi-F").

    With one seed it is that of two single models, whose rows have the variance `spread.item`.
    """
    if seeds == 1:
        return np.sqrt(spread.item / items), items - 1
    rest = spread.rest / (seeds * items)
    by_seed, by_item = spread.seed / seeds + rest, spread.item / items + rest
    variance = by_seed + by_item - rest
    doubt = by_seed**2 / (seeds - 1) + by_item**2 / (items - 1) + rest**2 / ((seeds - 1) * (items - 1))
    return np.sqrt(variance), variance**2 / doubt


def crossed_t(units: Floats, confidence: float = 1 - ALPHA) -> Floats:
    """Return the t interval with the standard error of both factors, (2, …), of units (…, seeds, clusters)."""
    error, freedom = standard_error(components_of(units), *units.shape[-2:])
    mean, half = units.mean(axis=(-1, -2)), t.ppf((1 + confidence) / 2, freedom) * error
    return np.array([mean - half, mean + half])


@lru_cache(maxsize=8)
def _counts(units: int, resamples: int, factor: int) -> NDArray[np.uint16]:
    """Return how often each unit is in each resample, (resamples, units), the same in every call."""
    drawn = np.random.default_rng([1, factor]).multinomial(units, np.full(units, 1 / units), resamples)
    return drawn.astype(np.uint16)


def resampled_means(sums: Floats, sizes: Floats, resamples: int) -> Floats:
    """Return the mean difference on resamples, (…, resamples): seeds and clusters are drawn independently, and a drawn
    seed keeps its values on all drawn clusters.
    """
    seeds, clusters = sums.shape[-2:]
    of_seeds, of_clusters = _counts(seeds, resamples, 0), _counts(clusters, resamples, 1)
    parts = []
    for start in range(0, resamples, 1000):  # so that thousands of rows need little memory
        chosen = of_clusters[start : start + 1000].astype(float)
        totals = np.tensordot(chosen, sums, (1, -1))  # (resamples, …, seeds)
        means = np.einsum("b...s,bs->...b", totals, of_seeds[start : start + 1000].astype(float))
        parts.append(means / (seeds * (chosen @ sizes)))
    return np.concatenate(parts, axis=-1)


def crossed_bootstrap(sums: Floats, sizes: Floats, resamples: int = RESAMPLES) -> Floats:
    """Return the percentile interval, (2, …), of a bootstrap of sums (…, seeds, clusters) that resamples both factors:
    the pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1, 386–411).

    It counts the rest's variance three times, and the seeds' with n - 1 of n and no t: too narrow with few seeds.
    """
    return np.percentile(resampled_means(sums, sizes, resamples), [50 * ALPHA, 100 - 50 * ALPHA], axis=-1)


def seeds_t(sums: Floats, sizes: Floats) -> Floats:
    """Return the paired t interval over seeds, (2, …), of sums (…, seeds, clusters). It holds for these items only."""
    found = ttest_1samp(sums.sum(axis=-1) / sizes.sum(), 0, axis=-1).confidence_interval(1 - ALPHA)
    return np.array([found.low, found.high])


def _pair(bounds: Floats) -> Interval:
    return float(bounds[0]), float(bounds[1])


# --- planning, by the noncentral t distribution; `items` are clusters where rows hang together


def power(spread: Components, seeds: int, items: int, effect: float) -> float:
    """Return the probability that `crossed_t` excludes 0 if the true difference is `effect`."""
    error, freedom = standard_error(spread, seeds, items)
    if error == 0:
        return 1.0
    return float(TTestPower().power(effect / error, 1, ALPHA, df=freedom))


def detectable(spread: Components, seeds: int, items: int) -> float:
    """Return the minimum detectable effect: the true difference that is found with a probability of POWER."""
    error, freedom = standard_error(spread, seeds, items)
    size = TTestPower().solve_power(nobs=freedom + 1, alpha=ALPHA, power=POWER)  # in standard deviations of one pair
    return float(size * sqrt(freedom + 1) * error)


def needed_seeds(spread: Components, items: int, effect: float) -> int | None:
    """Return how many seeds find a true difference of `effect` on these items; None if even MOST_SEEDS do not."""
    return _smallest(lambda seeds: power(spread, seeds, items, effect) >= POWER, MOST_SEEDS)


def needed_items(spread: Components, seeds: int, effect: float) -> int | None:
    """Return how many items find it with these seeds; None if even MOST_ITEMS do not."""
    return _smallest(lambda items: power(spread, seeds, items, effect) >= POWER, MOST_ITEMS)


def _smallest(enough: Callable[[int], bool], most: int) -> int | None:
    high = 2
    while not enough(high):  # doubled, since far beyond the answer the noncentral t is no number
        if high == most:
            return None
        high = min(2 * high, most)
    return bisect_left(range(high + 1), True, lo=2, key=enough)
