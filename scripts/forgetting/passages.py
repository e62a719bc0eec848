"""Choose the passages of general English text whose perplexity is measured, and look for them in the training rows.

In: the World Factbook, or a text file of the user's own; the training rows. Out: one passage per line (id, source,
text), and counts.

A passage that shares 13 words in a row with a training row has been seen (13-grams: Brown et al. 2020, arXiv
2005.14165, appendix C).
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_text
from scripts.common.io import write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.ngrams import WORD, distinct_grams, find_shared, grams, hits
from scripts.common.records import Record, read_records
from scripts.common.sources import require_sha256
from scripts.forgetting.factbook import paragraphs

WINDOW = 13  # words in a row
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"“(]?[A-Z])")
LONGEST, SHORTEST = 80, 20  # words of a passage: many short ones, since the interval is over passages
FEWEST = 20  # passages, for an interval
Passage = dict[str, str]


def read_text(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield (source, text) of each paragraph of a text file; paragraphs are separated by empty lines.

    Raises GradusError if it is not UTF-8.
    """
    try:
        whole = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise GradusError(
            f"{path}: is not a text in UTF-8 ({error}); convert it, or leave forgetting.text out"
        ) from None
    for number, text in enumerate(re.split(r"\n\s*\n", whole), 1):
        if text.strip():
            yield f"{path}, paragraph {number}", " ".join(text.split())


def cut(texts: Iterable[tuple[str, str]]) -> list[Passage]:
    """Return passages of whole sentences, each with SHORTEST to LONGEST words, in the order of their hashes.

    A longer sentence is left out, and so is the end of a text that is too short for a passage.
    """
    found: dict[str, Passage] = {}
    for source, text in texts:
        taken: list[str] = []
        for sentence in [*SENTENCE.split(text), ""]:
            words = sentence.split()
            if taken and (not sentence or len(taken) + len(words) > LONGEST):
                if len(taken) >= SHORTEST:
                    passage = " ".join(taken)
                    key = sha256_text(passage)[:16]
                    found[key] = {"id": key, "source": source, "text": passage}
                taken = []
            if len(words) <= LONGEST:
                taken += words
    return [found[key] for key in sorted(found)]


def seen(passages: Sequence[Passage], rows: Iterable[Record]) -> dict[str, str]:
    """Return {id of a passage: source of the first training row with WINDOW of its words in a row}, of those seen."""
    own = [grams(passage["text"], WINDOW) for passage in passages]
    known = distinct_grams(own)
    trained = (
        (record.source or record.id, hits(known, grams(f"{record.asked}\n{record.response}", WINDOW)))
        for record in tqdm(rows, desc="overlap", unit="row", mininterval=1)
    )
    shared = zip(passages, find_shared(own, known, trained), strict=True)
    return {passage["id"]: found[0] for passage, found in shared if found}


def choose(
    passages: Sequence[Passage], contaminated: Mapping[str, str], words: int, found: str, max_share: float, name: str
) -> tuple[list[Passage], dict[str, Any]]:
    """Return the first passages that training has not seen, about `words` words in all, and the counts.

    `found` and `max_share` are those of `decontaminate`; `name` is the text's, for messages. Raises GradusError if
    training has seen too much of the text and the run is to stop, or if fewer than FEWEST passages are left.
    """
    for passage in passages:
        if passage["id"] in contaminated:
            logging.warning("seen in training row %s: %s", contaminated[passage["id"]], passage)
    if found == "stop" and len(contaminated) > max_share * len(passages):
        listed = [(p["source"], contaminated[p["id"]]) for p in passages if p["id"] in contaminated]
        lines = [f"{source} ~ train {row}" for source, row in listed[:5]]
        more = f"\n  … and {len(listed) - 5} more, all in this rule's log" if len(listed) > 5 else ""
        raise GradusError(
            f"{name}: {len(listed)} of {len(passages)} passages share {WINDOW} words in a row with training rows "
            f"(decontaminate.max_share allows {max_share:g}):\n  " + "\n  ".join(lines) + more + "\n"
            "A text that training has seen does not show what was forgotten. Set decontaminate.found: leave-out to "
            "measure on the other passages, or give another text in forgetting.text."
        )
    chosen: list[Passage] = []
    length = 0
    for passage in passages:
        if passage["id"] not in contaminated and length < words:
            chosen.append(passage)
            length += len(WORD.findall(passage["text"]))
    if len(chosen) < FEWEST:
        left_out = f", and {len(contaminated)} were left out because training has seen them" if contaminated else ""
        raise GradusError(
            f"{name}: gives {len(chosen)} passages of {SHORTEST} to {LONGEST} words{left_out}; an interval needs at "
            f"least {FEWEST}. Give a longer text in forgetting.text, or raise forgetting.words"
        )
    counts = {
        "text": name,
        "passages": len(chosen),
        "words": length,
        "in_text": len(passages),
        "seen": len(contaminated),
    }
    return chosen, counts


if job := find_job(globals()):
    with logging_to(job.log[0]):
        own = job.input.get("text")
        if not own:
            require_sha256(job.input.factbook, job.params.sha256)
        cuts = cut(read_text(own) if own else paragraphs(job.input.factbook))
        spoiled = seen(cuts, read_records(job.input.rows))
        settings = job.params.decontaminate
        kept, counted = choose(
            cuts, spoiled, job.params.words, settings["found"], settings["max_share"], own or job.params.name
        )
        write_jsonl(job.output.passages, kept)
        write_json(job.output.counts, counted)
