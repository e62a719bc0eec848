"""Rows as token ids and labels, and concatenated into packs of bounded size, without padding.

Packed rows do not see each other.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any, TypeVar

import torch

from scripts.common.errors import GradusError
from scripts.common.records import Record

T = TypeVar("T")
IGNORED = -100  # the label that the loss ignores


def encode(tokenizer: Any, contract: Any, record: Record) -> tuple[list[int], list[int]]:
    """Return (prompt ids, completion ids): the rendered prompt with earlier turns; the response with end of turn."""
    text = tokenizer.apply_chat_template(
        contract.ask(record),
        chat_template=contract.chat_template,
        add_generation_prompt=True,
        tokenize=False,
    )
    asked = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer = tokenizer(record.response, add_special_tokens=False)["input_ids"]
    return asked, [*answer, contract.end_of_turn_id]


def label(records: Sequence[Record], tokenizer: Any, contract: Any, max_length: int) -> list[dict[str, list[int]]]:
    """Return each row's `input_ids` and `labels`: prompt masked, response and end of turn trained.

    Raises GradusError that names the first rows longer than `max_length` tokens: nothing is truncated silently.
    """
    rows, long = [], []
    for record in records:
        asked, answer = encode(tokenizer, contract, record)
        if len(asked) + len(answer) > max_length:
            long.append(f"{record.source} ({len(asked) + len(answer)} tokens)")
        rows.append({"input_ids": asked + answer, "labels": [IGNORED] * len(asked) + answer})
    if long:
        raise GradusError(
            f"{len(long)} {'row is' if len(long) == 1 else 'rows are'} longer than train.max_length "
            f"({max_length} tokens): {', '.join(long[:3])}{' …' if len(long) > 3 else '.'} "
            "Raise train.max_length (this takes more memory), or remove the rows."
        )
    return rows


def cut(items: Iterable[T], sizes: Sequence[int]) -> list[list[T]]:
    """Return the items in order, in lists of `sizes` each."""
    stream = iter(items)
    return [list(islice(stream, size)) for size in sizes]


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group the rows of one step, in order, so that each group has at most `token_budget` tokens.

    A row longer than the budget is a group of its own. Groups are about equal in size. Returns lists of row numbers.
    """
    share = sum(lengths) / -(-sum(lengths) // token_budget) if lengths else 0
    groups: list[list[int]] = []
    held = 0
    for row, length in enumerate(lengths):
        # a group is complete when the next row does not fit, or when more than half of that row would exceed its share
        if groups and held + length <= token_budget and held + length / 2 <= share:
            groups[-1].append(row)
            held += length
        else:
            groups.append([row])
            held = length
    return groups


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Concatenate rows of `input_ids` and `labels`: tensors of shape (tokens,), and `lengths` of shape (rows,)."""
    flat = {
        name: torch.tensor([value for row in rows for value in row[name]], dtype=torch.long)
        for name in ("input_ids", "labels")
    }
    return {**flat, "lengths": torch.tensor([len(row["input_ids"]) for row in rows])}


def collate_step(items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Concatenate the rows of one step. An item of the dataset is a whole step whose `input_ids` and `labels` are lists
    of rows, so no sampler can move a row to another step.
    """
    (step,) = items
    return collate([{"input_ids": i, "labels": j} for i, j in zip(step["input_ids"], step["labels"], strict=True)])


@dataclass
class Pack:
    """Rows concatenated for one pass through the model, without padding."""

    input_ids: torch.Tensor  # (1, tokens)
    position_ids: torch.Tensor  # (1, tokens); counted within each row
    targets: torch.Tensor  # (tokens,); the next token if it is trained, else IGNORED
    bounds: list[int]  # where the shared prefix ends, then where each segment ends: the remainder of a row
    # which segment each of these goes on from, counted from 1; 0 is the shared prefix, None stands for 0 everywhere
    parents: list[int] | None = None


def common_length(rows: Sequence[torch.Tensor], limit: int) -> int:
    """Return the number of tokens with which all rows, tensors of shape (tokens,), begin; at most `limit`."""
    prefixes = torch.stack([row[:limit] for row in rows])
    differs = (prefixes != prefixes[0]).any(0)
    return int(differs.int().argmax()) if differs.any() else limit


def prompt_length(row: Mapping[str, torch.Tensor]) -> int:
    """Return the number of tokens before the first one that is trained."""
    return int((row["labels"] != IGNORED).int().argmax())


def pack(rows: Sequence[Mapping[str, torch.Tensor]], share: bool) -> Pack:
    """Return the pack of rows of `input_ids` and `labels`, tensors of shape (tokens,).

    With `share`, the prefix that all rows have in common is stored once. It never includes the last token of the
    shortest prompt, so it predicts only prompt tokens and adds no loss.
    """
    ids, labels = [row["input_ids"] for row in rows], [row["labels"] for row in rows]
    shared = 0
    if share and len(rows) > 1:
        shared = common_length(ids, max(0, min(map(prompt_length, rows)) - 1))
    ignored = labels[0].new_full((1,), IGNORED)
    targets = [torch.cat([row[1:], ignored])[shared:] for row in labels]
    positions = [torch.arange(len(row), device=row.device)[shared:] for row in ids]
    rests = [row[shared:] for row in ids]
    return Pack(
        torch.cat([ids[0][:shared], *rests])[None],
        torch.cat([torch.arange(shared, device=ids[0].device), *positions])[None],
        torch.cat([ignored.expand(shared), *targets]),
        list(accumulate([shared, *map(len, rests)])),
    )


def branch_length(group: Sequence[Mapping[str, torch.Tensor]]) -> int:
    """Return how many tokens of the rows of a group are computed once: all that they begin with, but for the last one,
    which predicts where they part.
    """
    ids = [row["input_ids"] for row in group]
    return max(0, common_length(ids, min(map(len, ids))) - 1)


def pack_groups(groups: Sequence[Sequence[Mapping[str, torch.Tensor]]], share: bool) -> tuple[Pack, list[list[int]]]:
    """Return the pack of groups of rows that answer the same prompt, and the segments that each row consists of.

    With `share`, what all groups have in common is stored once, then what the rows of each group begin with, prompt and
    answer, then each row's own end.
    """
    rows = [row for group in groups for row in group]
    if not share:
        return pack(rows, False), [[number] for number in range(1, len(rows) + 1)]
    branches = list(map(branch_length, groups))
    limit = max(0, min([*branches, *(prompt_length(row) - 1 for row in rows)]))
    shared = common_length([row["input_ids"] for row in rows], limit) if len(groups) > 1 else 0
    device = rows[0]["input_ids"].device
    ids, parents = [rows[0]["input_ids"][:shared]], list[int]()
    targets, positions = [rows[0]["labels"].new_full((shared,), IGNORED)], [torch.arange(shared, device=device)]
    paths: list[list[int]] = []

    def add(row: Mapping[str, torch.Tensor], start: int, end: int, parent: int) -> int:
        following = torch.cat([row["labels"][1:], row["labels"].new_full((1,), IGNORED)])
        ids.append(row["input_ids"][start:end])
        targets.append(following[start:end])
        positions.append(torch.arange(start, end, device=device))
        parents.append(parent)
        return len(parents)

    for group, branch in zip(groups, branches, strict=True):
        stem = [add(group[0], shared, branch, 0)] if branch > shared else []
        paths += [[*stem, add(row, branch, len(row["input_ids"]), (stem or [0])[0])] for row in group]
    bounds = list(accumulate(map(len, ids)))
    return Pack(torch.cat(ids)[None], torch.cat(positions)[None], torch.cat(targets), bounds, parents), paths


def group_packs(
    groups: Sequence[Sequence[Mapping[str, torch.Tensor]]], token_budget: int, share: bool
) -> Iterator[tuple[list[tuple[Pack, list[list[int]]]], slice]]:
    """Yield packs of whole groups, in order, each with the segments of its rows, and which groups they are. It is one
    pack at a time; with a budget of 1, which has every row computed alone, one for each row of a group.
    """
    if token_budget == 1:
        for number, group in enumerate(groups):
            yield [pack_groups([[row]], False) for row in group], slice(number, number + 1)
        return
    branches = list(map(branch_length, groups)) if share else [0] * len(groups)
    lengths = [
        branch + sum(len(row["input_ids"]) - branch for row in group)
        for group, branch in zip(groups, branches, strict=True)
    ]
    for numbers in micro_batches(lengths, token_budget):
        yield [pack_groups([groups[n] for n in numbers], share)], slice(numbers[0], numbers[-1] + 1)


def rows_of(inputs: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Return the rows of a step that `collate` prepared, each as `input_ids` and `labels`."""
    lengths = inputs["lengths"].tolist()
    split = (inputs[name].split(lengths) for name in ("input_ids", "labels"))
    return [{"input_ids": ids, "labels": labels} for ids, labels in zip(*split, strict=True)]


def packs(inputs: Mapping[str, torch.Tensor], token_budget: int, share: bool) -> Iterator[Pack]:
    """Yield the packs of a step that `collate` prepared."""
    rows = rows_of(inputs)
    for group in micro_batches(inputs["lengths"].tolist(), token_budget):
        yield pack([rows[number] for number in group], share)


def on(device: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors on a device."""
    return {name: tensor.to(device) for name, tensor in inputs.items()}
