"""GPUs for llama.cpp: whether it was built for any, how much of a model it computes there, and which one a job takes.

Nothing here starts CUDA. Jobs run llama.cpp in forked children (isolate.py), and a child cannot use a CUDA that its
parent has started.
"""

import fcntl
import logging
import os
import re
import shutil
import socket
import subprocess
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from scripts.common.errors import GradusError
from scripts.common.job import GIVEN_GPUS
from scripts.common.machine import ON_CLUSTER

ALL = -1  # llama.cpp's number for all layers
PATIENCE = 30.0  # seconds for nvidia-smi
TAKEN: list[IO[str]] = []  # the lock of this process's GPU; it ends with the process
LOCKS = Path(".work/gpus")


@cache
def gpu_backends() -> frozenset[str]:
    """Return what llama.cpp was built for besides CPUs, such as `cuda`: each backend is a library of its own."""
    spec = find_spec("llama_cpp")
    if not spec or not spec.origin:
        return frozenset()
    names = (re.match(r"(?:lib)?ggml-([a-z]+)\.", file.name) for file in Path(spec.origin).with_name("lib").glob("*"))
    return frozenset(name[1] for name in names if name) - {"base", "cpu", "blas", "rpc"}


@cache
def ask_driver() -> tuple[list[tuple[str, str, str]], str]:
    """Return (number, model, id) of the machine's NVIDIA GPUs, and why nvidia-smi lists none; nothing of either if
    there is no nvidia-smi. A process asks once.
    """
    if not shutil.which("nvidia-smi"):
        return [], ""
    try:
        asked = subprocess.Popen(
            ["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except OSError as error:  # another machine's program
        return [], f"cannot be run ({error.strerror})"
    try:
        told, _ = asked.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        asked.kill()
        with suppress(subprocess.TimeoutExpired):  # waiting for a broken driver, a process cannot even be killed
            asked.wait(1)
        return [], f"did not answer within {PATIENCE:g} s: the driver hangs"
    if listed := re.findall(r"^GPU (\d+): (.*?)(?: \(UUID: (.*)\))?$", told, re.MULTILINE):
        return listed, ""
    said = " ".join(told.split())[:300] or "nothing"
    return [], f"lists no GPU; it ended with code {asked.returncode} and said: {said}"


def hidden_gpus() -> bool:
    """Return whether CUDA_VISIBLE_DEVICES hides all GPUs, so that the user wants the CPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")


def lost_gpu() -> str:
    """Return why a job that finds no GPU must not go on without one: the driver fails, or the job was given one. Empty
    where none is to be expected.
    """
    given, (_, fault) = int(os.environ.get(GIVEN_GPUS, 0)), ask_driver()
    # on a cluster nvidia-smi lists none for jobs that asked for none
    if fault and (given or ON_CLUSTER not in os.environ):
        return f"nvidia-smi {fault.rstrip('.')}. Mend the driver, or restart the machine if a GPU was lost"
    if given:
        return (
            f"this job was given {given} GPU{'s' if given > 1 else ''} (Snakemake's resource gpu), and there is no "
            "nvidia-smi here. Install the driver, let the job run where there is a GPU, or leave out --resources gpu=…"
        )
    return ""


@cache
def visible_gpus() -> dict[str, str]:
    """Return {number or id: model} of the machine's NVIDIA GPUs, or of those that CUDA_VISIBLE_DEVICES names, if it is
    set; none if there is no driver, or if it fails.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden_gpus():
        return {}
    listed, _ = ask_driver()
    found = {number: model for number, model, _ in listed}
    if given is None or not found:
        return found
    ids = {model_id: model for _, model, model_id in listed if model_id}
    return {
        name: found.get(name) or next((model for full, model in ids.items() if full.startswith(name)), "NVIDIA GPU")
        for name in given.split(",")
    }


def layer_fault(wanted: int | str, gpus: int | None = None) -> str:
    """Return why llama.cpp cannot compute what `evaluate.gpu_layers` wants; empty if it can, as far as it was built and
    by the number of `gpus`, if that is known.
    """
    if wanted in ("auto", 0):
        return ""
    if gpus == 0 and gpu_backends() == {"cuda"}:
        return (
            f"is {wanted}, but there is no GPU that nvidia-smi lists and CUDA_VISIBLE_DEVICES leaves visible. Set auto "
            "or 0, or say how many GPUs there are, as for a cluster's jobs: --resources gpu=1 (docs/gpu.md)"
        )
    if gpu_backends():
        return ""
    return (
        f"is {wanted}, but llama.cpp was built for CPUs only. Build it for CUDA (`make CUDA=1 setup`, docs/gpu.md), "
        "or set auto or 0"
    )


def offloads(wanted: int | str, gpus: int) -> bool:
    """Return whether llama.cpp is to compute on a GPU; `wanted` is `evaluate.gpu_layers`, `gpus` how many there are."""
    return "cuda" in gpu_backends() and gpus > 0 if wanted == "auto" else bool(wanted)


def choose_layers(wanted: int | str) -> int:
    """Return how many of a model's layers llama.cpp is to compute on the GPU, ALL for all; `wanted` is
    `evaluate.gpu_layers`.

    If there are several GPUs and any layers, this process and its children see one of them from then on. Raises
    GradusError if llama.cpp was built for CPUs only and layers are wanted, or if the GPU that it was built for is lost.
    """
    if fault := layer_fault(wanted):
        raise GradusError(f"evaluate.gpu_layers {fault}")
    if wanted and "cuda" in gpu_backends() and not visible_gpus() and not hidden_gpus() and (lost := lost_gpu()):
        raise GradusError(
            f"llama.cpp was built for CUDA, but {lost}. To answer on the CPU all the same, set evaluate.gpu_layers: 0"
        )
    if not offloads(wanted, len(visible_gpus())):
        return 0
    take_one_gpu(list(visible_gpus()))
    return ALL if wanted == "auto" else int(wanted)


def gpu_name(layers: int) -> str | None:
    """Return the model of the GPU that computes these layers; None without any."""
    names = visible_gpus()
    taken = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    return names.get(taken, next(iter(names.values()), "GPU")) if layers else None


def lock_name(gpu: str) -> str:
    """Return the name of a GPU's lock. On a cluster the folder is that of all machines, and SLURM gives a job GPUs of
    its own, which can have the numbers of another job's.
    """
    return "-".join([socket.gethostname(), os.environ.get("SLURM_JOB_ID", ""), gpu.replace("/", "-")])


def take_one_gpu(names: list[str]) -> None:
    """Of several GPUs, leave one visible to this process, before CUDA starts: the first that no other job of Gradus has
    taken. The locks are those of scripts/common/device.py, which asks torch; answering does without it.
    """
    if len(names) < 2 or TAKEN:
        return
    LOCKS.mkdir(parents=True, exist_ok=True)
    for name in names:
        handle = open(LOCKS / lock_name(name), "w", encoding="utf-8")  # noqa: SIM115 (held until the end)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            continue
        except OSError:  # a file system without locks
            pass
        TAKEN.append(handle)
        break
    else:
        name = names[0]
        logging.warning("all %d GPUs are taken by other jobs; this one shares GPU %s", len(names), name)
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # numbers as nvidia-smi's
    os.environ["CUDA_VISIBLE_DEVICES"] = name
