"""Audit the dataset before any expensive step: statistics, and findings that say what to do.

In: the dataset, the counts of the preceding rules, the base's tokenizer and chat contract (neither torch nor weights),
the difficulty mix if it is cheap to compute. Out: audit.json, audit.html.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unicodedata import is_normalized

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure
from tqdm import tqdm

from scripts.common.chat import read_contract
from scripts.common.curriculum import wanted_shares
from scripts.common.html import inline_svg, write_page
from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.parallel import chunks, in_order
from scripts.common.plots import COLORS, level_colors, save
from scripts.common.records import SPLITS, Record, StoredRecords
from scripts.common.strict_json import strict_json
from scripts.common.tokens import TokenCounter
from scripts.data.findings import MANY_LABELS, find
from scripts.tasks.checks import LABELS, base_of


@dataclass
class Tally:
    """Statistics of one pass over the dataset."""

    task: str
    max_length: int
    lengths: dict[str, "array[int]"] = field(
        default_factory=lambda: {n: array("i") for n in ("prompt", "response", "both")}
    )
    too_long: int = 0
    most: int = 0  # tokens of the longest row
    longest: str = ""  # its source
    splits: Counter[str] = field(default_factory=Counter)
    given_difficulty: Counter[int] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    fields: Counter[str] = field(default_factory=Counter)
    groups: set[int] = field(default_factory=set)
    turns: int = 0
    augmented: int = 0
    composes: bool = False  # the tokenizer
    not_nfc: int = 0  # rows that it therefore changes
    first_not_nfc: str = ""  # its source
    rejected_rows: Counter[str] = field(default_factory=Counter)  # rows with rejected answers, by split
    pairs: dict[str, "array[int]"] = field(default_factory=lambda: {n: array("i") for n in ("right", "rejected")})
    pairs_too_long: int = 0

    def add(self, records: Sequence[Record], counted: Sequence[tuple[int, int]], rejected: Sequence[int] = ()) -> None:
        """Add records with their (prompt, response) token counts; `rejected`: those of all their rejected answers."""
        self._add_pairs(records, counted, rejected)
        for record, (prompt, response) in zip(records, counted, strict=True):
            both = prompt + response
            if both > self.most:
                self.most, self.longest = both, record.source
            for name, value in (("prompt", prompt), ("response", response), ("both", both)):
                self.lengths[name].append(value)
            self.too_long += both > self.max_length
            self.splits[record.split] += 1
            if record.difficulty is not None:
                self.given_difficulty[record.difficulty] += 1
            self._format(record)
            if self.task in LABELS and len(self.labels) <= MANY_LABELS:
                self.labels[record.response.strip()][record.split] += 1
            if record.group:
                self.groups.add(hash(record.group))
            self.turns += bool(record.context)
            self.augmented += record.augmented
            texts = (*(turn["content"] for turn in record.context or ()), record.prompt, record.response)
            if self.composes and not all(is_normalized("NFC", text) for text in texts):
                self.first_not_nfc = self.first_not_nfc or record.source
                self.not_nfc += 1

    def merge(self, later: "Tally") -> None:
        """Add the statistics of the records that follow these."""
        for mine, more in ((self.lengths, later.lengths), (self.pairs, later.pairs)):
            for name, values in more.items():
                mine[name].extend(values)
        if later.most > self.most:
            self.most, self.longest = later.most, later.longest
        for name in ("splits", "given_difficulty", "formats", "fields", "rejected_rows"):
            getattr(self, name).update(getattr(later, name))
        for label, where in later.labels.items():
            if len(self.labels) <= MANY_LABELS:
                self.labels[label].update(where)
        self.groups |= later.groups
        self.first_not_nfc = self.first_not_nfc or later.first_not_nfc
        for name in ("too_long", "turns", "augmented", "not_nfc", "pairs_too_long"):
            setattr(self, name, getattr(self, name) + getattr(later, name))

    def _add_pairs(
        self, records: Sequence[Record], counted: Sequence[tuple[int, int]], rejected: Sequence[int]
    ) -> None:
        """Count the rows with rejected answers, and the lengths of the training rows' pairs."""
        lengths = iter(rejected)
        for record, (prompt, response) in zip(records, counted, strict=True):
            self.rejected_rows[record.split] += bool(record.rejected)
            for length in islice(lengths, len(record.rejected)):
                if record.split == "train":
                    self.pairs["right"].append(response)
                    self.pairs["rejected"].append(length)
                    self.pairs_too_long += prompt + length > self.max_length

    def _format(self, record: Record) -> None:
        """Count a response's format: a JSON object or list, or other text."""
        if record.response.lstrip()[:1] not in ("{", "["):
            self.formats["text"] += 1
            return
        try:
            value = strict_json(record.response)
        except ValueError:
            self.formats["text"] += 1
            return
        self.formats["json"] += 1
        if isinstance(value, dict):
            self.fields.update(value.keys())


