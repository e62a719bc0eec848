"""Measure what quantization loses compared with bf16, on held-out text, both in llama.cpp.

In: the logits of the bf16 GGUF, the quantized one, held-out rows, the chat contract. Out: KL divergence, agreement and
perplexity over answer tokens, size, bits per weight, and the tensors that fell back to another type.

A KL near the baseline does not predict which answers flip (arXiv 2606.19558): `quantization` counts those.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.common.chat import read_contract
from scripts.common.gguf_info import read_gguf
from scripts.common.gpus import choose_layers
from scripts.common.io import write_json
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import read_records
from scripts.fidelity.divergence import Divergence, probes


def compare_gguf(
    reference: str, gguf: str | None, rows: Sequence[tuple[Sequence[int], int]], threads: int, gpu_layers: int = 0
) -> dict[str, Any]:
    """Return how far a GGUF is from the reference's stored logits, row by row; None: the reference itself.

    Run this isolated.
    """
    from scripts.common.decode import Decoder

    stored = np.lib.format.open_memmap(reference, "r")  # it refuses Python objects, so nothing is unpickled
    longest = max(len(ids) for ids, _ in rows) + 1
    decoder = Decoder(gguf, threads, 1, longest, gpu_layers) if gguf else None
    gathered, done = Divergence(), 0
    for ids, start in tqdm(rows, desc=Path(gguf or reference).stem, unit="row", mininterval=1):
        expected = stored[done : done + len(ids) - start]
        gathered.add(expected, decoder.logits(ids, start) if decoder else expected, ids[start:])
        done += len(expected)
    if decoder:
        decoder.close()
    return gathered.summary()


if job := find_job(globals()):
    with logging_to(job.log[0]):
        pinned = read_contract(job.input.contract)
        chosen = probes(job.input.tokenizer, pinned, list(read_records(job.input.records)), job.params.tokens)
        losses = run_isolated(
            f"comparing {job.input.gguf} with bf16",
            compare_gguf,
            job.input.reference,
            None if job.wildcards.quant == "bf16" else job.input.gguf,
            chosen,
            job.params.threads,
            choose_layers(job.params.gpu_layers),
        )
        facts = read_gguf(job.input.gguf)
        kept = ("bytes", "bits_per_weight", "parameters_by_type", "fallbacks")
        write_json(job.output.loss, {"rows": len(chosen), **losses, **{name: facts[name] for name in kept}})
