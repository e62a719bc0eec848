"""Intervals and tests of the comparison. All of 95%, two-sided and seeded: the same rows, the same digits."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap, permutation_test

RESAMPLES = 9999  # of rows; 999 where each takes a metric over all rows
AT_ONCE = 2**22  # values of resampled rows that are in memory at a time; the digits do not depend on it
Floats = NDArray[np.float64]


def wilson(hits: float, n: float) -> tuple[float, float]:
    """Return the Wilson score interval of a share (Wilson 1927). The numbers need not be whole (`effective_rows`)."""
    if not (isinstance(hits, int) and isinstance(n, int)):
        from statsmodels.stats.proportion import proportion_confint  # its import takes more than a second

        low, high = proportion_confint(hits, n, method="wilson")
        return float(low), float(high)
    bounds = binomtest(hits, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(bounds.low), float(bounds.high)


def paired_shares(both: float, only_first: float, only_other: float, neither: float) -> tuple[float, float]:
    """Return the interval of the difference of two shares on the same rows, other minus first, of how often both, one
    or neither is right (Newcombe 1998, Statistics in Medicine 17, 2635–2650, method 10).
    """
    n = both + only_first + only_other + neither
    first, other = both + only_first, both + only_other
    (low_first, high_first), (low_other, high_other) = wilson(first, n), wilson(other, n)
    margins = first * (n - first) * other * (n - other)
    product = both * neither - only_first * only_other
    phi = (max(product - n / 2, 0) if product > 0 else product) / math.sqrt(margins) if margins else 0.0

    def width(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    p, q, difference = first / n, other / n, (only_other - only_first) / n
    return difference - width(q - low_other, high_first - p), difference + width(high_other - q, p - low_first)


def mcnemar(only_first: int, only_other: int) -> float:
    """Return p of the exact McNemar test (McNemar 1947): the probability of rows that only one of two models gets right
    splitting at least this unevenly, if both were equally good.
    """
    return float(binomtest(only_other, only_first + only_other).pvalue) if only_first + only_other else 1.0


def _batch(n: int) -> int:
    """Return how many resamples of `n` rows are made at a time."""
    return max(1, AT_ONCE // n)


def sign_flips(differences: Sequence[float]) -> float:
    """Return p of the paired permutation test (Fisher 1935): the probability of a mean difference at least this large
    if each row's sign were random. Of zeros and ones it is McNemar's test.
    """
    if len(differences) < 2 or not np.any(differences):
        return 1.0
    test = permutation_test(
        (np.asarray(differences, dtype=float),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=_batch(len(differences)),
        rng=np.random.default_rng(1),
    )
    return float(test.pvalue)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the bootstrap interval of a mean (percentiles, Efron 1979); of differences by row, the paired bootstrap.
    None if all values are the same, since resampling then shows no spread.
    """
    if len(set(values)) < 2:
        return None
    found = bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=_batch(len(values)),
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    return float(found.low), float(found.high)


def resampled(
    n: int, measure: Callable[[Sequence[int]], float], clusters: NDArray[np.int64] | None = None
) -> Floats | None:
    """Return a metric over all rows, on 999 resamples of `n` rows, or of their clusters, whole: `measure` takes rows'
    numbers, some more than once. All models get the same resamples, so values of two models can be subtracted. None if
    there are fewer than two rows, or clusters.
    """
    numbers = np.arange(n) if clusters is None else clusters
    members = [np.flatnonzero(numbers == cluster).tolist() for cluster in range(numbers.max(initial=-1) + 1)]
    if len(members) < 2:
        return None
    random = np.random.default_rng(1)
    draws = (random.integers(0, len(members), len(members)) for _ in range(999))
    return np.array([measure([row for cluster in draw for row in members[cluster]]) for draw in draws])


# --- rows that hang together


def number_clusters(items: Sequence[str], groups: Mapping[str, str]) -> NDArray[np.int64] | None:
    """Return the number of each item's cluster, from 0: `groups` is {item: its group}, and an item without one is a
    cluster of its own. None if each item is.
    """
    names = [("group", group) if (group := groups.get(item, "")) else ("item", item) for item in items]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return None if len(numbers) == len(items) else np.array([numbers[name] for name in names])


def linearize(sums: Floats, sizes: Floats) -> Floats:
    """Return one value for each seed and cluster, whose plain mean is the mean over the items: the cluster's mean if
    all are of the same size, else that of the ratio linearized (Cochran 1977, Sampling Techniques, section 6.3).

    `sums`: by cluster, of shape (…, seeds, clusters); `sizes`: items of each cluster.
    """
    mean = sums.sum(axis=(-1, -2), keepdims=True) / (sums.shape[-2] * sizes.sum())
    return mean + (sums - mean * sizes) * len(sizes) / sizes.sum()


def by_cluster(values: Sequence[float], clusters: NDArray[np.int64] | None) -> tuple[list[float], list[float]]:
    """Return (a value for each cluster, whose mean is the rows' mean; each cluster's sum), of the rows' values."""
    if clusters is None:
        return list(values), list(values)
    sums, sizes = (np.bincount(clusters, weights).astype(float) for weights in (values, np.ones(len(values))))
    units, sums = (np.round(both, 12) for both in (linearize(sums[None], sizes)[0], sums))  # what cancels is 0
    return units.tolist(), sums.tolist()


def effective_rows(values: Sequence[float], clusters: NDArray[np.int64]) -> float:
    """Return as how many independent rows the rows count, for the intervals of shares: their number over the design
    effect, and at most that (Franco, Little, Louis and Slud 2019, Journal of Survey Statistics and Methodology 7,
    334–364). The number of clusters if all rows are the same, since that shows no design effect.
    """
    units, _ = by_cluster(values, clusters)
    if len(set(values)) == 1 or len(units) == 1:
        return float(len(units))
    alone, together = np.var(values, ddof=1) / len(values), np.var(units, ddof=1) / len(units)
    return float(len(values) * min(1.0, alone / together if together else 1.0))


def percentiles(values: Floats) -> tuple[float, float] | None:
    """Return the interval that 95% of resampled values are in; None if all are the same, or one is no number."""
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return p values adjusted for their number: step-down (Holm 1979), so that the probability of any false finding
    among them is at most 5% if 0.05 is the limit.
    """
    ordered = sorted(p, key=lambda name: (p[name], name))
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p}


def with_holm(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return comparisons, {split, p, …}, with `p_holm`: p adjusted for the number of those of the same split; None
    where p is.
    """
    adjusted: dict[str, float] = {}
    for split in {row["split"] for row in comparisons}:
        alike = {str(n): row["p"] for n, row in enumerate(comparisons) if row["split"] == split}
        adjusted |= holm({name: p for name, p in alike.items() if p is not None})
    return [
        {**row, "p_holm": three_digits(adjusted[str(n)]) if str(n) in adjusted else None}
        for n, row in enumerate(comparisons)
    ]


def rounded(bounds: tuple[float, float] | None) -> list[float] | None:
    """Return an interval as JSON has it: [low, high], four decimal places."""
    return None if bounds is None else [round(bound, 4) + 0.0 for bound in bounds]


def three_digits(p: Any) -> float:
    """Return a p value with three significant digits."""
    return float(f"{p:.3g}")
