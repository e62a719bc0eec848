"""Word n-grams of texts, as hashes: which texts share some words in a row."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import xxhash

WORD = re.compile(r"\w+")
Key = TypeVar("Key")


def grams(text: str, size: int) -> np.ndarray:
    """Return the 64-bit hashes of a text's lowercased n-grams of `size` words; empty if it has fewer words."""
    words = WORD.findall(text.lower())
    return np.array(
        [xxhash.xxh64_intdigest(" ".join(words[i : i + size]).encode()) for i in range(len(words) - size + 1)],
        dtype=np.uint64,
    )


def distinct_grams(texts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the n-grams of some texts, given their `grams`, sorted and each once."""
    return np.unique(np.concatenate([*texts, np.zeros(0, dtype=np.uint64)]))


def hits(known: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the places in `known`, as `distinct_grams` returns them, of those n-grams of `found` that are in it."""
    if not len(known):
        return np.zeros(0, dtype=np.int64)
    place = np.minimum(np.searchsorted(known, found), len(known) - 1)
    return place[known[place] == found]  # type: ignore[no-any-return]


def find_shared(
    own: Sequence[np.ndarray], known: np.ndarray, others: Iterable[tuple[Key, np.ndarray]]
) -> Iterator[list[Key]]:
    """Yield for each text of `own`, given its `grams`, the key of the first of `others` that has each of its n-grams,
    in the order of these; an n-gram that none has is left out.

    `known`: the `distinct_grams` of `own`. `others`: (key, `hits` in `known`) of each text; they are read once, and
    none is kept.
    """
    first = np.full(len(known), -1, dtype=np.int64)  # the place in `keys` of the first text with this n-gram
    keys: list[Key] = []
    for key, hit in others:
        new = hit[first[hit] < 0]
        if len(new):
            first[new] = len(keys)
            keys.append(key)
    for mine in own:
        yield [keys[place] for place in first[np.searchsorted(known, mine)].tolist() if place >= 0]
