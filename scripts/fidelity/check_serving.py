"""Serve the exported GGUF as others would, ask it as others would, and expect the evaluation's answers.

In: the served GGUF, its answers in the evaluation, the records, the chat contract. Out: the gate's value and what
differed.

The server is llama-cpp-python's, with the OpenAI interface, on a free port of the loopback device, with the template
inside the GGUF; the client is `openai`. It decodes one answer at a time and the evaluation several together, which
can tip a choice between two equally likely tokens: so not every answer need be the same.

Servers of llama.cpp models may penalise repeated tokens by default (this one does, and Ollama), which changes greedy
answers: a command repeats its parts with reason. So the penalty is switched off here, and in the Modelfile.
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

from openai import APIConnectionError, DefaultHttpxClient, OpenAI

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.io import read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records

WAIT = 120  # seconds for the model to load


def free_port() -> int:
    """Return a port of the loopback device that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(gguf: str | Path, context: int, threads: int) -> Iterator[OpenAI]:
    """Give a client of a server of the GGUF, which ends with the block.

    Raises GradusError with the server's last words if it does not come up.
    """
    port = free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--n_ctx", str(context), "--n_threads", str(threads)]
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    with tempfile.TemporaryFile("w+") as said:
        server = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
        client = OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1",
            api_key="none needed",
            http_client=DefaultHttpxClient(trust_env=False, timeout=120),
            max_retries=0,
        )
        try:
            deadline = time.monotonic() + WAIT
            while True:
                try:
                    client.models.list()
                    break
                except APIConnectionError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        said.seek(0)
                        last = (said.read().strip().splitlines() or ["no message"])[-1]
                        raise GradusError(f"{gguf}: the server does not come up: {last}") from None
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
    """Return the server's greedy answer to a record; `more` goes into the request beyond OpenAI's own fields."""
    messages: Any = contract.ask(record)
    done = client.chat.completions.create(
        model="gradus", messages=messages, temperature=0, max_tokens=max_tokens, extra_body=more
    )
    return done.choices[0].message.content or ""


def check_serving(
    gguf: str | Path,
    answers: Sequence[dict[str, Any]],
    records: Sequence[Record],
    contract: ChatContract,
    count: int,
    max_tokens: int,
    threads: int,
) -> dict[str, Any]:
    """Ask the first `count` records of `answers` again; return the share of equal answers, and those that differ.

    Asked twice, with the server's penalty on repeated tokens switched off, and as it comes, to say what it does.
    """
    by_id = {record.id: record for record in records}
    asked = list(answers)[:count]
    longest = max((given["prompt_tokens"] for given in asked), default=0)
    differing, same, as_it_comes = [], 0, 0
    if asked:
        with serving(gguf, longest + max_tokens + 8, threads) as client:
            for given in asked:
                record = by_id[given["id"]]
                as_it_comes += ask(client, contract, record, max_tokens) == given["text"]
                text = ask(client, contract, record, max_tokens, repeat_penalty=1.0)
                same += text == given["text"]
                if text != given["text"]:
                    differing.append({"id": given["id"], "served": text, "evaluated": given["text"]})
    return {
        "values": {"serving.same_answers": round(same / len(asked), 6) if asked else None},
        "skipped": "no row was asked",
        "asked": len(asked),
        "same": same,
        "same_by_default": as_it_comes,
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
            ),
        )
