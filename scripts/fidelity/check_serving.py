"""Serve the exported GGUF, ask it as a user would, and check that it gives the evaluation's answers.

In: the served GGUF, its answers in the evaluation, the records, the chat contract. Out: the gate's value and the
answers that differ.

The server is llama-cpp-python's OpenAI-compatible one, on a free loopback port, with the template in the GGUF; the
client is `openai`. The server decodes one answer at a time and the evaluation several at once. This can tip the choice
between two equally likely tokens, so a few answers may differ.

Servers of llama.cpp models may penalize repeated tokens by default (this one does, and Ollama did before v0.32.10).
This changes greedy answers: commands repeat some parts on purpose. So the penalty is turned off here and in the
Modelfile.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llama_cpp import LLAMA_SPLIT_MODE_NONE
from openai import APIConnectionError, DefaultHttpxClient, OpenAI

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.gpus import choose_layers
from scripts.common.io import read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records

LEAST = 120.0  # seconds to wait for anything
READ = 2e7  # bytes a second of a model that is loaded, from a slow network's file system
COMPUTED = 1e9  # bytes a second of weights that one slow core computes with; each token takes all of them


def patience(size: int, tokens: int) -> tuple[float, float]:
    """Return seconds to wait for a model of `size` bytes to load, and for an answer; `tokens`: those of prompt and
    answer, at most. Generous: only a server that hangs is to reach them.
    """
    return LEAST + size / READ, LEAST + size / COMPUTED * tokens


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(gguf: str | Path, context: int, threads: int, gpu_layers: int = 0) -> Iterator[OpenAI]:
    """Start a server for the GGUF and yield a client; the server stops at the end of the block.

    Raises GradusError with the server's last message if it does not start.
    """
    loading, answering = patience(Path(gguf).stat().st_size, context)
    port = free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--n_ctx", str(context), "--n_threads", str(threads)]
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    command += ["--n_gpu_layers", str(gpu_layers), "--split_mode", str(LLAMA_SPLIT_MODE_NONE)]
    if not gpu_layers:
        environment["CUDA_VISIBLE_DEVICES"] = ""  # built for CUDA, it would compute long prompts there all the same
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        client = OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1",
            api_key="none needed",
            http_client=DefaultHttpxClient(trust_env=False, timeout=answering),
            max_retries=0,
        )
        try:
            deadline = time.monotonic() + loading
            while True:
                try:
                    client.models.list(timeout=LEAST)
                    break
                except APIConnectionError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        last = (log.read().strip().splitlines() or ["no message"])[-1]
                        raise GradusError(f"{gguf}: the server did not start: {last}") from None
                    time.sleep(0.2)
            yield client
        finally:
            client.close()
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def ask(client: OpenAI, contract: ChatContract, record: Record, max_tokens: int, **more: Any) -> str:
    """Return the server's greedy answer to a record; `more`: fields of the request that OpenAI's API does not have."""
    messages: Any = contract.ask(record)
    completion = client.chat.completions.create(
        model="gradus", messages=messages, temperature=0, max_tokens=max_tokens, extra_body=more
    )
    return completion.choices[0].message.content or ""


def check_serving(
    gguf: str | Path,
    answers: Sequence[dict[str, Any]],
    records: Sequence[Record],
    contract: ChatContract,
    count: int,
    max_tokens: int,
    threads: int,
    gpu_layers: int = 0,
) -> dict[str, Any]:
    """Ask the first `count` records of `answers` again; return the share of equal answers, and those that differ.

    Each record is asked twice: without the server's penalty on repeated tokens, and with the server's defaults for
    comparison.
    """
    by_id = {record.id: record for record in records}
    asked = list(answers)[:count]
    longest = max((given["prompt_tokens"] for given in asked), default=0)
    differing, same, same_by_default = [], 0, 0
    if asked:
        with serving(gguf, longest + max_tokens + 8, threads, gpu_layers) as client:
            for given in asked:
                record = by_id[given["id"]]
                same_by_default += ask(client, contract, record, max_tokens) == given["text"]
                text = ask(client, contract, record, max_tokens, repeat_penalty=1.0)
                same += text == given["text"]
                if text != given["text"]:
                    differing.append({"id": given["id"], "served": text, "evaluated": given["text"]})
    return {
        "values": {"serving.same_answers": round(same / len(asked), 6) if asked else None},
        "skipped": "no row was asked",
        "asked": len(asked),
        "same": same,
        "same_by_default": same_by_default,
        "differing": differing,
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_json(
            job.output.facts,
            check_serving(
                job.input.gguf,
                list(read_jsonl(job.input.answers)),
                list(read_records(job.input.records)),
                read_contract(job.input.contract),
                job.params.asked,
                job.params.max_tokens,
                job.params.threads,
                choose_layers(job.params.gpu_layers),
            ),
        )
