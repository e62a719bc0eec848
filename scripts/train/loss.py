"""Run a pack through the model: logits and loss at completion tokens only, and a check that rows stay separate."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from scripts.common.errors import GradusError
from scripts.train.fused import HeadLoss, TokenLosses
from scripts.train.packing import IGNORED, Pack, collate, on, packs

TOKENS = 2048  # per forward pass without gradients
LOGITS = 2**26  # at a time, when the loss is measured without gradients: with fp32 copies, 0.7 GB


def shares_beginnings(model: Any) -> bool:
    """Return whether the model's attention separates packed rows by `bounds`; others use the position ids only."""
    return bool(model.config._attn_implementation == "rows")


def _arguments(causal: Any, packed: Pack) -> dict[str, Any]:
    """Return the arguments to call a model with for a pack."""
    arguments: dict[str, Any] = {"input_ids": packed.input_ids, "position_ids": packed.position_ids, "use_cache": False}
    if shares_beginnings(causal):
        arguments["bounds"] = packed.bounds
        if packed.parents:
            arguments["parents"] = packed.parents
    elif "flash" in causal.config._attn_implementation:  # else each layer waits for the GPU to look for them itself
        ends = torch.tensor(packed.bounds, dtype=torch.int32, device=packed.input_ids.device)
        longest = max(end - start for start, end in pairwise(packed.bounds))
        arguments |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    return arguments


def _autocast(model: Any, causal: Any) -> Any:
    mixed = causal.dtype == torch.bfloat16 and getattr(model, "needs_autocast", True)
    return torch.autocast(causal.device.type, torch.bfloat16, enabled=mixed)


def _whole(causal: Any) -> bool:
    """Return whether a model changes its logits after the head (soft-capping, scaling), so that it must run whole."""
    names = (
        "final_logit_softcapping",
        "logits_scaling",
        "logit_scale",
        "lm_head_multiplier",
        "output_multiplier",
    )
    return any(getattr(causal.config, name, None) for name in names)


def _causal(model: Any) -> Any:
    """Return the model without its adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _frozen(head: Any) -> bool:
    """Return whether a head is a plain matrix that is not trained, so that its gradient can be computed by hand."""
    return type(head) is torch.nn.Linear and head.bias is None and not head.weight.requires_grad


def _hidden(causal: Any, packed: Pack) -> torch.Tensor:
    """Return the hidden states that predict completion tokens, (completion tokens, width)."""
    states: torch.Tensor = causal.get_decoder()(**_arguments(causal, packed)).last_hidden_state[0]
    return states[packed.targets != IGNORED]


def completion_logits(model: Any, packed: Pack) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits, targets) at the completion tokens of a pack, (completion tokens, vocabulary) and their ids."""
    causal = _causal(model)
    wanted = packed.targets != IGNORED
    with _autocast(model, causal):
        if _whole(causal):
            logits = causal(**_arguments(causal, packed)).logits[0][wanted]
        else:
            logits = causal.get_output_embeddings()(_hidden(causal, packed))
    return logits, packed.targets[wanted]


