"""`python -m scripts.bench.dtypes results/<run>`: training steps in bf16 and in fp32, on CPUs with fewer instructions.

In: a finished run's rounded base, rows and chat contract. Out: a table. Each way runs in a process of its own, in which
oneDNN, MKL and torch are told to leave out what older CPUs lack. After two steps to warm up, at most `--steps` steps of
eight rows are timed, and no new one begins after two minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

# what a library may use, by CPU: oneDNN, MKL, torch's own kernels
CPUS = {
    "this CPU": {},
    "AVX512 without BF16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
BATCH, WARM_UP, MOST_S = 8, 2, 120.0


def time_steps(run: Path, name: str, steps: int, threads: int) -> dict[str, float]:
    """Train on the first rows in the type `name`; return tokens per second, steps, peak memory and the last loss."""
    import resource

    import torch
    from transformers import AutoTokenizer

    from scripts.bench.levers import BUDGET, packed, take_step
    from scripts.common.chat import read_contract
    from scripts.common.records import read_records
    from scripts.config.schema import default
    from scripts.train import model as module
    from scripts.train.sft import make_dataset

    dtype: torch.dtype = getattr(torch, name)
    module.training_dtype = lambda device: dtype
    torch.set_num_threads(threads)
    base = next(folder for folder in (run / "base-nf4", run / "base") if folder.is_dir())
    contract = read_contract(run / "data" / "chat_contract.json")
    records = list(islice(read_records(run / "curriculum" / "train.jsonl"), (steps + WARM_UP) * BATCH))
    rows = list(make_dataset(records, AutoTokenizer.from_pretrained(base), contract, 4096))
    model = module.attach_adapter(
        module.load_base(base, "cpu", "rows", False), module.LoraParams(**default("train.lora")), None, 1
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, compute = torch.optim.AdamW(trained, lr=2e-4), packed(BUDGET)
    done, tokens, began, loss = 0, 0, time.monotonic(), 0.0
    for number, start in enumerate(range(0, len(rows), BATCH)):
        if number == WARM_UP:
            done, tokens, began = 0, 0, time.monotonic()
        if number > WARM_UP and time.monotonic() - began > MOST_S:
            break
        step = rows[start : start + BATCH]
        loss = take_step(model, compute, step, trained, optimizer)
        done, tokens = done + 1, tokens + sum(len(row["input_ids"]) for row in step)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"tokens_per_s": tokens / (time.monotonic() - began), "steps": done, "gib": peak, "loss": loss}


def main() -> None:
    """Run all ways, one after another, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.dtypes", description="Time training by CPU and type."
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="one type, in this process; prints JSON")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(time_steps(given.run, given.only, given.steps, given.threads)))
        return
    print(
        "| instructions | type | tokens/s | steps | peak memory (GiB) | last loss |\n|---|---|--:|--:|--:|--:|",
        flush=True,
    )
    for cpu, environment in CPUS.items():
        for name in ("bfloat16", "float32"):
            command = [sys.executable, "-m", "scripts.bench.dtypes", str(given.run), "--only", name]
            command += ["--steps", str(given.steps), "--threads", str(given.threads)]
            done = subprocess.run(
                command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            figures = f"{found['tokens_per_s']:,.0f} | {found['steps']} | {found['gib']:.2f} | {found['loss']:.3f}"
            print(f"| {cpu} | {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
