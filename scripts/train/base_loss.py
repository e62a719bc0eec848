"""Compute the untuned base's loss on every row's response, with and without the prompt, for the loss and IFD scorers.

In: the dataset, the base, the chat contract. Out: one line per row, {id, loss, loss_alone}, in nats per token. Without
the prompt, the response follows only the template's start of an answer (Li et al. 2024, arXiv 2308.12032).
"""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoTokenizer

from scripts.common.chat import ChatContract, read_contract
from scripts.common.device import choose_device
from scripts.common.io import write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.train.loss import row_losses
from scripts.train.model import choose_attention, load_base
from scripts.train.packing import encode


def opening(tokenizer: Any, contract: ChatContract) -> list[int]:
    """Return the token ids with which the template starts an answer."""
    texts = [
        tokenizer.apply_chat_template(
            contract.messages("x"), chat_template=contract.chat_template, add_generation_prompt=more, tokenize=False
        )
        for more in (False, True)
    ]
    return list(tokenizer(texts[1][len(texts[0]) :], add_special_tokens=False)["input_ids"])


def base_losses(
    records: Iterable[Record], base: str | Path, contract: ChatContract, wanted: str = "auto"
) -> Iterator[dict[str, Any]]:
    """Yield {id, loss, loss_alone} for each record; `wanted` is `train.device`."""
    device = choose_device(wanted)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    model = load_base(base, device, choose_attention("auto", device), packed=False).eval()
    alone = opening(tokenizer, contract)
    stream = iter(tqdm(records, desc="base's loss", unit="row", mininterval=1))
    while batch := list(islice(stream, 256)):
        pairs = [encode(tokenizer, contract, record) for record in batch]
        with_prompt = row_losses(model, pairs)
        without = row_losses(model, [(alone, answer) for _, answer in pairs])
        for record, loss, loss_alone in zip(batch, with_prompt, without, strict=True):
            yield {"id": record.id, "loss": round(loss, 5), "loss_alone": round(loss_alone, 5)}


if job := find_job(globals()):
    os.environ["OMP_NUM_THREADS"] = str(job.params.threads)
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.threads)
        rows = read_records(job.input.dataset)
        contract = read_contract(job.input.contract)
        write_jsonl(job.output.losses, base_losses(rows, job.input.base, contract, job.config["train"]["device"]))
