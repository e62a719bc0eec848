"""`python -m scripts.gpu_check`: does Gradus train and answer right on this machine's GPU? (`make gpu-check`)

Takes about ten minutes, downloads nothing, and needs no run: a small model with random weights is made on the spot.
Every line passes, fails, tells, or says why it was not tested. What fails does not stop the rest; what lasts longer
than the minutes that are left is ended. Out: results/gpu-check.json, and exit code 1 if a line failed.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.common.io import write_json
from scripts.gpu_check.findings import FAILED, LEFT_OUT, PASSED, Finding, Findings

WIDTH = 50  # of the names
# what a check cannot do without
NEEDS = {
    "machine": (),
    "shapes": ("transformers", "peft"),
    "gradients": ("transformers", "peft"),
    "checkpoints": ("transformers", "peft", "gguf"),
    "training": ("transformers", "peft", "trl", "datasets"),
    "speed": ("transformers", "peft", "trl", "datasets", "bitsandbytes"),
    "sizes": ("transformers", "peft", "trl", "datasets", "bitsandbytes"),
    "answers": ("llama-cpp-python", "gguf"),
}
CHECKS = ("gradients", "checkpoints", "answers", "speed", "training")
TOKENS = 128  # of a row
STEPS, MORE = 20, 5  # of the first phase and of the second


class Check:
    """The whole check: jobs in processes of their own, their findings, and the time that is left."""

    def __init__(self, scratch: Path, device: str, minutes: float, output: Path) -> None:
        """`output`: where to write the findings; beside it, in a log, what the processes print."""
        self.scratch, self.device, self.output = scratch, device, output
        self.log = output.with_suffix(".log")
        self.log.write_text("", encoding="utf-8")
        self.ends = time.monotonic() + 60 * minutes
        self.findings: list[Finding] = []
        self.have: set[str] = set()

    def show(self, finding: Finding) -> None:
        """Keep, write and print a finding."""
        self.findings.append(finding)
        self.counts = {s: sum(f.status == s for f in self.findings) for s in (PASSED, FAILED, LEFT_OUT)}
        write_json(self.output, {"findings": [asdict(f) for f in self.findings], "counts": self.counts})
        print(f"{finding.status:<10} {finding.name:<{WIDTH}} {finding.text}", flush=True)

    def run(self, check: str, name: str, **job: Any) -> None:
        """Run a check in a process, and show what it finds as soon as it finds it."""
        missing = [package for package in NEEDS[check] if package not in self.have]
        if missing:
            self.show(Finding(name, LEFT_OUT, f"{', '.join(missing)} not installed"))
            return
        if time.monotonic() >= self.ends:
            self.show(Finding(name, LEFT_OUT, "no time left (--minutes gives more)"))
            return
        place = self.scratch / name.replace(" ", "-").replace(",", "")
        place.mkdir(parents=True)
        found = Findings(place / "findings.jsonl")
        given = {"device": self.device, "output": str(place), "findings": str(found.path), **job}
        write_json(place / "job.json", given)
        command = [sys.executable, "-m", f"scripts.gpu_check.{check}", str(place / "job.json")]
        shown, over = 0, False
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"\n== {name}\n")
            log.flush()
            # in a session of its own, so that it is ended with the processes that it started
            child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
            try:
                while True:
                    ended = child.poll() is not None
                    for finding in found.read()[shown:]:
                        self.show(finding)
                        shown += 1
                    if ended or (over := time.monotonic() >= self.ends):
                        break
                    time.sleep(0.1)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        if over:
            self.show(Finding(name, LEFT_OUT, "not ended in time (--minutes gives more)"))
        elif child.returncode:
            told = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
            self.show(Finding(name, FAILED, f"ended with code {child.returncode}: {told[:300]}"))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.gpu_check", description="Check training and answering on this machine's GPU."
    )
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto", help="cpu: try the check itself")
    parser.add_argument("--shape", default="smollm2-135m", help="of the small model; tiny is for tests")
    parser.add_argument("--weights", nargs="*", default=["nf4", "nf4-packed", "bf16"], help="kinds of base weights")
    parser.add_argument("--only", nargs="*", default=CHECKS, choices=CHECKS, help="only these checks")
    parser.add_argument("--sizes", nargs="*", default=[], help="also shapes of real models, such as llama-3.2-3b")
    parser.add_argument("--minutes", type=float, default=10, help="when to end")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("results/gpu-check.json"))
    return parser.parse_args(arguments)


def used_memory(device: str) -> int:
    """Return the bytes of GPU memory that others use before the check."""
    from scripts.gpu_check.machine import nvidia_smi

    used = nvidia_smi("memory.used") if device != "cpu" else []
    return int(used[0]) * 2**20 if used and used[0].isdigit() else 0


def main(arguments: list[str]) -> int:
    """Run all checks; return the exit code."""
    options = parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):  # what runs is ended, and what was written is deleted
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gpu-check.", dir=options.output.parent) as folder:
        check = Check(Path(folder), options.device, options.minutes, options.output)
        before = used_memory(options.device)
        check.run("machine", "machine")
        told = [f.figures["installed"] for f in check.findings if f.name in ("packages", "kernels")]
        check.have = {name for installed in told for name, found in installed.items() if found}
        if options.device != "cpu" and not any(f.name == "GPU" and f.status == PASSED for f in check.findings):
            print("\nno GPU that torch can use: see above. --device cpu tries the check itself")
        else:
            run_all(check, options, before)
    counted = f"{check.counts[PASSED]} passed, {check.counts[FAILED]} failed, {check.counts[LEFT_OUT]} not tested"
    print(f"\n{counted}: {check.output}, {check.log}")
    return 1 if check.counts[FAILED] else 0


def run_all(check: Check, options: argparse.Namespace, before: int) -> None:
    """Make the small model, and run the checks that were asked for."""
    small = check.scratch / "small"
    batch = 16 if options.shape != "tiny" else 4
    common = {"threads": options.threads, "folder": str(small), "tokens": TOKENS, "pack": batch * TOKENS}
    common |= {"before": before}
    if {"gradients", "checkpoints", "speed", "training"} & set(options.only):
        check.run("shapes", "small model", shape=options.shape, steps=STEPS + MORE, **common)
    made = (small / "base").is_dir()
    if "gradients" in options.only and made:
        check.run("gradients", "gradients", base=str(small / "base"), packages=sorted(check.have), **common)
    if "checkpoints" in options.only and made:
        check.run("checkpoints", "checkpoints", base=str(small / "base"), **common)
    if "answers" in options.only:
        check.run("answers", "answers", small=options.shape == "tiny", **common)
    if "speed" in options.only and made:
        check.run("speed", "speed", unsloth="unsloth" in check.have, **common)
    if "training" in options.only and made:
        for weights in options.weights:
            if weights != "bf16" and "bitsandbytes" not in check.have:
                check.show(Finding(f"training {weights}", LEFT_OUT, "bitsandbytes not installed"))
            else:
                check.run("training", f"training {weights}", weights=weights, steps=STEPS, **common)
    for shape in options.sizes:
        check.run("sizes", f"sizes {shape}", shape=shape, steps=8, **{**common, "pack": 2048})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
