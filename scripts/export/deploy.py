"""Create the model in Ollama, if a server is reachable, and ask it held-out rows; otherwise say what to do.

In: the folder from rule `ollama`, held-out rows with the served model's answers in the evaluation, the chat contract.
Out: what Ollama reports about the new model, and how many of its answers are those of the evaluation, as JSON.

Prompts must be those of training, byte for byte. Answers need not be the evaluation's: Ollama computes in another
order, which can tip the choice between two nearly equally likely tokens. So their agreement is counted, not judged.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.io import read_jsonl, write_json
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.llama_vocabulary import adds_bos
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records

PORT = 11434
WAIT = 600  # seconds; the first request loads the model
REACHABLE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # addresses that only a server can use


def server() -> str:
    """Return the URL of Ollama's server, from OLLAMA_HOST as Ollama itself reads it (`Host` in its envconfig package):
    the port is 11434 without a scheme, 80 or 443 with one; blanks and quotes around it do not count.
    """
    value = os.environ.get("OLLAMA_HOST", "").strip().strip("\"'").strip()
    scheme, given, rest = value.rpartition("://")
    address, _, path = rest.partition("/")
    usual = {"http": 80, "https": 443}.get(scheme, PORT)
    both = re.fullmatch(r"(\[[^][]*\]|[^][:]*):([^][:]*)", address)
    host, port = both.groups() if both else (address, "")
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else -1
    host = host.strip("[]")
    host = REACHABLE.get(host, host)
    host = f"[{host}]" if ":" in host else host
    number = number if 0 <= number < 1 << 16 else usual
    return f"{scheme if given else 'http'}://{host}:{number}" + (f"/{path}" if path else "").rstrip("/")


def ask(path: str, body: dict[str, Any] | None = None, timeout: float = 10) -> Any:
    """Return the server's answer, as JSON; raise OSError if it cannot be reached or refuses."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server()}{path}", data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is local: ignore any proxy
    with opener.open(request, timeout=timeout) as answer:
        return json.load(answer)


def create(folder: str | Path, name: str) -> str:
    """Run `ollama create`; return the server's version.

    Raises GradusError that says what to do if Ollama is not there or refuses the model.
    """
    how = f"Start it (`ollama serve`) and run again, or by hand: cd {folder} && ollama create {name} -f Modelfile"
    try:
        version = str(ask("/api/version")["version"])
    except (OSError, ValueError, KeyError, TypeError, HTTPException) as error:
        raise GradusError(f"no Ollama answers at {server()} ({error}). {how}") from None
    if not shutil.which("ollama"):
        raise GradusError(f"Ollama answers at {server()}, but its command `ollama` is not on this machine. {how}")
    done = subprocess.run(
        ["ollama", "create", name, "-f", "Modelfile"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise GradusError(
            f"ollama create failed: {last}. Fix this and run again; if it does not know a command of the Modelfile, "
            f"update Ollama (this is {version})"
        )
    return version


def ask_model(path: str, name: str, **more: Any) -> dict[str, Any]:
    """Return what the server answers about the model; raise GradusError if it does not."""
    try:
        return dict(ask(path, {"model": name, **more}, WAIT))
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace").strip()
        raise GradusError(f"Ollama has the model {name}, but {path} fails ({error}): {said}") from None
    except (OSError, ValueError, TypeError, HTTPException) as error:
        raise GradusError(f"Ollama has the model {name}, but {path} does not answer: {error}") from None


def chat(name: str, contract: ChatContract, record: Record, **more: Any) -> dict[str, Any]:
    """Return the answer to a record, asked as a user does: Ollama adds the Modelfile's system prompt."""
    messages = [message for message in contract.ask(record) if message["role"] != "system"]
    return ask_model("/api/chat", name, messages=messages, stream=False, **more)


def compare_prompts(name: str, contract: ChatContract, records: Sequence[Record], bos: str) -> int | None:
    """Return how many prompts Ollama renders as in training: all. None if it cannot only render (old versions).

    `bos`: the BOS token if llama.cpp adds it to every prompt, else "". Raises GradusError that shows the first prompt
    that differs.
    """
    for record in records:
        # an undocumented field of Ollama's API: return the prompt instead of an answer
        reply = chat(name, contract, record, _debug_render_only=True)
        rendered = (reply.get("_debug_info") or {}).get("rendered_template")
        if rendered is None:
            return None
        trained = contract.template.render(contract.ask(record))
        if rendered.removeprefix(bos) != trained.removeprefix(bos):
            raise GradusError(
                f"Ollama has the model {name}, but asks it differently from training, so expect worse answers.\n"
                f"  Ollama:   {rendered!r}\n  training: {trained!r}\n"
                "If OLLAMA_GO_TEMPLATE is set for the server, unset it. Otherwise report this with Ollama's version."
            )
    return len(records)


def compare_answers(
    name: str, contract: ChatContract, records: Sequence[Record], texts: Sequence[str]
) -> list[dict[str, str]]:
    """Return the answers of Ollama's that differ from `texts`, those of the evaluation."""
    differing = []
    for record, text in zip(records, texts, strict=True):
        reply = chat(name, contract, record)
        try:
            answer = str(reply["message"]["content"])
        except (KeyError, TypeError):
            raise GradusError(f"Ollama has the model {name}, but what it answers is no message: {reply}") from None
        if answer != text:
            differing.append({"id": record.id, "ollama": answer, "evaluated": text})
    return differing


def deploy(
    folder: str | Path, name: str, contract: ChatContract, asked: Sequence[tuple[Record, str]], bos: str
) -> dict[str, Any]:
    """Create the model and compare prompts and answers; return what to report. `asked`: rows with their answers in the
    evaluation.

    Raises GradusError if Ollama is not there, refuses the model, or gives it other prompts than training did.
    """
    version = create(folder, name)
    shown = ask_model("/api/show", name)
    records, texts = [record for record, _ in asked], [text for _, text in asked]
    same = compare_prompts(name, contract, records, bos)
    differing = compare_answers(name, contract, records, texts)
    return {
        "version": version,
        "template": shown.get("template"),
        "parameters": shown.get("parameters"),
        "asked": len(asked),
        "same_prompts": same,
        "same_answers": len(asked) - len(differing),
        "differing": differing,
    }


def summary(name: str, found: dict[str, Any]) -> str:
    """Return what the user is told."""
    asked, same = found["asked"], found["same_prompts"]
    prompts = (
        f"{same} of {asked} prompts as in training"
        if same is not None
        else f"prompts were not compared, because {found['version']} cannot only render them"
    )
    return f"Ollama has {name}: {prompts}; {found['same_answers']} of {asked} answers as in the evaluation"


if job := find_job(globals()):
    with logging_to(job.log[0]):
        pinned = read_contract(job.input.contract)
        begins = run_isolated("asking for BOS", adds_bos, str(Path(job.input.folder) / "model.gguf"))
        by_id = {record.id: record for record in read_records(job.input.records)}
        given = [(by_id[row["id"]], row["text"]) for row in list(read_jsonl(job.input.answers))[: job.params.asked]]
        report = deploy(job.input.folder, job.params.name, pinned, given, pinned.bos_token if begins else "")
        write_json(job.output.deployed, report)
        told = summary(job.params.name, report)
        logging.info("%s", told)
        print(f"Gradus: {told} ({job.output.deployed})", file=sys.stderr)
