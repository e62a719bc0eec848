"""Attention for packed rows: each row attends only to itself, and the prefix that all rows share is computed once.

A pack is one sequence: the prefix that its rows share (system prompt and template, the same tokens at the same
positions), then the rest of each row. A token attends to the shared prefix and to its own row up to itself: the same
sums as for the row alone. Rows that answer the same prompt, as in preference tuning, share more: a pack is then a tree,
and a token attends to all segments that its own goes on from. It uses plain matrix products per row. On CPUs they are
faster than a block-diagonal mask over the whole pack and than the fused kernel, whose backward pass is slow
(docs/training.md). Registered with transformers as `rows`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from transformers import AttentionInterface

from scripts.common.errors import GradusError

# the largest mask so far, by window, type and device; smaller ones are parts of it
TRIANGLES: dict[tuple[int | None, torch.dtype, str], torch.Tensor] = {}


def _mask(queries: int, keys: int, window: int | None, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Return a (queries, keys) mask: -inf where the key is after the query, or `window` or more tokens before it.

    The queries are the last of the keys. It is a view of one triangle, not to be written to.
    """
    triangle = TRIANGLES.get((window, dtype, device))
    if triangle is None or len(triangle) < keys:
        size = -(-keys // 256) * 256  # not a new one for each slightly longer row
        distance = torch.arange(size, device=device)[:, None] - torch.arange(size, device=device)
        hidden = (distance < 0) | (distance >= window) if window else distance < 0
        triangle = torch.zeros((size, size), dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
        TRIANGLES[window, dtype, device] = triangle
    return triangle[keys - queries : keys, :keys]


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    softcap: float | None,
    window: int | None,
) -> torch.Tensor:
    """Return (heads, queries, width) for query (heads, queries, width), key and value (groups, keys, width)."""
    heads, queries, width = query.shape
    groups, keys, _ = key.shape
    scores = torch.matmul(query.reshape(groups, -1, width), key.transpose(1, 2)).view(heads, queries, keys) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores + _mask(queries, keys, window, scores.dtype, str(scores.device))
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights.view(groups, -1, keys), value).view(heads, queries, -1)


def rows_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    bounds: Sequence[int] | None = None,
    parents: Sequence[int] | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within packed rows. This is transformers' attention interface: tensors of (1, heads, tokens, width).

    `bounds` (see `Pack`): where the shared prefix ends, then where each segment ends; `parents`: which segment each
    goes on from. Raises GradusError if `bounds` is missing: without it, rows would attend to each other.
    """
    if bounds is None or dropout or kwargs.get("s_aux") is not None:
        raise GradusError(
            f"{type(module).__name__} cannot be trained with train.attention: rows; set it to eager "
            "(or sdpa), and set train.micro_batch_tokens: 1, so that each row is computed alone"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    shared = bounds[0]
    parts = []
    if shared:
        parts.append(
            _attend(query[0, :, :shared], key[0, :, :shared], value[0, :, :shared], scale, softcap, sliding_window)
        )
    spans = [(0, shared), *pairwise(bounds)]
    for number, (start, end) in enumerate(spans[1:], 1):
        seen, segment = [(start, end)], number
        while segment:  # back to the shared prefix
            segment = parents[segment - 1] if parents else 0
            seen.insert(0, spans[segment])
        seen = [(first, last) for first, last in seen if last > first]
        own_key = torch.cat([key[0, :, first:last] for first, last in seen], 1)
        own_value = torch.cat([value[0, :, first:last] for first, last in seen], 1)
        parts.append(_attend(query[0, :, start:end], own_key, own_value, scale, softcap, sliding_window))
    return torch.cat(parts, 1).transpose(0, 1)[None], None


AttentionInterface.register("rows", rows_attention)
