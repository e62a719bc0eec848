"""Find near-copies among any number of rows: MinHash finds candidates, the exact similarity decides.

Two texts are near-copies if the Jaccard similarity of their sets of character 4-grams reaches a threshold (Broder
1997). Signatures come from rensa; banding (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4) uses numpy.
Memory: 8 bytes per row and band, about 150 bytes per row; texts stay on disk.
"""

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rensa import RMinHash
from tqdm import tqdm

PIECE = 4  # characters
PERMUTATIONS = 128


class Rows:
    """Random access to the rows of a JSONL file by number; rows are read on demand."""

    def __init__(self, path: str | Path) -> None:
        """Index the offset of each line."""
        self.handle = open(path, "rb")  # noqa: SIM115
        offsets, position = [], 0
        for line in self.handle:
            offsets.append(position)
            position += len(line)
        self.offsets = np.array(offsets, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, number: int) -> Any:
        self.handle.seek(int(self.offsets[number]))
        return json.loads(self.handle.readline())


def shingles(text: str, size: int = PIECE) -> frozenset[str]:
    """Return the set of character n-grams (n = `size`) of a lowercased text with whitespace collapsed."""
    text = " ".join(text.lower().split())
    return frozenset([text[i : i + size] for i in range(max(1, len(text) - size + 1))])


def bands(threshold: float) -> tuple[int, int]:
    """Return (number of bands, rows per band): the longest bands that still find 98% of pairs at the threshold."""
    for rows in range(16, 0, -1):
        number = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** number >= 0.98:
            return number, rows
    return PERMUTATIONS, 1


def band_keys(texts: Iterable[str], threshold: float) -> np.ndarray:
    """Return an array (texts, bands) of 64-bit keys; near-copies share the key of at least one band."""
    number, rows = bands(threshold)
    mix = np.random.default_rng(1).integers(1, 2**63, size=rows, dtype=np.uint64) | np.uint64(1)
    parts = []
    stream = iter(tqdm(texts, desc="near-copies", unit="row", mininterval=1))
    while batch := list(islice(stream, 2000)):
        signatures = RMinHash.digest_matrix_from_token_sets([list(shingles(text)) for text in batch], PERMUTATIONS, 1)
        table = np.array(signatures.to_rows(), dtype=np.uint64)[:, : number * rows].reshape(len(batch), number, rows)
        with np.errstate(over="ignore"):
            parts.append(((table + np.uint64(1)) * mix).sum(axis=2) * np.uint64(0x9E3779B97F4A7C15))
    return np.concatenate(parts) if parts else np.zeros((0, number), dtype=np.uint64)


def candidates(keys: np.ndarray, anchors: int) -> np.ndarray:
    """Return sorted pairs (earlier, later), shape (n, 2): each row with the first `anchors` rows that share a key.

    A bucket of n rows gives at most n times `anchors` pairs, not n², so thousands of copies are not a problem.
    """
    count = len(keys)
    found = np.zeros(0, dtype=np.int64)
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        ordered = keys[order, band]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        bucket = np.cumsum(np.r_[False, ordered[1:] != ordered[:-1]])
        sizes = np.diff(np.r_[begins, count])
        member = sizes[bucket] > 1
        for anchor in range(anchors):
            here = member & (np.arange(count) - begins[bucket] > anchor)
            first = order[begins[bucket[here]] + anchor]
            found = np.union1d(found, first.astype(np.int64) * count + order[here])
    return np.stack([found // count, found % count], axis=1) if count else np.zeros((0, 2), dtype=np.int64)


def near_copies(
    count: int,
    text: Callable[[int], str],
    threshold: float,
    anchors: int = 1,
    wanted: Callable[[int, int], bool] = lambda first, second: True,
) -> list[tuple[int, int, float]]:
    """Return (earlier row, later row, similarity) of near-copies among `count` rows, sorted.

    `text` returns a row's text by number; `wanted` selects the pairs to compare. Not every pair of a large bucket is
    compared, see `candidates`.
    """
    pairs = candidates(band_keys((text(i) for i in range(count)), threshold), anchors)

    @lru_cache(4096)
    def pieces(number: int) -> frozenset[str]:
        return shingles(text(number))

    found = []
    for first, second in tqdm(pairs.tolist(), desc="comparing", unit="pair", mininterval=1):
        if wanted(first, second):
            left, right = pieces(first), pieces(second)
            common = len(left & right)
            similarity = common / (len(left) + len(right) - common)
            if similarity >= threshold:
                found.append((first, second, round(similarity, 3)))
    return found