def lengths_of(values: "array[int]") -> dict[str, int]:
    """Return median, 95th percentile and maximum."""
    lengths = np.array(values if len(values) else [0])
    return {"p50": int(np.percentile(lengths, 50)), "p95": int(np.percentile(lengths, 95)), "max": int(lengths.max())}


def pairs_of(tally: Tally) -> dict[str, Any]:
    """Return the facts on rejected answers: rows by split, and lengths in tokens of the training rows' pairs, each a
    right and a rejected answer; empty if no row has any.
    """
    by_split = {name: tally.rejected_rows[name] for name in SPLITS if tally.rejected_rows[name]}
    if not by_split:
        return {}
    right, rejected = (np.array(values) for values in tally.pairs.values())
    return {
        "rejected": {
            "rows": by_split,
            "pairs": len(right),
            "tokens": {name: lengths_of(values) for name, values in tally.pairs.items()},
            "right_is_longer": int((right > rejected).sum()),
            "rejected_is_longer": int((right < rejected).sum()),
            "too_long": tally.pairs_too_long,
        }
    }


def audit(
    records: Sequence[Record],
    counter: TokenCounter,
    task: str,
    max_length: int,
    levels: Sequence[str],
    counts: Mapping[str, Any],
    processes: int = 1,
) -> tuple[dict[str, Any], Tally]:
    """Return the content of audit.json and the tally. `counts`: the counts of ingest, mask, deduplicate, split and
    decontaminate, and the difficulty mix of the training rows, empty if unknown.
    """
    normalizer = counter.tokenizer.normalizer
    composes = normalizer is not None and normalizer.normalize_str("e\u0301") == "\u00e9"
    tally = Tally(task, max_length, composes=composes)

    def count(numbers: range) -> Tally:
        batch = records[numbers.start : numbers.stop]
        rejected = [text for record in batch for text in record.rejected]
        part = Tally(task, max_length, composes=composes)
        part.add(batch, counter.count(batch), counter.count_answers(rejected) if rejected else [])
        return part

    with tqdm(desc="audit", total=len(records), unit="row", mininterval=1) as bar:
        for part in in_order(count, chunks(range(len(records)), 2000), processes):
            tally.merge(part)
            bar.update(len(part.lengths["both"]))
    rows = sum(tally.splits.values())
    facts: dict[str, Any] = {
        "rows": rows,
        "task": task,
        "splits": {name: tally.splits[name] for name in SPLITS if tally.splits[name]},
        **({"augmented": tally.augmented} if tally.augmented else {}),
        "groups": len(tally.groups),
        "with_earlier_turns": tally.turns,
        "tokens": {name: lengths_of(values) for name, values in tally.lengths.items()},
        "max_length": max_length,
        "too_long": tally.too_long,
        "longest": tally.longest,
        **({"not_nfc": tally.not_nfc, "first_not_nfc": tally.first_not_nfc} if tally.not_nfc else {}),
        **pairs_of(tally),
        "formats": dict(tally.formats),
        "labels": {name: dict(where) for name, where in sorted(tally.labels.items())},
        "fields": dict(tally.fields),
        "given_difficulty": {levels[n]: count for n, count in sorted(tally.given_difficulty.items())},
        **counts,
    }
    if mix := counts["difficulty"]["mix"]:
        facts["difficulty"] = {**counts["difficulty"], "mix": {level: mix.get(level, 0) for level in levels}}
    facts["findings"] = find(facts)
    return facts, tally


