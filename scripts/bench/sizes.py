"""`python -m scripts.bench.sizes`: measure minutes and peak memory of each stage at the sizes that people fine-tune.

A checkpoint of random weights with the true shape of each of `--shapes` is made, goes through the stages
(scripts/bench/size_stages.py), and is deleted on the way. Out: `--output`, {shape: {machine, stages, …}}, where shapes
measured earlier stay, and a Markdown table; logs are beside it. All is computed on the CPU. A stage that fails or takes
too long becomes a line that says so, and those that do not need its files go on.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from scripts.bench.size_stages import STAGES, Stage
from scripts.common.errors import GradusError, first_line
from scripts.common.hashing import ROOT
from scripts.common.io import read_json, write_json

GIB = 2**30
TELLS = Path("/proc/self/smaps_rollup")  # on Linux
LIMIT = 4.0  # GiB that a stage may take, but for those that hold a model by their nature
HOLD = ("train_phase", "answer")
DISK = 5.5  # checkpoints' sizes that must be free; the estimate asks for 5
SHAPES = ("qwen2.5-1.5b", "llama-3.2-3b")


def memory_of(process: psutil.Process) -> tuple[int, int]:
    """Return a process's (own bytes, resident bytes).

    Own: what the system cannot drop and read again, so without pages of mapped files, and with pages that processes
    share divided among them. Where the system does not tell them apart, both are what is resident. Raises
    psutil.NoSuchProcess, ProcessLookupError or FileNotFoundError if the process has ended.
    """
    resident = process.memory_info().rss
    if not TELLS.exists():
        return resident, resident
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    sizes = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    if "Pss_Anon" not in sizes:  # Linux before 5.4
        return resident, resident
    return sizes["Pss_Anon"] + sizes["Pss_Shmem"], resident


def family_of(child: psutil.Process) -> list[psutil.Process]:
    """Return a process and those that it started."""
    try:
        return [child, *child.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def watch(command: Sequence[str], log: Path, minutes: float) -> dict[str, Any]:
    """Run a command; return its minutes and its peak memory in GiB, own and resident (see `memory_of`).

    Memory is that of the process and its children together, sampled ten times per second, or less often if looking
    takes long. Resident memory is what Snakemake's benchmarks call max_rss. `failed` in the result: how it ended, if
    not well.
    """
    own = resident = 0
    failed = ""
    began = time.monotonic()
    with open(log, "w", encoding="utf-8") as handle:
        options = {"stdout": handle, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, "cwd": ROOT}
        # in a session of its own, so that its children can be ended if it is gone
        child = psutil.Popen(command, start_new_session=True, **options)
        try:
            while child.poll() is None:
                looked, found = time.monotonic(), []
                for process in family_of(child):
                    try:
                        found.append(memory_of(process))
                    except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):  # it has just ended
                        continue
                own = max(own, sum(sizes[0] for sizes in found))
                resident = max(resident, sum(sizes[1] for sizes in found))
                if looked - began > 60 * minutes:
                    failed = f"stopped after {minutes:g} minutes"
                    break
                time.sleep(max(0.1, 10 * (time.monotonic() - looked)))
        finally:  # also if the user stops it
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
    if code and not failed:
        failed = f"killed by signal {-code}" + (" (memory ran out?)" if code == -9 else "") if code < 0 else "failed"
    figures = {
        "minutes": round((time.monotonic() - began) / 60, 2),
        "peak_gib": round(own / GIB, 2),
        "resident_gib": round(resident / GIB, 2),
    }
    return {**figures, "failed": failed} if failed else figures


def run_stage(stage: Stage, folder: Path, logs: Path, settings: Mapping[str, Any], minutes: float) -> dict[str, Any]:
    """Run a stage in a process of its own; return what was measured and found, or why it was not run."""
    if stage.name == "train_phase" and not settings["steps"]:
        return {"left_out": "no steps wanted"}
    if missing := [name for name in stage.needs if not (folder / name).exists()]:
        return {"left_out": f"without {' and '.join(missing)}"}
    logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "scripts.bench.sizes", "--stage", stage.name, str(folder)]
    measured = watch(command, logs / f"{stage.name}.log", minutes)
    facts = folder / f"{stage.name}.json"
    found = read_json(facts) if facts.is_file() else {}
    return {**measured, **found}


def run_shape(
    shape: str, folder: Path, logs: Path, settings: Mapping[str, Any], minutes: float, keep: Any
) -> dict[str, Any]:
    """Take a shape through all stages in `folder`, which is deleted; `keep` is called with what is known so far."""
    stages: dict[str, Any] = {}
    facts = {"machine": machine(), **settings, "stages": stages}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / "settings.json", {"shape": shape, **settings})
    try:
        for stage in STAGES:
            if stage.name == "stand_in" and (folder / "trained").exists():
                continue
            print(f"{shape}: {stage.name} …", end=" ", flush=True)
            stages[stage.name] = run_stage(stage, folder, logs, settings, minutes)
            print(", ".join(f"{name} {value}" for name, value in stages[stage.name].items()), flush=True)
            for name in stage.spent:
                shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
            keep(facts)
    finally:
        shutil.rmtree(folder)
    return facts


def machine() -> dict[str, Any]:
    """Return the machine's processor, cores and memory."""
    from scripts.common.machine import describe_cpu, memory_mb

    return {"cpu": describe_cpu()["name"], "cores": os.cpu_count(), "memory_gib": round(memory_mb() * 1e6 / GIB, 1)}


