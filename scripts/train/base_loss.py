"""The untuned base's loss on every row's response, with the prompt and without: what the loss and IFD scorers need.

In: the dataset, the base, the chat contract. Out: one line a row, {id, loss, loss_alone}, nats a token. Without the
prompt, the response follows the template's opening of an answer and nothing else (Li et al. 2024, arXiv 2308.12032).
"""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import AutoTokenizer

from scripts.common.chat import ChatContract, read_contract
from scripts.common.io import write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.train.loss import completion_logits, shares_beginnings
from scripts.train.model import choose_attention, choose_device, load_base
from scripts.train.packing import IGNORED, collate, encode, on, packs

TOKENS = 2048  # in one pass


def opening(tokenizer: Any, contract: ChatContract) -> list[int]:
    """Return the token ids with which the template opens an answer."""
    texts = [
        tokenizer.apply_chat_template(
            contract.messages("x"), chat_template=contract.chat_template, add_generation_prompt=more, tokenize=False
        )
        for more in (False, True)
    ]
    return list(tokenizer(texts[1][len(texts[0]) :], add_special_tokens=False)["input_ids"])


def losses(model: Any, rows: list[tuple[list[int], list[int]]]) -> list[float]:
    """Return the mean loss over the completion, in nats a token, of each (prompt ids, completion ids)."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0]) + len(rows[i][1]), i))
    laid = [{"input_ids": rows[i][0] + rows[i][1], "labels": [IGNORED] * len(rows[i][0]) + rows[i][1]} for i in order]
    found: list[float] = []
    with torch.no_grad():
        for packed in packs(on(model.device, collate(laid)), TOKENS, shares_beginnings(model)):
            logits, targets = completion_logits(model, packed)
            each = cross_entropy(logits.float(), targets, reduction="none")
            wanted = (packed.targets != IGNORED).cumsum(0)
            ends = [0, *(int(wanted[end - 1]) for end in packed.bounds[1:])]
            found += [each[start:end].mean().item() for start, end in zip(ends, ends[1:], strict=False)]
    back = dict(zip(order, found, strict=True))
    return [back[i] for i in range(len(rows))]


def base_losses(records: Iterable[Record], base: str | Path, contract: ChatContract) -> Iterator[dict[str, Any]]:
    """Yield {id, loss, loss_alone} of each record."""
    device = choose_device()
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    model = load_base(base, device, choose_attention("auto", device), packed=False).eval()
    alone = opening(tokenizer, contract)
    stream = iter(tqdm(records, desc="base's loss", unit="row", mininterval=1))
    while some := list(islice(stream, 256)):
        asked = [encode(tokenizer, contract, record) for record in some]
        with_prompt = losses(model, asked)
        without = losses(model, [(alone, answer) for _, answer in asked])
        for record, one, other in zip(some, with_prompt, without, strict=True):
            yield {"id": record.id, "loss": round(one, 5), "loss_alone": round(other, 5)}


if job := find_job(globals()):
    os.environ["OMP_NUM_THREADS"] = str(job.params.threads)
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.threads)
        rows = read_records(job.input.dataset)
        write_jsonl(job.output.losses, base_losses(rows, job.input.base, read_contract(job.input.contract)))
