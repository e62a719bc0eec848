"""The properties of a machine and its software that determine the exact bits of a result."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.common.hashing import sha256_file
from scripts.common.packages import LOCK, differing_from_lock, installed_packages

ON_CLUSTER = "GRADUS_CLUSTER"  # in the environment of jobs whose memory a cluster gives out
# environment variables that influence which kernels libraries choose
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
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # in /proc/cpuinfo; the last is ARM's
# values of ONEDNN_MAX_CPU_ISA
WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}


def describe_cpu() -> dict[str, Any]:
    """Return vendor, family, model, name and instruction sets, as far as the system reports them."""
    info: dict[str, str] = {}
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():
        for line in cpuinfo.read_text(encoding="utf-8").split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            info[key.strip()] = value.strip()
    flags = sorted((info.get("flags") or info.get("Features") or "").split())
    return {
        "architecture": platform.machine(),
        "vendor": info.get("vendor_id", platform.processor()),
        "family": info.get("cpu family", ""),
        "model": info.get("model", ""),
        "name": info.get("model name", ""),
        "flags": flags,
    }


def cpu_has_bf16() -> bool:
    """Return whether the CPU has instructions that multiply bf16: Linux reports them, and oneDNN may use them."""
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return allowed not in WITHOUT_BF16 and not BF16_FLAGS.isdisjoint(describe_cpu()["flags"])


def describe_device() -> str:
    """Return the training device: `cpu`, or the name of the GPU."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"


def memory_mb() -> int:
    """Return the memory of this machine, or of the container that limits it, in MB."""
    import psutil

    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text(encoding="utf-8").strip() if limit.is_file() else "max"
    return min([psutil.virtual_memory().total] + ([int(allowed)] if allowed != "max" else [])) // 10**6


def fingerprint(threads: Mapping[str, int], llama_cpp: str) -> dict[str, Any]:
    """Return what must be equal for two runs to be compared bit by bit.

    `threads`: the config's thread counts that affect results; `llama_cpp`: how llama.cpp was built. Not included: the
    number of cores, which Snakemake distributes, and Python's patch release.
    """
    cpu = describe_cpu()
    # only vector and matrix instructions affect the choice of kernels; other flags vary with the kernel's mitigations
    vector = ("sse", "ssse", "avx", "amx", "fma", "f16c", "vnni", "bf16", "asimd", "sve", "bmi")
    return {
        "lock": sha256_file(LOCK),
        "not_as_locked": differing_from_lock(installed_packages()),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "system": f"{platform.system()} {' '.join(platform.libc_ver())}".strip(),
        "cpu": {key: cpu[key] for key in ("architecture", "vendor", "family", "model")},
        "instruction_set": [flag for flag in cpu["flags"] if flag.startswith(vector)],
        "dispatch": {
            name: value
            for name, value in sorted(os.environ.items())
            # where a library keeps its cache shapes no result, and torch sets that variable itself
            if name.startswith(DISPATCH) and not name.endswith("_CACHE_DIR")
        },
        "threads": dict(threads),
        "device": describe_device(),
        "llama_cpp": llama_cpp,
    }
