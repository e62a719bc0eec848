"""Find near-copies among any number of rows: MinHash finds candidates, the exact similarity decides.

Two texts are near-copies if the Jaccard similarity of their sets of character 4-grams reaches a threshold (Broder
1997). Signatures come from rensa; banding (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4) uses numpy.
Memory: 8 bytes per row and band, about 150 bytes per row; texts stay on disk.
"""

import os
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from rensa import RMinHash
from tqdm import tqdm

from scripts.common.parallel import chunks, in_order

# a process that has used rensa with several threads of its own cannot be forked: the copy would wait for them for ever
os.environ.setdefault("RAYON_NUM_THREADS", "1")

PIECE = 4  # characters
PERMUTATIONS = 128


def pieces(text: str, size: int = PIECE) -> list[str]:
    """Return the character n-grams (n = `size`) of a lowercased text with whitespace collapsed."""
    text = " ".join(text.lower().split())
    return [text[i : i + size] for i in range(max(1, len(text) - size + 1))]


def shingles(text: str) -> frozenset[str]:
    """Return the set of a text's `pieces`."""
    return frozenset(pieces(text))


def bands(threshold: float) -> tuple[int, int]:
    """Return (number of bands, rows per band): the longest bands that still find 98% of pairs at the threshold."""
    for rows in range(16, 0, -1):
        number = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** number >= 0.98:
            return number, rows
    return PERMUTATIONS, 1


def band_keys(count: int, text: Callable[[int], str], threshold: float, processes: int = 1) -> np.ndarray:
    """Return an array (texts, bands) of 64-bit keys; near-copies share the key of at least one band."""
    number, rows = bands(threshold)
    mix = np.random.default_rng(1).integers(1, 2**63, size=rows, dtype=np.uint64) | np.uint64(1)

    def keys(numbers: range) -> np.ndarray:
        # lists, not sets: a piece that occurs twice does not change the minimum
        signatures = RMinHash.digest_matrix_from_token_sets([pieces(text(i)) for i in numbers], PERMUTATIONS, 1)
        table = np.array(signatures.to_rows(), dtype=np.uint64)[:, : number * rows].reshape(-1, number, rows)
        with np.errstate(over="ignore"):
            return ((table + np.uint64(1)) * mix).sum(axis=2) * np.uint64(0x9E3779B97F4A7C15)  # type: ignore[no-any-return]

    parts = [np.zeros((0, number), dtype=np.uint64)]
    with tqdm(desc="near-copies", unit="row", mininterval=1) as bar:
        for part in in_order(keys, chunks(range(count), 2000), processes):
            parts.append(part)
            bar.update(len(part))
    return np.concatenate(parts)


def candidates(keys: np.ndarray, anchors: int) -> np.ndarray:
    """Return sorted pairs (earlier, later), shape (n, 2): each row with the first `anchors` rows that share a key.

    A bucket of n rows gives at most n times `anchors` pairs, not n², so thousands of copies are not a problem.
    """
    count = len(keys)
    found = np.zeros(0, dtype=np.int64)
    for band in range(keys.shape[1]) if count else ():
        order = np.argsort(keys[:, band], kind="stable")
        ordered = keys[order, band]
        begins = np.r_[True, ordered[1:] != ordered[:-1]]  # a bucket
        later = np.flatnonzero(~begins)
        first = np.maximum.accumulate(np.where(begins, np.arange(count), 0))[later]  # of the bucket
        pairs = []
        for anchor in range(anchors):
            here = later - first > anchor
            pairs.append(order[first[here] + anchor] * count + order[later[here]])
        found = np.union1d(found, np.concatenate(pairs))
    return np.stack([found // max(1, count), found % max(1, count)], axis=1)


def near_copies(
    count: int,
    text: Callable[[int], str],
    threshold: float,
    anchors: int = 1,
    wanted: Callable[[int, int], bool] = lambda first, second: True,
    processes: int = 1,
) -> list[tuple[int, int, float]]:
    """Return (earlier row, later row, similarity) of near-copies among `count` rows, sorted.

    `text` returns a row's text by number; `wanted` selects the pairs to compare. Not every pair of a large bucket is
    compared, see `candidates`.
    """
    pairs = candidates(band_keys(count, text, threshold, processes), anchors)

    @lru_cache(4096)
    def shingles_of(number: int) -> frozenset[str]:
        return shingles(text(number))

    def compare(some: range) -> list[tuple[int, int, float]]:
        found = []
        for first, second in pairs[some.start : some.stop].tolist():
            if wanted(first, second):
                left, right = shingles_of(first), shingles_of(second)
                common = len(left & right)
                similarity = common / (len(left) + len(right) - common)
                if similarity >= threshold:
                    found.append((first, second, round(similarity, 3)))
        return found

    parts = in_order(compare, chunks(range(len(pairs)), 5000), processes)
    steps = tqdm(parts, desc="comparing", total=-(-len(pairs) // 5000), unit="5000 pairs", mininterval=1)
    return [pair for part in steps for pair in part]
