"""What of a machine and its software shapes the bits of a result."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.common.hashing import sha256_file
from scripts.common.packages import LOCK, differing_from_lock, installed_packages

# variables by which libraries choose their kernels
DISPATCH = (
    "ONEDNN_",
    "DNNL_",
    "ATEN_CPU_",
    "MKL_",
    "OPENBLAS_",
    "OMP_",
    "NPY_",
    "GGML_",
    "TORCH",
    "CUBLAS_",
    "NVIDIA_TF32",
)


def describe_cpu() -> dict[str, Any]:
    """Return vendor, family, model, name and instruction sets, as far as the system tells."""
    found: dict[str, str] = {}
    if (told := Path("/proc/cpuinfo")).is_file():
        for line in told.read_text(encoding="utf-8").split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            found[key.strip()] = value.strip()
    flags = sorted((found.get("flags") or found.get("Features") or "").split())
    return {
        "architecture": platform.machine(),
        "vendor": found.get("vendor_id", platform.processor()),
        "family": found.get("cpu family", ""),
        "model": found.get("model", ""),
        "name": found.get("model name", ""),
        "flags": flags,
    }


def describe_device() -> str:
    """Return the name of what trains: cpu, or the GPU."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"


def fingerprint(threads: Mapping[str, int], llama_cpp: str) -> dict[str, Any]:
    """Return what must be equal for two runs to be compared bit by bit.

    `threads`: those that shape results, from the config; `llama_cpp`: how that was built. Not in it: the number of
    cores, which Snakemake shares out, and Python's patch release.
    """
    cpu = describe_cpu()
    # of the flags only vector and matrix instructions choose kernels; others come and go with the kernel's mitigations
    vector = ("sse", "ssse", "avx", "amx", "fma", "f16c", "vnni", "bf16", "asimd", "sve", "bmi")
    return {
        "lock": sha256_file(LOCK),
        "not_as_locked": differing_from_lock(installed_packages()),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "system": f"{platform.system()} {' '.join(platform.libc_ver())}".strip(),
        "cpu": {key: cpu[key] for key in ("architecture", "vendor", "family", "model")},
        "instruction_set": [flag for flag in cpu["flags"] if flag.startswith(vector)],
        "dispatch": {name: value for name, value in sorted(os.environ.items()) if name.startswith(DISPATCH)},
        "threads": dict(threads),
        "device": describe_device(),
        "llama_cpp": llama_cpp,
    }
