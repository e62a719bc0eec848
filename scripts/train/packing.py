"""Rows as token ids, laid end to end in packs of bounded size: without padding, none seeing another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from scripts.common.records import Record

IGNORED = -100  # the label that the loss skips


def encode(tokenizer: Any, contract: Any, record: Record) -> tuple[list[int], list[int]]:
    """Return (prompt ids, completion ids): the template around prompt and earlier turns, response and end of turn."""
    text = tokenizer.apply_chat_template(
        contract.ask(record),
        chat_template=contract.chat_template,
        add_generation_prompt=True,
        tokenize=False,
    )
    asked = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer = tokenizer(record.response, add_special_tokens=False)["input_ids"]
    return asked, [*answer, contract.end_of_turn_id]


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group the rows of one step, in their order, so that each group holds at most `token_budget` tokens.

    A row longer than the budget stands alone. Groups are of about the same size. Returns lists of row numbers.
    """
    share = sum(lengths) / -(-sum(lengths) // token_budget) if lengths else 0
    groups: list[list[int]] = []
    held = 0
    for row, length in enumerate(lengths):
        # a group is closed when the next row does not fit it, or when more than half of that row lies beyond its share
        if groups and held + length <= token_budget and held + length / 2 <= share:
            groups[-1].append(row)
            held += length
        else:
            groups.append([row])
            held = length
    return groups


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Lay rows of `input_ids` and `labels` end to end: tensors of shape (tokens,), and `lengths` of shape (rows,)."""
    flat = {
        name: torch.tensor([value for row in rows for value in row[name]], dtype=torch.long)
        for name in ("input_ids", "labels")
    }
    return {**flat, "lengths": torch.tensor([len(row["input_ids"]) for row in rows])}


def collate_step(items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Lay the rows of one step end to end. A data set's item is a whole step, its `input_ids` and `labels` lists of
    rows: so no sampler can take a row into another step.
    """
    (step,) = items
    return collate([{"input_ids": i, "labels": j} for i, j in zip(step["input_ids"], step["labels"], strict=True)])


@dataclass
class Pack:
    """Rows laid end to end for one pass through the model, without padding."""

    input_ids: torch.Tensor  # (1, tokens)
    position_ids: torch.Tensor  # (1, tokens); each row's own
    targets: torch.Tensor  # (tokens,); the next token where it is trained, else IGNORED
    bounds: list[int]  # where the part that all rows begin with ends, then where each row's rest ends


def pack(rows: Sequence[Mapping[str, torch.Tensor]], share: bool) -> Pack:
    """Return the pack of rows of `input_ids` and `labels`, tensors of shape (tokens,).

    With `share`, the tokens that all rows begin with stand once. The last token of the shortest prompt never
    belongs to them, so what is shared predicts prompt tokens only, and no loss.
    """
    ids, labels = [row["input_ids"] for row in rows], [row["labels"] for row in rows]
    shared = 0
    if share and len(rows) > 1:
        most = max(0, min(int((row != IGNORED).int().argmax()) for row in labels) - 1)
        alike = torch.stack([row[:most] for row in ids])
        differs = (alike != alike[0]).any(0)
        shared = int(differs.int().argmax()) if differs.any() else most
    nothing = labels[0].new_full((1,), IGNORED)
    targets = [torch.cat([row[1:], nothing])[shared:] for row in labels]
    positions = [torch.arange(len(row), device=row.device)[shared:] for row in ids]
    rests = [row[shared:] for row in ids]
    return Pack(
        torch.cat([ids[0][:shared], *rests])[None],
        torch.cat([torch.arange(shared, device=ids[0].device), *positions])[None],
        torch.cat([nothing.expand(shared), *targets]),
        list(accumulate([shared, *map(len, rests)])),
    )


def packs(inputs: Mapping[str, torch.Tensor], token_budget: int, share: bool) -> Iterator[Pack]:
    """Yield the packs of a step that `collate` laid out."""
    lengths = inputs["lengths"].tolist()
    split = {name: inputs[name].split(lengths) for name in ("input_ids", "labels")}
    for group in micro_batches(lengths, token_budget):
        yield pack([{name: split[name][row] for name in split} for row in group], share)


def on(device: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors on a device."""
    return {name: tensor.to(device) for name, tensor in inputs.items()}
