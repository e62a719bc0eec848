"""The speed that estimates of a first run start from. Nothing that trains imports it: an edit must not retrain."""

from scripts.common.gpus import visible_gpus
from scripts.common.machine import cpu_has_bf16

TRAINED_PER_S = 600  # tokens, of a base of 135M parameters on two cores with AVX512-BF16, without AMX
FP32_SPEED = 0.6  # of that, in fp32 with AVX2 alone (docs/training.md, "On other CPUs")


def trains_in_bf16() -> bool:
    """Return whether training on this machine would be in bf16: on a GPU it is, whatever the CPU."""
    return cpu_has_bf16() or bool(visible_gpus())


def trained_per_s() -> float:
    """Return the training tokens per second of a base of 135M parameters, expected on two cores of this CPU's kind."""
    return TRAINED_PER_S if trains_in_bf16() else TRAINED_PER_S * FP32_SPEED
