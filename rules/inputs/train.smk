"""Input functions of training, for ../train.smk. No rules."""

import json
from pathlib import Path

from scripts.train.shaping import shaping

PROCESSES = config["train"]["processes"]  # of each training
SLOWNESS = 0.01 if TRAINING_GPU else 0.1  # minutes for each MB of the base times MB of rows; a tenth on a GPU


def training_base(wildcards):
    """The checkpoint that phases train on: the base rounded to NF4, or the original base."""
    rounded = config["train"]["base_weights"] == "nf4" and config["train"]["backend"] == "peft"
    return f"results/{wildcards.run}/base-nf4" if rounded else f"results/{wildcards.run}/base"


def previous_phase(wildcards):
    """The folder of the previous phase; nothing for the first."""
    before = PHASES[: PHASES.index(wildcards.phase)]
    if not before:
        return []
    return f"results/{wildcards.run}/train/{wildcards.arm}/seed{wildcards.seed}/{before[-1]}/trained"


def method(wildcards):
    """The training method of a phase."""
    return config["curriculum"]["phases"][PHASES.index(wildcards.phase)]["method"]


def training_memory(wildcards, input, attempt):
    """The `mem_mb` of a training: as for other work on the base, or what the estimate says, if that is more. Each process
    has the whole model; one more starts them.
    """
    estimate = Path(input.estimate)
    needed = json.loads(estimate.read_text(encoding="utf-8"))["memory_gib"] if estimate.is_file() else 0
    on_cpu = 0 if TRAINING_GPU else int(needed * 1100)
    several = memory(3500 * PROCESSES + 800 * (PROCESSES > 1), 1.5 * PROCESSES, "base")
    return max(several(wildcards, input, attempt), attempt * on_cpu)
