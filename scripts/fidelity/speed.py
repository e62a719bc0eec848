"""Measure the speed of each quant of a model: prompt processing and generation, in one run, with nothing else running.

In: the GGUFs, held-out rows, the chat contract. Out: {quant: {prompt_tokens_per_s, tokens_per_s}}, medians over
rounds.
"""

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from scripts.common.chat import read_contract
from scripts.common.gpus import choose_layers, gpu_name
from scripts.common.io import write_json
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import read_records
from scripts.fidelity.divergence import probes

ROUNDS, GENERATED = 3, 48


def time_one(path: str, prompts: Sequence[Sequence[int]], threads: int, gpu_layers: int = 0) -> tuple[float, float]:
    """Return (prompt tokens per second, generated tokens per second) of a single sequence. Run this isolated."""
    from scripts.common.decode import Decoder

    decoder = Decoder(path, threads, 1, max(map(len, prompts)) + GENERATED + 1, gpu_layers)
    decoder.answer([prompts[0]], 1)  # warm up
    read = generated = 0.0
    tokens = 0
    for prompt in prompts:
        began = time.monotonic()
        decoder.answer([prompt], 1)
        middle = time.monotonic()
        ((ids, _),) = decoder.answer([prompt], GENERATED)
        read += middle - began
        generated += time.monotonic() - middle - (middle - began)
        tokens += max(0, len(ids) - 1)
    decoder.close()
    return sum(map(len, prompts)) / read, tokens / max(generated, 1e-9)


def measure(
    paths: Mapping[str, str], prompts: Sequence[Sequence[int]], threads: int, gpu_layers: int = 0
) -> dict[str, Any]:
    """Return the medians over rounds; every round times each quant once."""
    speeds: dict[str, list[tuple[float, float]]] = {quant: [] for quant in paths}
    for _ in range(ROUNDS):
        for quant, path in paths.items():
            speeds[quant].append(run_isolated(f"timing {path}", time_one, path, prompts, threads, gpu_layers))
    return {
        quant: {
            "prompt_tokens_per_s": round(median(prompt for prompt, _ in pairs), 1),
            "tokens_per_s": round(median(generated for _, generated in pairs), 1),
        }
        for quant, pairs in speeds.items()
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        rows = probes(
            job.input.tokenizer, read_contract(job.input.contract), list(read_records(job.input.records)), 200
        )
        asked = [ids[:start] for ids, start in rows][:4]
        ggufs = dict(zip(job.params.quants, job.input.ggufs, strict=True))
        threads, layers = job.params.threads, choose_layers(job.params.gpu_layers)
        measured = measure(ggufs, asked, threads, layers)
        facts = {"threads": threads, "gpu": gpu_name(layers), "prompts": len(asked), "quants": measured}
        write_json(job.output.speed, facts)