def completion_loss(model: Any, packed: Pack) -> torch.Tensor:
    """Return the summed cross-entropy, in nats, over the completion tokens of a pack.

    The head is computed at those positions only.
    """
    causal = _causal(model)
    head = causal.get_output_embeddings()
    if _frozen(head) and torch.is_grad_enabled() and not _whole(causal):
        with _autocast(model, causal):
            targets = packed.targets[packed.targets != IGNORED]
            return HeadLoss.apply(_hidden(causal, packed), head.weight, targets)  # type: ignore[no-any-return]
    if _whole(causal):
        logits, targets = completion_logits(model, packed)
        return cross_entropy(logits.float(), targets, reduction="sum")
    targets = packed.targets[packed.targets != IGNORED]
    rows = max(1, LOGITS // head.weight.shape[0])
    with _autocast(model, causal):
        parts = zip(_hidden(causal, packed).split(rows), targets.split(rows), strict=True)
        losses = [cross_entropy(head(states).float(), wanted, reduction="sum") for states, wanted in parts]
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def token_losses(model: Any, packed: Pack) -> torch.Tensor:
    """Return the cross-entropy, in nats, of each completion token of a pack, (completion tokens,)."""
    causal = _causal(model)
    head = causal.get_output_embeddings()
    if _whole(causal) or (torch.is_grad_enabled() and not _frozen(head)):
        logits, targets = completion_logits(model, packed)
        return cross_entropy(logits.float(), targets, reduction="none")
    targets = packed.targets[packed.targets != IGNORED]
    with _autocast(model, causal):
        states = _hidden(causal, packed)
        if torch.is_grad_enabled():
            return TokenLosses.apply(states, head.weight, targets)  # type: ignore[no-any-return]
        parts = (part.split(max(1, LOGITS // head.weight.shape[0])) for part in (states, targets))
        losses = [cross_entropy(head(a).float(), b, reduction="none") for a, b in zip(*parts, strict=True)]
    return torch.cat(losses)


def sums_by_row(
    losses: torch.Tensor, packed: Pack, paths: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (log-probability of each row's completion, in nats; its tokens), both (rows,).

    `losses`: those of the completion tokens; `paths`: the segments that each row consists of, of `pack_groups`.
    """
    counts = torch.stack([(part != IGNORED).sum() for part in packed.targets.tensor_split(packed.bounds[:-1])])
    parts = [part.sum() for part in losses.split(counts.tolist())]
    sums = torch.stack([-sum((parts[number] for number in path), losses.new_zeros(())) for path in paths])
    return sums, torch.stack([counts[list(path)].sum() for path in paths])


def row_losses(model: Any, rows: list[tuple[list[int], list[int]]]) -> list[float]:
    """Return the mean loss over the completion, in nats per token, of each (prompt ids, completion ids)."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0]) + len(rows[i][1]), i))
    encoded = [
        {"input_ids": rows[i][0] + rows[i][1], "labels": [IGNORED] * len(rows[i][0]) + rows[i][1]} for i in order
    ]
    means: list[float] = []
    with torch.no_grad():
        for packed in packs(on(model.device, collate(encoded)), TOKENS, shares_beginnings(model)):
            losses = token_losses(model, packed)
            wanted = (packed.targets != IGNORED).cumsum(0)
            ends = [0, *(int(wanted[end - 1]) for end in packed.bounds[1:])]
            means += [losses[start:end].mean().item() for start, end in zip(ends, ends[1:], strict=False)]
    by_row = dict(zip(order, means, strict=True))
    return [by_row[i] for i in range(len(rows))]


def check_isolation(model: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise GradusError if the rows of a pack attend to each other.

    Each row's hidden states in a pack must equal those of the row alone. An architecture could silently ignore what
    separates the rows: bounds, or positions that restart at 0. The first row of a pack sees nothing before it in any
    case, so it says nothing.
    """
    first = sum(label != IGNORED for label in rows[0]["labels"][1:])  # its states among the completions'
    causal = model.get_base_model()
    together = list(packs(on(model.device, collate(rows)), 10**9, shares_beginnings(model)))
    alone = [pack for row in rows for pack in packs(on(model.device, collate([row])), 10**9, False)]
    model.eval()
    with torch.no_grad(), _autocast(model, causal):
        in_pack, by_row = (
            torch.cat(
                [
                    causal.get_decoder()(**_arguments(causal, pack)).last_hidden_state[0][pack.targets != IGNORED]
                    for pack in group
                ]
            ).float()[first:]
            for group in (together, alone)
        )
    model.train()
    difference = ((in_pack - by_row).norm() / by_row.norm()).item()
    if difference > 0.05:  # rounding in bf16 causes 0.01, rows that see each other 0.2 and more
        raise GradusError(
            f"{type(causal).__name__}: packed rows see each other (their hidden states differ by {difference:.0%} from "
            "those of each row alone). Set train.micro_batch_tokens: 1, so that each row is computed alone."
        )
