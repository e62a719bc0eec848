"""NEFTune (Jain et al. 2023, arXiv 2310.05914): uniform noise on the embeddings of each row during training."""

from collections.abc import Sequence
from typing import Any

import torch


class EmbeddingNoise:
    """A forward hook of the embedding of packed rows.

    A row of n tokens and width d gets noise of at most alpha/√(n·d), as when it is trained alone. (transformers' own
    hook takes n for the whole pack, so its noise would depend on how many rows fit into one.)
    """

    def __init__(self, alpha: float) -> None:
        """`bounds`, to be set before each forward pass: where each row ends, the first 0 (see `Pack`)."""
        self.alpha, self.bounds = alpha, [0]

    def __call__(self, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, (1, tokens, width), with noise if the model is in training mode."""
        if not module.training:
            return output
        noise = torch.empty(output.shape, dtype=torch.float32, device=output.device).uniform_(-1, 1)
        return output + (noise * self.strengths(self.bounds, output)).to(output.dtype)

    def strengths(self, bounds: Sequence[int], output: torch.Tensor) -> torch.Tensor:
        """Return the greatest noise of each token, (tokens, 1)."""
        ends = torch.tensor(bounds, device=output.device)
        lengths = ends[1:] - ends[:-1]
        each = self.alpha / (lengths * output.shape[-1]).sqrt()
        return each.repeat_interleave(lengths, output_size=output.shape[1])[:, None]
