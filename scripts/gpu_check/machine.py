"""What is there: GPU, driver, CUDA, kernels, and packages that differ from the lock file.

`python -m scripts.gpu_check.machine JOB.json`
"""

import os
import subprocess
import sys
from typing import Any

from scripts.common.gpus import gpu_backends
from scripts.common.packages import differing_from_lock, installed_packages, installed_version, read_lock
from scripts.gpu_check.findings import Findings, run_job

# without these, parts of the check are left out
WANTED = ("torch", "transformers", "peft", "trl", "datasets", "bitsandbytes", "accelerate", "gguf", "llama-cpp-python")
KERNELS = ("flash-attn", "liger-kernel", "unsloth")


def nvidia_smi(*fields: str) -> list[str]:
    """Return what nvidia-smi says of the first GPU, or nothing if it says nothing."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    command.append(f"--id={(os.environ.get('CUDA_VISIBLE_DEVICES') or '0').split(',')[0]}")
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [value.strip() for value in told.strip().split(",")]


def check(job: dict[str, Any], findings: Findings) -> None:
    """Tell what the machine has. `job`: `device`."""
    have = {name: installed_version(name) for name in WANTED}
    pinned = read_lock()[0]
    other = {name: found for name, found in differing_from_lock(installed_packages()).items() if name in WANTED}
    missing = [name for name, found in have.items() if not found]
    text = ", ".join(f"{name} {found}" for name, found in have.items() if found)
    if other:
        text += "; the lock has " + ", ".join(f"{name} {pinned[name]}" for name in other)
    if missing:
        text += f"; not installed: {', '.join(missing)}"
    findings.add("packages", None, text, installed=have, other_than_locked=other)
    kernels = {name: found for name in KERNELS if (found := installed_version(name))}
    text = ", ".join(f"{name} {found}" for name, found in kernels.items()) or f"none of {', '.join(KERNELS)}"
    findings.add("kernels", None, text, installed=kernels)
    with findings.trying("llama.cpp"):
        if have["llama-cpp-python"]:
            backends = sorted(gpu_backends())
            told = f"built for {', '.join(backends)}" if backends else "built for CPUs only (`make CUDA=1` adds GPUs)"
            findings.add("llama.cpp", None, told, backends=backends)
    if job["device"] == "cpu":
        findings.add("GPU", None, "none: the CPU takes its place")
        return
    with findings.trying("GPU"):
        import torch

        from scripts.common.device import choose_device

        if choose_device() != "cuda":
            findings.add("GPU", False, f"torch {torch.__version__} finds none, and there is no nvidia-smi")
            return
        facts = torch.cuda.get_device_properties(0)
        driver = (nvidia_smi("driver_version") or ["unknown"])[0]
        capability = f"{facts.major}.{facts.minor}"
        findings.add(
            "GPU",
            True,
            f"{facts.name}, {facts.total_memory / 2**30:.1f} GiB, compute capability {capability}, driver {driver}, "
            f"torch for CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
            name=facts.name,
            memory=facts.total_memory,
            capability=capability,
            driver=driver,
            cuda=torch.version.cuda,
        )
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        findings.add("bf16", native or None, "computed by the card" if native else "emulated: training is slow")


if __name__ == "__main__":
    run_job(check, sys.argv[1])
