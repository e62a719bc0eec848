"""Word n-grams of texts, as hashes: which texts share some words in a row."""

import re

import numpy as np
import xxhash

WORD = re.compile(r"\w+")


def grams(text: str, size: int) -> np.ndarray:
    """Return the 64-bit hashes of a text's lowercased n-grams of `size` words; empty if it has fewer words."""
    words = WORD.findall(text.lower())
    return np.array(
        [xxhash.xxh64_intdigest(" ".join(words[i : i + size]).encode()) for i in range(len(words) - size + 1)],
        dtype=np.uint64,
    )
