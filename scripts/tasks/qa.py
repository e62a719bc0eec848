"""Task `qa`: a question and its answer, both free text."""

import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from scripts.common.records import Record, normal
from scripts.tasks.embeddings import MODEL, cosine
from scripts.tasks.task import Task, text_exact


def _present(check: str, answer: str) -> bool:
    """Return whether an answer contains a check as whole words, regardless of case and of line breaks."""
    pattern = rf"(?<!\w){re.escape(normal(check))}(?!\w)"
    return re.search(pattern, normal(answer), re.IGNORECASE) is not None


def passed(record: Record, answer: str, stopped: bool) -> float | None:
    """1 if the answer contains all of the record's checks (`_present`); a record without checks does not count."""
    return float(all(_present(check, answer) for check in record.checks)) if record.checks else None


def checks_present(record: Record, answer: str, stopped: bool) -> float | None:
    """Share of the record's checks that the answer contains (`_present`); a record without checks does not count."""
    return sum(_present(check, answer) for check in record.checks) / len(record.checks) if record.checks else None


class _Words:
    """The tokenizer of rouge-score, for all scripts: it keeps letters of a to z only, and finds no word in others."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


@cache
def _rouge() -> Any:
    from absl import logging as absl_logging  # which rouge-score imports
    from rouge_score.rouge_scorer import RougeScorer

    # at the end of logging, absl closes the stream that was stderr when it was imported, unless it is this one
    absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__
    return RougeScorer(["rougeL"], tokenizer=_Words())


def rouge_l(record: Record, answer: str, stopped: bool) -> float:
    """ROUGE-L: F1 of the longest common subsequence of the words of response and answer (Lin 2004), by rouge-score,
    without stemming.
    """
    return float(_rouge().score(record.response, answer)["rougeL"].fmeasure)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    scorer = CHRF()
    scorer.sentence_score("a", ["a"])  # its signature is complete only then
    return scorer


def chrf(record: Record, answer: str, stopped: bool) -> float:
    """chrF2 of one answer: F2 of the n-grams of 1 to 6 characters of response and answer (Popović 2015), by sacrebleu,
    divided by 100.
    """
    return min(float(_chrf().sentence_score(answer, [record.response]).score) / 100, 1.0)


def length_ratio(record: Record, answer: str, stopped: bool) -> float:
    """Words, separated by whitespace, of the shorter of response and answer, divided by those of the longer; 1 if they
    are of one length, whichever is longer.
    """
    shorter, longer = sorted((len(record.response.split()), len(answer.split())))
    return shorter / longer if longer else 1.0


def similarity(records: Sequence[Record], answers: Sequence[str]) -> list[float]:
    """Cosine of the sentence embeddings of response and answer (Reimers and Gurevych 2019), negative ones as 0."""
    return cosine([record.response for record in records], answers)


def settings(records: Sequence[Record], answers: Sequence[str]) -> dict[str, Any]:
    """Return {settings: {metric: what has to be known to reproduce it}}."""
    from importlib.metadata import version

    return {
        "settings": {
            "chrf": str(_chrf().get_signature()),
            "rouge_l": f"rouge-score {version('rouge-score')}, rougeL, F1, no stemming, words of all scripts",
            "similarity": f"{MODEL} {version(MODEL)}, cosine",
        }
    }


QA = Task(
    name="qa",
    metrics={
        "checks_present": checks_present,
        "chrf": chrf,
        "exact": text_exact,
        "length_ratio": length_ratio,
        "pass": passed,
        "rouge_l": rouge_l,
    },
    headline="exact",
    binary=frozenset({"exact", "pass"}),
    batch={"similarity": similarity},
    details=settings,
)
