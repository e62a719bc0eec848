"""Create the model in Ollama, if a server is reachable; otherwise say what to do.

In: the folder from rule `ollama`. Out: what Ollama reports about the new model, as JSON.
"""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to

DEFAULT = "127.0.0.1:11434"


def server() -> str:
    """Return the URL of Ollama's server: OLLAMA_HOST, or Ollama's default."""
    host = os.environ.get("OLLAMA_HOST") or DEFAULT
    host = host if "://" in host else f"http://{host}"
    return host.replace("//0.0.0.0", "//127.0.0.1").rstrip("/")


def ask(path: str, body: dict[str, Any] | None = None) -> Any:
    """Return the server's answer, as JSON; raise OSError if it cannot be reached."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server()}{path}", data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is local: ignore any proxy
    with opener.open(request, timeout=10) as answer:
        return json.load(answer)


def deploy(folder: str | Path, name: str) -> dict[str, Any]:
    """Run `ollama create`; return {version, template, parameters} as the server reports them.

    Raises GradusError that says what to do if Ollama is not there or refuses the model.
    """
    how = f"Start it (`ollama serve`) and run again, or by hand: cd {folder} && ollama create {name} -f Modelfile"
    try:
        version = ask("/api/version")["version"]
    except (OSError, ValueError, KeyError) as error:
        raise GradusError(f"no Ollama answers at {server()} ({error}). {how}") from None
    if not shutil.which("ollama"):
        raise GradusError(f"Ollama answers at {server()}, but its command `ollama` is not on this machine. {how}")
    done = subprocess.run(
        ["ollama", "create", name, "-f", "Modelfile"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise GradusError(f"ollama create failed: {last}. Fix this and run again")
    shown = ask("/api/show", {"model": name})
    return {"version": version, "template": shown.get("template"), "parameters": shown.get("parameters")}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_json(job.output.deployed, deploy(job.input.folder, job.params.name))
