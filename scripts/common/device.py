"""The device that torch computes on: one for each job, and a clear error for a GPU that torch cannot use."""

import importlib.util
import logging
import os
from importlib.metadata import version
from typing import Any

import torch

from scripts.common.errors import GradusError
from scripts.common.gpus import ask_driver, hidden_gpus, lost_gpu, take_one_gpu
from scripts.common.machine import cpu_has_bf16

TO_CPU = "To train on the CPU all the same, set train.device: cpu."


def choose_device(wanted: str = "auto") -> str:
    """Return `cuda` or `cpu`, the device to train and to compute checkpoints on; `wanted` is `train.device`.

    With several GPUs, this process sees one of them from then on. Raises GradusError if there is a GPU that torch
    cannot use, if the driver fails, or if the job was given a GPU and there is none: never the CPU in place of a GPU.
    """
    if wanted == "cpu" or hidden_gpus():
        return "cpu"
    _take_one_gpu()
    if torch.cuda.device_count():  # read when CUDA starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the same bits each time
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # packs differ in length
    if not torch.cuda.is_available():
        if gpus := ask_driver()[0]:
            raise GradusError(f"this machine has GPU {gpus[0][0]}: {gpus[0][1]}, but torch cannot use it. {_remedy()}")
        if lost := lost_gpu():
            raise GradusError(f"torch finds no GPU: {lost}. {TO_CPU}")
        return "cpu"
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except RuntimeError as error:
        raise GradusError(
            f"there is a GPU ({torch.cuda.get_device_name()}), but a first addition on it failed: "
            f"{str(error).splitlines()[0]}. {_remedy()}"
        ) from None
    if slow := bf16_warning("cuda"):
        logging.warning("%s", slow)
    return "cuda"


def bf16_warning(device: str) -> str:
    """Return what to tell a user whose GPU or CPU has no instructions for bf16; nothing for others."""
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return ""
        return f"{_gpu_name()} has no bf16 units: training computes in bf16 all the same, slowly"
    if cpu_has_bf16():
        return ""
    return (
        "the system reports no CPU instructions for bf16 (AVX512-BF16, AMX, ARM's BF16): training computes in fp32, "
        "slower and in more memory (docs/training.md)"
    )


def fast_dtype(device: str) -> torch.dtype:
    """Return bf16 where the device multiplies it, else fp32: without such instructions, a CPU takes 3 to 31 times as
    long for bf16 (docs/training.md).
    """
    native = not bf16_warning(device) if device == "cuda" else cpu_has_bf16()
    return torch.bfloat16 if native else torch.float32


def training_dtype(device: str) -> torch.dtype:
    """Return the type that frozen weights and activations have in training: `fast_dtype` on a CPU; bf16 on a GPU, where
    memory is what is short.
    """
    return torch.bfloat16 if device == "cuda" else fast_dtype(device)


def _take_one_gpu() -> None:
    """Leave one GPU visible to this process: Trainer would spread a model over all that it sees. TRL refuses that."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()  # asks the driver's library, and does not start CUDA
    take_one_gpu(given.split(",")[:count] if given else [str(number) for number in range(count)])


def _remedy() -> str:
    built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a build without CUDA"
    return (
        f"torch {torch.__version__} {built}; `nvidia-smi` shows the newest CUDA that the driver runs. Update the "
        f"driver, or install another build of torch (docs/gpu.md). {TO_CPU}"
    )


def _gpu_name() -> str:
    return str(torch.cuda.get_device_name())


def secure_repeatability(device: str) -> None:
    """On a GPU, have every kernel compute the same bits each time. CPUs do so anyway.

    With `warn_only`, torch's attention kernels would stay non-deterministic in the backward pass.
    """
    if device != "cuda":
        return
    os.environ.setdefault("FLASH_ATTENTION_DETERMINISTIC", "1")
    torch.use_deterministic_algorithms(True)
    # it would write into every new tensor, which changes no result
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def describe_kernels(device: str, attention: str) -> dict[str, Any]:
    """Return what computes on a device and can differ between machines with the same lock file."""
    if device != "cuda":
        computed = str(training_dtype(device)).removeprefix("torch.")
        cpu = torch.backends.cpu.get_cpu_capability()
        return {"device": device, "attention": attention, "cpu": cpu, "dtype": computed}
    return {
        "device": _gpu_name(),
        "capability": list(torch.cuda.get_device_capability()),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "attention": attention,
        **{
            name: version(name.replace("_", "-")) if importlib.util.find_spec(name) else None
            for name in ("flash_attn", "liger_kernel")
        },
    }
