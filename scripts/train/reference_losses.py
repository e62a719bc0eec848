"""Compute the log-probabilities of a preference phase's answers under its reference, once.

The reference is the model that the phase starts from: the base with the adapter of the phase before, so there is no
second copy of the weights. In: the pairs, base, chat contract, that phase's folder. Out: one line per pair, in their
order: {chosen, rejected} are the log-probabilities of its answers, in nats, {…_tokens} their lengths, `pair` its hash;
if KTO follows, `other_answer` is an answer to another prompt, by which it measures how far the model went. And what the
reference was.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoTokenizer

from scripts.common.chat import ChatContract, read_contract
from scripts.common.device import choose_device, secure_repeatability
from scripts.common.errors import GradusError
from scripts.common.io import write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.pairs import Pair, read_pairs
from scripts.train.packing import collate, encode, on
from scripts.train.preference import ANSWERS, grouped, log_probabilities, make_dataset
from scripts.train.reference import describe_reference
from scripts.train.shaping import not_shaping
from scripts.train.train_phase import TrainParams, load_model

BATCH = 64  # pairs that are tokenized at a time


def others_of(pairs: Sequence[Pair], fits: Callable[[Pair, str], bool]) -> list[str]:
    """Return an answer to another prompt for each pair, by turns a right and a wrong one: of the last pair before it
    that has another prompt, and whose answer `fits` this one. Before the first pair stands the last.

    Raises GradusError if there is none.
    """
    found = []
    for number, pair in enumerate(pairs):
        for back in range(1, len(pairs)):
            before = pairs[number - back]
            answer = before.rejected if number % 2 else before.record.response
            if before.record.asked != pair.record.asked and fits(pair, answer):
                found.append(answer)
                break
        else:
            raise GradusError(
                f"{pair.record.source or pair.record.id}: KTO needs an answer to another prompt that fits behind this "
                "one, and there is none among the pairs. Add pairs of other rows, raise train.max_length, or take the "
                "method dpo"
            )
    return found


def reference_losses(
    pairs: Sequence[Pair],
    model: Any,
    tokenizer: Any,
    contract: ChatContract,
    max_length: int,
    token_budget: int,
    others: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the line of each pair. Packs have at most `token_budget` tokens, as in training. `others`: whether KTO
    follows.
    """
    model.eval()
    names = ("chosen", "rejected", "other")[: ANSWERS + others]

    def fits(pair: Pair, answer: str) -> bool:
        return sum(map(len, encode(tokenizer, contract, replace(pair.record, response=answer)))) <= max_length

    if others:
        pairs = [replace(pair, other=other) for pair, other in zip(pairs, others_of(pairs, fits), strict=True)]
    bar = tqdm(total=len(pairs), desc="reference", unit="pair", mininterval=1)
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        data = make_dataset(batch, tokenizer, contract, max_length, others)
        rows = [
            {"input_ids": ids, "labels": labels}
            for item in data
            for ids, labels in zip(item["input_ids"], item["labels"], strict=True)
        ]
        groups = grouped(on(model.device, collate(rows)), len(names))
        with torch.no_grad():
            for sums, counts, which in log_probabilities(model, groups, token_budget):
                for pair, values, tokens in zip(batch[which], sums.tolist(), counts.tolist(), strict=True):
                    yield {
                        "pair": pair.key,
                        **{name: round(value, 5) for name, value in zip(names, values, strict=True)},
                        **{f"{name}_tokens": count for name, count in zip(names, tokens, strict=True)},
                        **({"other_answer": pair.other} if others else {}),
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
            job.params.others,
        )
        write_jsonl(job.output.losses, lines)
        write_json(job.output.reference, describe_reference(job.input.base, job.input.previous))