def shares(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return {name, count, share of the total} for each count."""
    total = max(1, sum(counts.values()))
    return [{"name": name, "count": count, "share": count / total} for name, count in counts.items()]


def draw_lengths(tally: Tally) -> Figure:
    """Plot histograms of prompt and response lengths in tokens."""
    figure, panels = pyplot.subplots(1, 2, figsize=(8, 2.4))
    for axes, name, color in zip(panels, ("prompt", "response"), COLORS[3:], strict=False):
        values = np.array(tally.lengths[name] if tally.lengths[name] else [0])
        axes.hist(np.minimum(values, np.percentile(values, 99)), bins=40, color=color)
        axes.set_xlabel(f"{name}, tokens (longest 1% at the right edge)")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("rows")
    return figure


def draw_mix(mix: Mapping[str, int]) -> Figure:
    """Plot the difficulty mix beside the recommended shares; `mix` has every level, easiest first."""
    figure, axes = pyplot.subplots(figsize=(8, 1.6))
    total = max(1, sum(mix.values()))
    for row, shares in enumerate(([count / total for count in mix.values()], wanted_shares(len(mix)))):
        left = 0.0
        for name, share, color in zip(mix, shares, level_colors(len(mix)), strict=True):
            axes.barh(row, share, left=left, color=color, label=name if row == 0 else None, alpha=1 - 0.5 * row)
            left += share
    axes.set_yticks([0, 1], ["training rows", "recommended"])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.legend(frameon=False, ncols=len(mix), loc="upper center", bbox_to_anchor=(0.5, -0.15))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_counts(counts: Mapping[str, int], what: str) -> Figure:
    """Plot counts as bars, the most frequent first."""
    shown = Counter(counts).most_common(30)
    figure, axes = pyplot.subplots(figsize=(8, 0.5 + 0.22 * len(shown)))
    axes.barh([name[:40] for name, _ in shown], [count for _, count in shown], color=COLORS[3])
    axes.invert_yaxis()
    axes.set_xlabel(what)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if job := find_job(globals()):
    with logging_to(job.log[0]), TemporaryDirectory() as scratch:
        scores = read_json(job.input.scores) if job.input.get("scores") else {}
        found, tallied = audit(
            StoredRecords(job.input.dataset),
            TokenCounter(job.input.tokenizer, read_contract(job.input.contract)),
            base_of(job.params.task),
            job.params.max_length,
            job.params.levels,
            {
                "ingest": read_json(job.input.ingest),
                "masked": read_json(job.input.mask),
                "duplicates": read_json(job.input.deduplicate),
                "split": read_json(job.input.split),
                "contamination": read_json(job.input.decontaminate),
                "difficulty": {"mix": scores.get("mix", {}).get("train", {}), "weights": scores.get("weights", {})},
            },
            job.threads,
        )
        figures = {"lengths": draw_lengths(tallied)}
        if found["difficulty"]["mix"]:
            figures["mix"] = draw_mix(found["difficulty"]["mix"])
        if found["labels"]:
            figures["labels"] = draw_counts({n: sum(w.values()) for n, w in found["labels"].items()}, "rows per label")
        if found["fields"]:
            figures["fields"] = draw_counts(found["fields"], "rows with the field")
        pictures = {}
        for name, figure in figures.items():
            path = Path(scratch) / f"{name}.svg"
            save(figure, path)
            pictures[name] = inline_svg(path)
        write_json(job.output.facts, found)
        page = {
            "audit": found,
            "run": job.params.run,
            "splits": shares(found["splits"]),
            "mix": shares(found["difficulty"]["mix"]),
            "figures": pictures,
        }
        write_page(job.input.template, page, job.output.page)
