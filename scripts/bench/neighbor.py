"""`python -m scripts.bench.neighbor CONFIG`: what a busy neighbor on one core does to training and to base_loss.

In: the finished run of a config. Out, on the terminal: seconds of each job with several settings of OpenMP's waiting
threads, on an idle machine and beside one busy process, as ratios to the default on the idle machine; and whether all
results have the same bytes. Nothing else may run meanwhile.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.common.hashing import sha256_file
from scripts.common.io import read_json, read_jsonl, write_json, write_jsonl
from scripts.config.check import check_config
from scripts.config.reading import read_config

SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
}
LOADS = {"idle": None, "neighbor, nice 19": 19, "neighbor, nice 0": 0}
ROWS, ROUNDS = 32, 2
LOSSES = """
import sys
from scripts.common.chat import read_contract
from scripts.common.io import write_jsonl
from scripts.common.records import read_records
from scripts.train.base_loss import base_losses
import time, torch
torch.set_num_threads(2)
rows, base, contract, out = sys.argv[1:]
records = list(read_records(rows))
losses = base_losses(records, base, read_contract(contract))
began = time.monotonic()
write_jsonl(out + "/losses.jsonl", losses)
open(out + "/seconds.json", "w").write(str(time.monotonic() - began))
"""


@contextmanager
def busy(nice: int | None) -> Iterator[None]:
    """Keep one core busy at this niceness for the length of the block; None: do nothing."""
    if nice is None:
        yield
        return
    neighbor = subprocess.Popen(
        [sys.executable, "-c", f"import os\nos.nice({nice})\nwhile True: pass"], stdin=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        neighbor.kill()
        neighbor.wait()


def commands(run: Path, train: dict[str, Any], arm: str, output: Path) -> dict[str, tuple[list[str], Path]]:
    """Return {job: (command, the file that must have the same bytes)}."""
    phases = sorted((run / "curriculum" / arm).glob("*.jsonl"), key=lambda path: path.stat().st_size)
    rows = list(itertools.islice(read_jsonl(phases[-1]), ROWS))
    job = {
        "rows": [{key: value for key, value in row.items() if key != "step"} for row in rows],
        "valid": str(run / "curriculum" / "valid.jsonl"),
        "rounded": str(run / "base-nf4"),
        "contract": str(run / "data" / "chat_contract.json"),
        "train": train,
        "batch_size": train["batch_size"],
        "seed": 1,
        "output": str(output),
    }
    write_json(output / "job.json", job)
    write_jsonl(output / "plain.jsonl", job["rows"])
    losses = [str(output / "plain.jsonl"), str(run / "base"), str(run / "data" / "chat_contract.json"), str(output)]
    return {
        "training": (
            [sys.executable, "-m", "scripts.bench.ours", str(output / "job.json")],
            output / "adapter" / "adapter_model.safetensors",
        ),
        "base_loss": ([sys.executable, "-c", LOSSES, *losses], output / "losses.jsonl"),
    }


def main() -> None:
    """Measure, and print a table."""
    if len(sys.argv) != 2:
        sys.exit(f"Gradus: {__doc__}")
    config = check_config(read_config(sys.argv[1]), [sys.argv[1]])
    run = Path("results") / config["run"]
    arm = str(next((run / "curriculum").glob("*/seed*")).relative_to(run / "curriculum"))
    seconds: dict[tuple[str, str, str], list[float]] = {}
    bytes_: dict[str, set[str]] = {}
    for _, (load, nice), (setting, environment) in itertools.product(range(ROUNDS), LOADS.items(), SETTINGS.items()):
        with tempfile.TemporaryDirectory() as scratch:
            for job, (command, result) in commands(run, dict(config["train"]), arm, Path(scratch)).items():
                env = {**os.environ, "OMP_NUM_THREADS": str(config["train"]["threads"]), **environment}
                with busy(nice):
                    began = time.monotonic()
                    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    whole = time.monotonic() - began
                steps = float(read_json(Path(scratch) / "seconds.json"))
                seconds.setdefault((job, load, setting), []).append(steps)
                bytes_.setdefault(job, set()).add(sha256_file(result))
                print(json.dumps({"job": job, "load": load, "setting": setting, "s": steps, "all": whole}), flush=True)
    for job in bytes_:
        idle = statistics.mean(seconds[job, "idle", "default"])
        same = "the same bytes everywhere" if len(bytes_[job]) == 1 else f"{len(bytes_[job])} DIFFERENT results"
        print(f"\n{job}: {idle:.1f} s by default on the idle machine, {ROUNDS} rounds; {same}\n")
        print(f"| seconds, relative | {' | '.join(LOADS)} |\n|---|{'--:|' * len(LOADS)}")
        for setting in SETTINGS:
            cells = (f"{statistics.mean(seconds[job, load, setting]) / idle:.2f}" for load in LOADS)
            print(f"| {setting} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
