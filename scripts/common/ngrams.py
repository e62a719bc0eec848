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


def find_shared(own: Sequence[np.ndarray], others: Iterable[tuple[Key, np.ndarray]]) -> Iterator[list[Key]]:
    """Yield for each text of `own`, given its `grams`, the key of the first of `others` that has each of its n-grams,
    in the order of these; an n-gram that none has is left out.

    `others`: (key, `grams`) of each text; they are read once, and none is kept.
    """
    index = np.unique(np.concatenate([*own, np.zeros(0, dtype=np.uint64)]))
    first = np.full(len(index), -1, dtype=np.int64)  # the place in `keys` of the first text with this n-gram
    keys: list[Key] = []
    for key, found in others if len(index) else ():
        place = np.minimum(np.searchsorted(index, found), len(index) - 1)
        hit = place[index[place] == found]
        new = hit[first[hit] < 0]
        if len(new):
            first[new] = len(keys)
            keys.append(key)
    for mine in own:
        yield [keys[place] for place in first[np.searchsorted(index, mine)].tolist() if place >= 0]