def require_disk(shape: str, folder: Path) -> str:
    """Return why a shape does not fit on the disk, or nothing."""
    import torch
    from transformers import AutoModelForCausalLM

    from scripts.gpu_check.shapes import config_of

    with torch.device("meta"):
        size = 2 * AutoModelForCausalLM.from_config(config_of(shape)).num_parameters()
    free = shutil.disk_usage(next(place for place in [folder, *folder.parents] if place.is_dir())).free
    if free >= DISK * size:
        return ""
    return f"it needs {DISK * size / 1e9:.0f} GB of free disk space, and {free / 1e9:.0f} GB are free"


def too_large(measured: Mapping[str, Any]) -> list[str]:
    """Return the stages that took more memory than LIMIT, but for those in HOLD."""
    return [
        f"{name} ({shape}): {found['peak_gib']:.1f} GiB"
        for shape, facts in measured.items()
        for name, found in facts.get("stages", {}).items()
        if name not in HOLD and found.get("peak_gib", 0) > LIMIT
    ]


def table(measured: Mapping[str, Any]) -> list[str]:
    """Return the Markdown table, what was not done, and which stages took too much memory."""
    shapes = {shape: facts["stages"] for shape, facts in measured.items() if "stages" in facts}
    lines = ["| stage | " + " | ".join(f"{shape}: minutes | GiB | with files" for shape in shapes) + " |"]
    lines.append("|---|" + "--:|--:|--:|" * len(shapes))
    rest = [
        f"- {shape}: left out, because {facts['left_out']}" for shape, facts in measured.items() if "left_out" in facts
    ]
    for name in (stage.name for stage in STAGES):
        cells = []
        for shape, stages in shapes.items():
            found = stages.get(name, {})
            numbers = [found.get(key) for key in ("minutes", "peak_gib", "resident_gib")]
            cells += [f"{number:.1f}" if number is not None and "failed" not in found else "–" for number in numbers]
            if reason := found.get("failed") or found.get("left_out"):
                rest.append(f"- {shape}, {name}: {reason}")
        if any(name in stages for stages in shapes.values()):
            lines.append(f"| {name} | {' | '.join(cells)} |")
    over = too_large(measured)
    done = f"No stage took more than {LIMIT:g} GiB of its own ({' and '.join(HOLD)} are not judged)."
    return [*lines, "", *rest, f"More than {LIMIT:g} GiB: {'; '.join(over)}" if over else done]


def run_one(name: str, folder: Path) -> None:
    """Run one stage in this process, and write what it found, or why it failed, to `<name>.json`."""
    (stage,) = (stage for stage in STAGES if stage.name == name)
    try:
        found = stage.run(folder=folder, **read_json(folder / "settings.json"))
    except Exception as error:
        traceback.print_exc()
        text = first_line(error) if isinstance(error, GradusError) else f"{type(error).__name__}: {first_line(error)}"
        write_json(folder / f"{name}.json", {"failed": text})
        sys.exit(1)
    write_json(folder / f"{name}.json", found or {})


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and return the exit code: 1 if a stage failed or took too much memory."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.sizes", description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="names in scripts/gpu_check/shapes.py")
    parser.add_argument("--steps", type=int, default=2, help="of training; 0 leaves it out")
    parser.add_argument("--tokens", type=int, default=1024, help="on which predictions are compared")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=30, help="the longest that a stage may take")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "sizes.json")
    parser.add_argument("--stage", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.stage:
        run_one(given.stage[0], Path(given.stage[1]))
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # so that the checkpoints are deleted
    from scripts.gpu_check.shapes import SHAPES as KNOWN

    if unknown := [shape for shape in given.shapes if shape not in KNOWN]:
        parser.error(f"no shape {unknown[0]!r}; there are {', '.join(KNOWN)}")
    output = given.output.resolve()
    measured = dict(read_json(output)) if output.is_file() else {}
    settings = {name: getattr(given, name) for name in ("steps", "tokens", "threads")}

    def keep(shape: str, facts: Mapping[str, Any]) -> None:
        measured[shape] = facts
        write_json(output, measured)

    for shape in given.shapes:
        folder, logs = ROOT / ".work" / "sizes" / shape, output.with_suffix("") / shape
        if reason := require_disk(shape, folder):
            keep(shape, {"left_out": reason})
        else:
            run_shape(shape, folder, logs, settings, given.minutes, lambda facts, shape=shape: keep(shape, facts))
    now = {shape: measured[shape] for shape in given.shapes}
    print("\n".join(table(now)))
    failed = [found for facts in now.values() for found in facts.get("stages", {}).values() if "failed" in found]
    return int(bool(failed or too_large(now)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
