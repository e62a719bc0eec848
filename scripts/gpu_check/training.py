"""Train a small model with one kind of base weights: twenty steps, computed twice, killed, continued; peak and speed.

`python -m scripts.gpu_check.training JOB.json`. All is done by the rule's own `train_phase`.
"""

import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from scripts.common.device import choose_device
from scripts.common.hashing import sha256_file
from scripts.common.io import read_json, write_json, write_jsonl
from scripts.common.records import read_steps, write_steps
from scripts.config.schema import default
from scripts.gpu_check.findings import Findings, run_job

GIB = 2**30
WARM = 4  # steps before speed is measured: kernels are loaded and memory is taken
MARGIN = 0.15  # between estimate and peak
LORA: dict[str, Any] = default("train.lora")


def settings(weights: str, tokens: int, **more: Any) -> dict[str, Any]:
    """Return the settings of a training: the config's defaults, but for `weights`, for `tokens` of a micro-batch, for
    checkpoints and long rows, and for `more`.
    """
    own = {"max_length": 4096, "checkpoint_minutes": 1000, "gradient_checkpointing": False}
    return {**default("train"), "base_weights": weights, "micro_batch_tokens": tokens, **own, **more}


def base_of(folder: Path, weights: str) -> Path:
    """Return the checkpoint in `folder` to train on with this kind of weights, rounded to NF4 if need be."""
    if weights == "nf4" and not (folder / "rounded").is_dir():
        from scripts.train.round_base import round_base

        round_base(folder / "base", folder / "rounded", "cpu")
    return folder / ("rounded" if weights == "nf4" else "base")


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train one phase as `job` says and return its summary; the folder `<output>/trained` has the adapter."""
    from scripts.train.train_phase import TrainParams, train_phase

    output = Path(job["output"])
    output.mkdir(parents=True, exist_ok=True)
    train_phase(
        rows=job["rows"],
        valid=job["valid"],
        base=job["base"],
        contract_path=job["contract"],
        schedule=job["schedule"],
        phase=job["phase"],
        method="sft",
        previous=job.get("previous"),
        seed=1,
        params=TrainParams(**job["train"]),
        work=output / "work",
        folder=output / "trained",
        history=output / "history.jsonl",
        summary=output / "summary.json",
    )
    return dict(read_json(output / "summary.json"))


def hashes(output: Path) -> dict[str, str]:
    """Return the sha256 of a training's adapter and optimizer state."""
    files = ("adapter/adapter_model.safetensors", "optimizer.safetensors")
    return {name: sha256_file(output / "trained" / name) for name in files}


