"""Ask one model the questions outside the task, and measure its loss on general text, with llama.cpp.

In: a GGUF, the questions, the passages, the chat contract. Out: one answer per question, one loss per passage, and the
seconds.

The task's system prompt is left out: it asks for the task, and what is wanted here is what the model still does when it
is asked for something else. The template may put the base's own default in its place, the same for all models.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from scripts.common.answers import Answer
from scripts.common.chat import read_contract
from scripts.common.generate import answer_all, render_prompts
from scripts.common.gpus import choose_layers
from scripts.common.io import read_jsonl, write_jsonl
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to


def text_losses(path: str, texts: Sequence[str], threads: int, gpu_layers: int = 0) -> list[tuple[int, float]]:
    """Return (tokens, loss summed over them, in nats) of each text, read from its beginning without a conversation.

    The first token has no loss unless the vocabulary puts one before it.
    """
    from scripts.common.decode import Decoder

    probe = Decoder(path, threads, 1, 1)
    encoded = [probe.tokenize(text, add_special=True) for text in texts]
    probe.close()
    decoder = Decoder(path, threads, 1, max(map(len, encoded)), gpu_layers)
    losses = []
    for ids in encoded:
        logits = decoder.logits(ids, 1).astype(np.float64)
        chosen = logits[np.arange(len(ids) - 1), ids[1:]]
        losses.append((len(ids) - 1, float((logsumexp(logits, axis=1) - chosen).sum())))
    decoder.close()
    return losses


def measure(
    path: str,
    prompts: Sequence[str],
    names: Sequence[str],
    texts: Sequence[str],
    max_tokens: int,
    sequences: int,
    threads: int,
    gpu_layers: int = 0,
) -> tuple[list[Answer], list[tuple[int, float]]]:
    """Return the answers, and the texts' (tokens, loss). Run this isolated."""
    answers = answer_all(path, prompts, max_tokens, sequences, threads, None, names, gpu_layers)
    return answers, text_losses(path, texts, threads, gpu_layers)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        questions, passages = (list(read_jsonl(job.input[name])) for name in ("questions", "passages"))
        contract = replace(read_contract(job.input.contract), system_prompt="")
        asked: list[Any] = [contract.messages(question["prompt"]) for question in questions]
        answers, losses = run_isolated(
            f"probing {job.input.gguf}",
            measure,
            job.input.gguf,
            render_prompts(job.input.gguf, contract, asked),
            [question["id"] for question in questions],
            [passage["text"] for passage in passages],
            **{**job.params.answer, "gpu_layers": choose_layers(job.params.answer["gpu_layers"])},
        )
        write_jsonl(
            job.output.answers,
            ({"id": q["id"], **asdict(answer)} for q, answer in zip(questions, answers, strict=True)),
        )
        write_jsonl(
            job.output.losses,
            (
                {"id": p["id"], "tokens": tokens, "loss": round(loss, 6)}
                for p, (tokens, loss) in zip(passages, losses, strict=True)
            ),
        )
