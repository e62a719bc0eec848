"""Compute once what all quants of a model are compared with: the logits of its bf16 GGUF at the answer tokens.

In: the bf16 GGUF, held-out rows, the chat contract. Out: fp32 logits, of shape (tokens, vocabulary), in NumPy's format;
deleted when all quants are compared.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from scripts.common.chat import read_contract
from scripts.common.gpus import choose_layers
from scripts.common.io import atomic_path
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import read_records
from scripts.fidelity.divergence import probes


def write_logits(
    gguf: str, rows: Sequence[tuple[Sequence[int], int]], threads: int, output: Path, gpu_layers: int = 0
) -> None:
    """Write the logits that predict the answer tokens of each row, one row after the other. Run this isolated."""
    from scripts.common.decode import Decoder

    decoder = Decoder(gguf, threads, 1, max(len(ids) for ids, _ in rows) + 1, gpu_layers)
    shape = (sum(len(ids) - start for ids, start in rows), decoder.size)
    stored = np.lib.format.open_memmap(output, "w+", np.float32, shape)
    done = 0
    for ids, start in tqdm(rows, desc="bf16", unit="row", mininterval=1):
        stored[done : done + len(ids) - start] = decoder.logits(ids, start)
        done += len(ids) - start
    stored.flush()
    decoder.close()


if job := find_job(globals()):
    with logging_to(job.log[0]), atomic_path(job.output.logits) as part:
        pinned = read_contract(job.input.contract)
        chosen = probes(job.input.tokenizer, pinned, list(read_records(job.input.records)), job.params.tokens)
        how = (chosen, job.params.threads, part, choose_layers(job.params.gpu_layers))
        run_isolated(f"asking {job.input.gguf}", write_logits, job.input.gguf, *how)
