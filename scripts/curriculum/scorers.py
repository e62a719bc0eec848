"""Measures of a row's difficulty. To add a scorer, write a function here and enter it in SCORERS.

It takes records and `Known`, the data that scorers may use, and returns a number per record, higher if more difficult.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scripts.common.errors import GradusError
from scripts.common.records import Record

MOST_INDEXED = 20_000  # rows; retrieval compares every row with all others


@dataclass
class RuleParams:
    """Settings of the rules scorer; the fields are those of `score.rules` in config/schema.yaml."""

    words_per_point: int
    max_length_points: int
    reasoning_words: Sequence[str]
    reasoning_points: int
    many_checks: int
    checks_points: int
    conditional_words: Sequence[str]
    conditional_points: int


@dataclass
class Known:
    """Data that scorers may use: settings, outputs of other rules, the rows to retrieve from."""

    rules: Mapping[str, Any] = field(default_factory=dict)
    # by the name of rule score's input (LOOKED_UP in rules/inputs/curriculum.smk) and the row's id, its line there
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    corpus: Sequence[Record] = ()
    _index: Any = None

    def depths(self, records: Sequence[Record]) -> list[float]:
        """Return, for each record, how many responses of the corpus BM25 ranks above its own; ties count half."""
        import bm25s

        if len(self.corpus) > MOST_INDEXED:
            raise GradusError(
                f"score.weights.retrieval: {len(self.corpus)} rows to retrieve from; retrieval compares every row with "
                f"all others and is limited to {MOST_INDEXED}. Set it to 0, which uses a sample, or to null."
            )
        if self._index is None:
            self._index = bm25s.BM25()
            tokens = bm25s.tokenize([r.response for r in self.corpus], stopwords=None, show_progress=False)
            self._index.index(tokens, show_progress=False)
        place = {record.id: number for number, record in enumerate(self.corpus)}
        asked = bm25s.tokenize([r.prompt for r in records], stopwords=None, show_progress=False, return_ids=False)
        depths = []
        for record, words in zip(records, asked, strict=True):
            scores = self._index.get_scores(words) if words else np.zeros(len(self.corpus))
            own = scores[place[record.id]]
            depths.append(float((scores > own).sum() + ((scores == own).sum() - 1) / 2))
        return depths


def has_word(text: str, words: Sequence[str]) -> bool:
    """Return whether `text` contains one of `words` as a whole word (no letter, digit or _ around it), in any case."""
    if not words:
        return False
    return re.search(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", text, re.IGNORECASE) is not None


def score_by_rules(record: Record, params: Mapping[str, Any]) -> float:
    """Return a record's points, at least 0: for a long prompt, reasoning, many checks, and conditions in the answer.

    By default +1 per 40 prompt words, at most 2, and +1 for each of the other three.
    """
    rules = RuleParams(**params)
    points = min(rules.max_length_points, len(record.prompt.split()) // rules.words_per_point)
    points += rules.reasoning_points * has_word(record.prompt, rules.reasoning_words)
    points += rules.checks_points * (len(record.checks) >= rules.many_checks)
    points += rules.conditional_points * has_word(record.response, rules.conditional_words)
    return float(points)


def rules(records: Sequence[Record], known: Known) -> list[float]:
    """Points for countable features, see `score_by_rules`."""
    return [score_by_rules(record, known.rules) for record in records]


def length(records: Sequence[Record], known: Known) -> list[float]:
    """Characters of the prompt, earlier turns included, and the response."""
    return [float(len(record.asked) + len(record.response)) for record in records]


def facts(records: Sequence[Record], known: Known) -> list[float]:
    """Number of facts that a correct answer must contain: the row's checks."""
    return [float(len(record.checks)) for record in records]


def readability(records: Sequence[Record], known: Known) -> list[float]:
    """Automated Readability Index of the prompt, a school grade (Smith and Senter 1967), by textstat."""
    import textstat

    return [float(textstat.automated_readability_index(record.prompt)) for record in records]


def retrieval(records: Sequence[Record], known: Known) -> list[float]:
    """Rank of the row's own response in a BM25 search (Robertson et al. 1994, by bm25s) with the prompt as query."""
    return known.depths(records)


def _loss_of(record: Record, known: Known) -> Mapping[str, float]:
    losses = known.tables["losses"]
    if record.id not in losses:
        raise GradusError(
            f"{record.source}: no loss of the base for this row; delete train/base_loss.jsonl and run again"
        )
    return losses[record.id]


def loss(records: Sequence[Record], known: Known) -> list[float]:
    """The untuned base's mean loss on the response, in nats per token."""
    return [_loss_of(record, known)["loss"] for record in records]


def ifd(records: Sequence[Record], known: Known) -> list[float]:
    """Instruction-following difficulty: the base's loss with the prompt divided by that without it (Li et al. 2024,
    arXiv 2308.12032). Near 1, the prompt does not help.
    """
    losses = [_loss_of(record, known) for record in records]
    return [item["loss"] / item["loss_alone"] if item["loss_alone"] else 1.0 for item in losses]


SCORERS: dict[str, Callable[[Sequence[Record], Known], list[float]]] = {
    "rules": rules,
    "length": length,
    "facts": facts,
    "readability": readability,
    "retrieval": retrieval,
    "loss": loss,
    "ifd": ifd,
}
