"""Several processes for one training: the rows, losses and adapter of one process, and what happens when one is killed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from scripts.common.hashing import ROOT
from scripts.common.io import read_json
from scripts.train.train_phase import TrainParams, train_in_processes
from tests.unit.test_phase import Bench, history

# one thread each: two that spin beside each other on two cores would take minutes
TWO = {"threads": 1, "processes": 2}

# what the rule's script does, in a process of its own: {arguments, params} and the log; prints the error as a job does
JOB = """
import json, sys
from scripts.common.logs import logging_to
from scripts.train.train_phase import TrainParams, train_in_processes
given, params, log = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
with logging_to(log):
    train_in_processes(given, TrainParams(**params), log)
"""


def job(bench, name, *args, **changes):
    """Return the process of a job that trains in two processes."""
    given = bench.arguments(name, *args, **{**TWO, **changes})
    params = dataclasses.asdict(given.pop("params"))
    command = [sys.executable, "-c", JOB, json.dumps(given, default=str), json.dumps(params), f"{bench.folder}/{name}.log"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Return what a job printed about an error, once it has ended."""
    _, text = process.communicate(timeout=120)
    return process.returncode, text


def adapter(bench, name):
    return load_file(bench.folder / name / "adapter" / "adapter_model.safetensors")


def test_compare(base, contract, tmp_path):
    bench = Bench(tmp_path, base, contract, rows=38)
    for budget in (1, 128):
        t = time.time()
        bench.train(f"one-{budget}", threads=1, micro_batch_tokens=budget)
        print("one", time.time() - t)
        t = time.time()
        print(finish(job(bench, f"two-{budget}", micro_batch_tokens=budget)))
        print("two", time.time() - t)
        one, two = (history(tmp_path / f"{n}-{budget}.jsonl") for n in ("one", "two"))
        for a, b in zip(one, two, strict=True):
            print(a["loss"], b["loss"], abs(a["loss"] - b["loss"]), a["gradient_norm"] / b["gradient_norm"] - 1)
        one, two = (adapter(bench, f"{n}-{budget}") for n in ("one", "two"))
        print(max((one[k] - two[k]).norm().item() / one[k].norm().item() for k in one))
    print((tmp_path / "two-1.log").read_text())
    assert 0
