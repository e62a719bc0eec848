"""Add variants of training rows: the same row, written otherwise. Held-out rows stay as they are.

In: the dataset, the converter, whose VARIANTS say how a row can be written otherwise. Out: the dataset, each training
row followed by its variants, and counts. It runs after the split, so no variant of a held-out row is trained on; a
variant that comes too close to a held-out row is left out, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.own_code import load
from scripts.common.records import Record, normal, read_records
from scripts.common.strict_json import strict_json
from scripts.data.near_copies import near_copies
from scripts.data.shapes import Layout

Vary = Any  # (text, object, random numbers) → the same, changed, or None


def find_kinds(file: str | Path, names: Sequence[str]) -> dict[str, Vary]:
    """Return the named kinds of variants of a converter. Raises GradusError if it has no such kind."""
    known: Mapping[str, Vary] = getattr(load(file), "VARIANTS", {})
    if missing := [name for name in names if name not in known]:
        raise GradusError(
            f"data.package.variants.kinds: {file} has no variant {missing[0]!r}; known: {', '.join(known) or 'none'}"
        )
    return {name: known[name] for name in names}


def vary(record: Record, kinds: Mapping[str, Vary], number: int, layout: Layout) -> Record | None:
    """Return the variant of a record with this number, always the same; None if nothing of it can be changed.

    Each kind is used with a chance of ½, in the order given; if that changes nothing, the first that can.
    """
    random = Random(f"{record.id} {number}")
    try:
        parts = strict_json(record.response)
    except ValueError as error:
        raise GradusError(f"{record.source}: variants need a JSON object as the response ({error})") from None
    drawn = [kind for kind in kinds.values() if random.random() < 0.5]
    text = record.prompt
    for kind in drawn:
        text, parts = kind(text, parts, random) or (text, parts)
    rest = [kind for kind in kinds.values() if kind not in drawn]
    while text == record.prompt and rest:
        text, parts = rest.pop(random.randrange(len(rest)))(text, parts, random) or (text, parts)
    if text == record.prompt:
        return None
    return Record(
        prompt=text,
        response=layout.write(parts, None),
        task=record.task,
        context=record.context,
        group=record.group,
        thread=record.thread or record.id,  # kin of its row: contenders do not answer the one with the other
        split=record.split,
        source=f"{record.source}, variant {number}",
    )


def make_variants(
    records: Sequence[Record], kinds: Mapping[str, Vary], per_row: int, threshold: float, layout: Layout
) -> tuple[dict[str, list[Record]], dict[str, int]]:
    """Return the variants of each training row by its id, at most `per_row`, and counts.

    A variant is left out if its prompt is one of the dataset's, or a near-copy of a held-out one: a Jaccard similarity
    of at least `threshold` (near_copies.py).
    """
    train = [record for record in records if record.split == "train"]
    held_out = [record.asked for record in records if record.split != "train"]
    seen = {normal(record.asked) for record in records}
    made: list[tuple[str, Record]] = []
    same = 0
    for record in train:
        for number in range(1, per_row + 1):
            variant = vary(record, kinds, number, layout)
            if variant is None:
                continue
            same += normal(variant.asked) in seen
            if normal(variant.asked) not in seen:
                seen.add(normal(variant.asked))
                made.append((record.id, variant))
    texts = [*held_out, *(variant.asked for _, variant in made)]
    close = near_copies(
        len(texts), texts.__getitem__, threshold, 4, lambda first, second: first < len(held_out) <= second
    )
    gone = {second - len(held_out) for _, second, _ in close}
    kept: dict[str, list[Record]] = {}
    for place, (owner, variant) in enumerate(made):
        if place not in gone:
            kept.setdefault(owner, []).append(variant)
    counts = {"variants": sum(map(len, kept.values())), "same_as_another": same, "near_held_out": len(gone)}
    return kept, {"train": len(train), **counts}


def augmented(records: Sequence[Record], variants: Mapping[str, Sequence[Record]]) -> Iterator[dict[str, Any]]:
    """Yield the records, as JSON objects, each training row followed by its variants."""
    for record in records:
        yield record.to_json()
        for variant in variants.get(record.id, ()):
            yield variant.to_json()


if job := find_job(globals()):
    with logging_to(job.log[0]):
        settings = job.params.variants
        rows = list(read_records(job.input.records))
        found = find_kinds(job.input.converter, settings["kinds"])
        layout = Layout("row", job.params.compact)
        variants, counts = make_variants(rows, found, settings["per_row"], job.params.threshold, layout)
        write_jsonl(job.output.records, augmented(rows, variants))
        write_json(job.output.counts, counts)
