"""Compare training in one run: as in tutorials, with Gradus, and with LLaMA-Factory.

In: the rows of a phase and of `valid`, base, rounded base and chat contract of a run. Out: training.json,
{way: {tokens_per_s, peak_gib, heldout_loss, …}}, and training.compared.json, the comparison. The ways run one after
another, each in a separate process; all train on the same rows, and the same code evaluates their adapters. Gradus runs
first and, with another seed, last: this shows drift in the machine's speed, and the effect of the seed on the loss.
"""

import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from transformers import AutoTokenizer

from scripts.common.chat import read_contract
from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import read_records
from scripts.train.model import LoraParams, attach_adapter, load_base
from scripts.train.sft import heldout_loss, make_dataset

# way: script; `tutorial-tuned` is the tutorial without dropout and gradient checkpointing, which are slow on CPUs
WAYS = {
    "ours": "ours",
    "tutorial": "tutorial",
    "tutorial-tuned": "tutorial",
    "llamafactory": "llamafactory",
    "ours-seed2": "ours",
}
# nats per completion token by which held-out losses may differ and still count as equal (docs/training.md)
TOLERANCE = 0.02


def install_llamafactory(folder: str | Path) -> str | None:
    """Return llamafactory-cli in an environment in `folder`, which is created if necessary.

    If it cannot be installed here, print the reason and return None.
    """
    command = Path(folder).resolve() / "bin" / "llamafactory-cli"
    if not command.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(command.parent / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pip += ["--requirement", str(ROOT / "envs" / "llamafactory.in")]
        done = subprocess.run(pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            print(
                f"Gradus: LLaMA-Factory cannot be installed here and is left out: {done.stdout[-500:]}", file=sys.stderr
            )
            shutil.rmtree(folder)
            return None
    return str(command)


def run(script: str, job: Mapping[str, Any]) -> dict[str, float]:
    """Run one way in a separate process; return seconds in training steps, total seconds, and peak memory in GiB.

    The peak is the resident memory of the process and its children, sampled ten times per second.
    """
    output = Path(job["output"])
    write_json(output / "job.json", job)
    command = [sys.executable, "-m", f"scripts.bench.{script}", str(output / "job.json")]
    began, peak = time.monotonic(), 0
    with open(output / "log.txt", "w", encoding="utf-8") as log:
        child = psutil.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        while child.poll() is None:
            try:
                family = [child, *child.children(recursive=True)]
                peak = max(peak, sum(process.memory_info().rss for process in family))
            except psutil.NoSuchProcess:  # the process has just ended
                pass
            time.sleep(0.1)
    if child.returncode:
        tail = (output / "log.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise GradusError(f"the way {job['way']!r} failed:\n{tail}")
    seconds = {"steps": read_json(output / "seconds.json"), "all": round(time.monotonic() - began, 1)}
    return {"seconds_steps": seconds["steps"], "seconds_all": seconds["all"], "peak_gib": round(peak / 2**30, 2)}


def judge(adapter: Path, job: Mapping[str, Any]) -> tuple[float, int]:
    """Return the held-out loss of an adapter on the NF4-rounded base, and the number of completion tokens."""
    contract = read_contract(job["contract"])
    tokenizer = AutoTokenizer.from_pretrained(job["rounded"], trust_remote_code=False)
    rows = make_dataset(list(read_records(job["valid"])), tokenizer, contract, 4096)
    lora = LoraParams(**job["train"]["lora"])
    model = attach_adapter(load_base(job["rounded"], "cpu", "rows", packed=False), lora, adapter, 0)
    tokens = sum(label != -100 for row in rows["labels"] for label in row)
    return heldout_loss(model, rows, 1024), tokens


def summarize(ways: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return Gradus's speed relative to each other way, from its slower run, and whether the held-out losses agree."""
    ours = min(ways["ours"]["tokens_per_s"], ways["ours-seed2"]["tokens_per_s"])
    others = {name: found for name, found in ways.items() if not name.startswith("ours")}
    return {
        name: {
            "times_as_fast": round(ours / found["tokens_per_s"], 2),
            "heldout_loss_difference": round(ways["ours"]["heldout_loss"] - found["heldout_loss"], 4),
            "no_worse": ways["ours"]["heldout_loss"] <= found["heldout_loss"] + TOLERANCE,
        }
        for name, found in others.items()
    }


if job := find_job(globals()):
    with logging_to(job.log[0]), tempfile.TemporaryDirectory() as scratch:
        given, train = job.input, job.params.train
        records = list(read_records(given.rows))[: job.params.rows]
        contract = read_contract(given.contract)
        data = make_dataset(records, AutoTokenizer.from_pretrained(given.base), contract, train["max_length"])
        tokens = sum(map(len, data["input_ids"]))
        common = {
            "rows": [record.to_json() for record in records],
            "valid": given.valid,
            "base": given.base,
            "rounded": given.rounded,
            "contract": given.contract,
            "system_prompt": contract.system_prompt,
            "train": train,
            "threads": train["threads"],
            "batch_size": train["batch_size"],
            "learning_rate": train["learning_rate"],
            "rank": train["lora"]["rank"],
            "alpha": train["lora"]["alpha"],
            "llamafactory": install_llamafactory(job.params.environment),
            "llamafactory_template": job.params.template,
        }
        measured: dict[str, dict[str, float]] = {}
        for way, script in WAYS.items():
            if way == "llamafactory" and not common["llamafactory"]:
                continue
            output = Path(scratch) / way
            output.mkdir()
            own = {"way": way, "tuned": way.endswith("tuned"), "seed": 2 if way.endswith("seed2") else 1}
            found = run(script, {**common, **own, "output": str(output)})
            loss, completion = judge(output / "adapter", common)
            measured[way] = {
                "tokens_per_s": round(tokens / found["seconds_steps"], 1),
                **found,
                "heldout_loss": round(loss, 4),
            }
            print(way, measured[way], flush=True)
        facts = {
            "rows": len(records),
            "tokens": tokens,
            "heldout_completion_tokens": completion,
            "tolerance": TOLERANCE,
            "threads": train["threads"],
        }
        write_json(job.output.measured, measured)
        write_json(job.output.compared, {"ours_against": summarize(measured), "job": facts})