def speed(output: Path) -> float:
    """Return tokens a second after the first steps."""
    lines = [json.loads(line) for line in (output / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    first, last = lines[min(WARM, len(lines) - 2)], lines[-1]
    return float((last["tokens"] - first["tokens"]) / max(0.01, last["seconds"] - first["seconds"]))


def peak_bytes(device: str, before: int) -> int:
    """Return the peak memory since `forget_peak`: on a GPU what the driver gave out, less the `before` of others."""
    if device == "cpu":
        return int(psutil.Process().memory_info().rss)
    free, total = torch.cuda.mem_get_info()
    return total - free - before - torch.cuda.memory_reserved() + torch.cuda.max_memory_reserved()


def forget_peak(device: str) -> None:
    """Give memory back, and begin a new peak."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def estimated(job: dict[str, Any], checkpointing: bool, device: str) -> dict[str, int]:
    """Return the estimate of a job's memory, by what it is for."""
    from scripts.train.estimate import count_bytes
    from scripts.train.model import LoraParams, choose_attention

    rows = job["train"]["micro_batch_tokens"] // job["tokens"]
    return count_bytes(
        job["base"],
        LoraParams(**LORA),
        job["train"]["base_weights"],
        (rows, job["tokens"], rows * job["tokens"] // 2),
        choose_attention(job["train"]["attention"], device),
        device,
        job["train"]["optimizer"],
        checkpointing,
    )


def measure(job: dict[str, Any], name: str, findings: Findings, device: str, before: int) -> dict[str, Any]:
    """Train `job`; find its speed, and its peak memory against the estimate. Returns the summary."""
    forget_peak(device)
    summary = train(job)
    peak, output = peak_bytes(device, before), Path(job["output"])
    facts = {"tokens_per_s": round(speed(output)), "peak_gib": round(peak / GIB, 2), "seconds": summary["seconds"]}
    losses = [json.loads(line)["loss"] for line in (output / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    findings.add(
        f"{name}, {summary['steps']} steps",
        losses[-1] < losses[0],
        f"loss {losses[0]:.3f} to {losses[-1]:.3f}, {facts['tokens_per_s']:,} tokens/s",
        **facts,
        losses=losses,
    )
    parts = estimated(job, job["train"]["gradient_checkpointing"], device)
    total = sum(parts.values())
    off = total / peak - 1
    text = f"estimate {total / GIB:.2f} GiB, peak {peak / GIB:.2f} GiB ({off:+.0%}; limit ±{MARGIN:.0%})"
    fits = abs(off) <= MARGIN if device == "cuda" else None
    findings.add(f"{name}, memory", fits, text, estimate=parts, peak=peak)
    return summary


def run_once(job: dict[str, Any], kill_at: str | None = None) -> bool:
    """Train `job` in a process of its own, which is killed when the checkpoint `kill_at` is there.

    Returns whether it ended by itself. Raises RuntimeError if it failed.
    """
    output = Path(job["output"])
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "job.json", job)
    command = [sys.executable, "-m", "scripts.gpu_check.training", "--once", str(output / "job.json")]
    with open(output / "log.txt", "w", encoding="utf-8") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        while child.poll() is None:
            if kill_at and any((output / "work").glob(f"*/{kill_at}")):
                child.kill()
                child.wait()
                return False
            time.sleep(0.005)
    require_success(child.returncode, (output / "log.txt").read_text(encoding="utf-8", errors="replace"))
    return True


def require_success(code: int, told: str) -> None:
    """Raise RuntimeError with the last line of what a process `told`, and log all of it, if its exit code is not 0."""
    if code:
        print(told, flush=True)
        raise RuntimeError(f"ended with code {code}: {told.strip().splitlines()[-1] if told.strip() else 'no message'}")


def check(job: dict[str, Any], findings: Findings) -> None:
    """Check trainings with `job["weights"]`.

    `job`: `device`, `threads`, `steps` of the first phase, `folder` (from `write_inputs`), `tokens` of a row and of a
    `pack`, `output`, and `before`, the bytes of GPU memory that others use.
    """
    torch.set_num_threads(job["threads"])
    device = choose_device("cpu" if job["device"] == "cpu" else "auto")
    folder, output, weights = Path(job["folder"]), Path(job["output"]), job["weights"]
    steps, count = read_steps(folder / "rows.jsonl"), job["steps"]
    first, second, both = (output / f"{name}.jsonl" for name in ("first", "second", "both"))
    for path, part in ((first, steps[:count]), (second, steps[count:]), (both, steps)):
        write_jsonl(path, write_steps(part))
    given = {
        "base": str(base_of(folder, weights)),
        "contract": str(folder / "contract.json"),
        "valid": str(folder / "valid.jsonl"),
        "rows": str(first),
        "schedule": {"first": count, "second": len(steps) - count},
        "phase": "first",
        "tokens": job["tokens"],
        "train": settings(weights, job["pack"], threads=job["threads"], device="cpu" if device == "cpu" else "auto"),
    }
    name = f"training {weights}"
    with findings.trying(f"{name}, {count} steps"):
        measure({**given, "output": str(output / "plain")}, name, findings, device, job["before"])
    plain = output / "plain"
    if not (plain / "trained").is_dir():
        return
    with findings.trying(f"{name}, checkpointing"):
        less = {**given["train"], "gradient_checkpointing": True}
        measure(
            {**given, "output": str(output / "less"), "train": less},
            f"{name} with checkpointing",
            findings,
            device,
            job["before"],
        )
        same = hashes(output / "less") == hashes(plain)
        text = f"adapter and optimizer state are {'the same bytes' if same else 'NOT the same bytes'} with and without"
        findings.add(f"{name}, checkpointing", same, text)
    with findings.trying(f"{name}, phase to phase"):
        previous = {"previous": str(plain / "trained"), "rows": str(second), "phase": "second"}
        train({**given, **previous, "output": str(output / "second")})
        at_once = {"rows": str(both), "schedule": {"first": len(steps)}}
        train({**given, **at_once, "output": str(output / "both")})
        same = hashes(output / "second") == hashes(output / "both")
        text = f"{count} and {len(steps) - count} steps in two phases and {len(steps)} in one: "
        text += "the same bytes" if same else "NOT the same bytes"
        findings.add(f"{name}, phase to phase", same, text)
    with findings.trying(f"{name}, kill and resume"):
        often = {**given["train"], "checkpoint_steps": 7}
        killed = {**given, "output": str(output / "killed"), "train": often}
        if run_once(killed, "step-000007"):
            findings.add(f"{name}, kill and resume", False, "it was over before it could be killed")
            return
        run_once(killed)
        resumed = read_json(output / "killed" / "summary.json")["resumed_at_step"]
        same = hashes(output / "killed") == hashes(plain)
        text = f"killed, resumed at step {resumed}: " + ("the same bytes" if same else "NOT the same bytes")
        findings.add(f"{name}, kill and resume", same and resumed > 0, text, resumed_at=resumed)


if __name__ == "__main__":
    if sys.argv[1] == "--once":
        once = read_json(sys.argv[2])
        torch.set_num_threads(once["train"]["threads"])
        train(once)
    else:
        run_job(check, sys.argv[1])
