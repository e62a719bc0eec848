"""Compute the log-probabilities of a preference phase's answers under its reference, once.

The reference is the model that the phase starts from: the base with the adapter of the phase before, so there is no
second copy of the weights. In: the pairs, base, chat contract, that phase's folder. Out: one line per pair, in their
order: {chosen, rejected, other} are the log-probabilities of its answers, in nats, {…_tokens} their lengths, and
`other_answer` an answer to another prompt, by which KTO measures how far the model went; and what the reference was.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoTokenizer

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.io import write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.pairs import Pair, read_pairs
from scripts.train.device import choose_device, secure_repeatability
from scripts.train.packing import collate, on
from scripts.train.preference import grouped, log_probabilities, make_dataset
from scripts.train.reference import describe_reference
from scripts.train.shaping import not_shaping
from scripts.train.train_phase import TrainParams, load_model

ANSWERS = ("chosen", "rejected", "other")
BATCH = 64  # pairs that are tokenized at a time


def others_of(pairs: Sequence[Pair]) -> list[str]:
    """Return an answer to another prompt for each pair: by turns the right and the wrong one of the last pair before it
    that has another prompt; before the first one stands the last.

    Raises GradusError if all pairs have the same prompt.
    """
    found, last = list[str](), -1
    if len({pair.record.asked for pair in pairs}) < 2:
        raise GradusError("all pairs have the same prompt, so nothing can be said of others; add pairs of other rows")
    for number, pair in enumerate(pairs):
        if number and pairs[number - 1].record.asked != pair.record.asked:
            last = number - 1
        while pairs[last].record.asked == pair.record.asked:  # only the first prompt, if the last pair has it, too
            last -= 1
        found.append(pairs[last].rejected if number % 2 else pairs[last].record.response)
    return found


def reference_losses(
    pairs: Sequence[Pair], model: Any, tokenizer: Any, contract: ChatContract, max_length: int, token_budget: int
) -> Iterator[dict[str, Any]]:
    """Yield the line of each pair. Packs have at most `token_budget` tokens, as in training."""
    model.eval()
    with_others = [replace(pair, other=other) for pair, other in zip(pairs, others_of(pairs), strict=True)]
    bar = tqdm(total=len(pairs), desc="reference", unit="pair", mininterval=1)
    for start in range(0, len(pairs), BATCH):
        batch = with_others[start : start + BATCH]
        data = make_dataset(batch, tokenizer, contract, max_length, others=True)
        rows = [
            {"input_ids": ids, "labels": labels}
            for item in data
            for ids, labels in zip(item["input_ids"], item["labels"], strict=True)
        ]
        groups = grouped(on(model.device, collate(rows)), len(ANSWERS))
        with torch.no_grad():
            for sums, counts, which in log_probabilities(model, groups, token_budget):
                for pair, values, tokens in zip(batch[which], sums.tolist(), counts.tolist(), strict=True):
                    yield {
                        **{name: round(value, 5) for name, value in zip(ANSWERS, values, strict=True)},
                        **{f"{name}_tokens": count for name, count in zip(ANSWERS, tokens, strict=True)},
                        "other_answer": pair.other,
                    }
                    bar.update()
    bar.close()


if job := find_job(globals()):
    os.environ["OMP_NUM_THREADS"] = str(job.params.train["threads"])
    with logging_to(job.log[0]):
        settings = TrainParams(
            **job.params.train, **{**not_shaping(job.config["train"]), "gradient_checkpointing": False}
        )
        torch.set_num_threads(settings.threads)
        device = choose_device(settings.device)
        secure_repeatability(device)
        reference = load_model(job.input.base, Path(job.input.previous) / "adapter", 0, settings, device)
        lines = reference_losses(
            list(read_pairs(job.input.pairs)),
            reference,
            AutoTokenizer.from_pretrained(job.input.base, trust_remote_code=False),
            read_contract(job.input.contract),
            settings.max_length,
            settings.micro_batch_tokens,
        )
        write_jsonl(job.output.losses, lines)
        write_json(job.output.reference, describe_reference(job.input.base, job.input.previous))
