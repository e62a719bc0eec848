"""Input functions of training, for ../train.smk. No rules."""

import json
from pathlib import Path

from scripts.train.methods import code_of
from scripts.train.shaping import shaping

PROCESSES = config["train"]["processes"]  # of each training
SLOWNESS = 0.01 if TRAINING_GPU else 0.1  # minutes for each MB of the base times MB of rows; a tenth on a GPU


def training_base(wildcards):
    """The checkpoint that phases train on: the base rounded to NF4, or the original base."""
    rounded = config["train"]["base_weights"] == "nf4" and config["train"]["backend"] == "peft"
    return f"results/{wildcards.run}/base-nf4" if rounded else f"results/{wildcards.run}/base"


def previous_phase(wildcards):
    """The folder of the phase that a phase goes on from; nothing for the first."""
    if preference := PREFERENCE.get(wildcards.phase):
        before = [preference.after]
    else:
        before = PHASES[: PHASES.index(wildcards.phase)]
    if not before:
        return []
    return f"results/{wildcards.run}/train/{wildcards.arm}/seed{wildcards.seed}/{before[-1]}/trained"


def phase_files(wildcards):
    """The rows of a phase in steps, or its pairs, and the schedule; with pairs, what their reference was, and how the phase
    went that they go on from.
    """
    of_arm = f"{wildcards.arm}/seed{wildcards.seed}"
    if preference := PREFERENCE.get(wildcards.phase):
        folder = f"results/{wildcards.run}/preference/{of_arm}"
        return {
            "rows": f"{folder}/{wildcards.phase}/steps.jsonl",
            "schedule": f"{folder}/{wildcards.phase}/schedule.json",
            "reference": f"{folder}/{preference.after}/reference.json",
            "before": f"results/{wildcards.run}/train/{of_arm}/{preference.after}/summary.json",
        }
    folder = f"results/{wildcards.run}/curriculum/{of_arm}"
    return {"rows": f"{folder}/{wildcards.phase}.jsonl", "schedule": f"{folder}/schedule.json"}


def train_settings(wildcards):
    """The training settings of a phase. One of preference tuning has its own rate and schedule, and no noise."""
    preference = PREFERENCE.get(wildcards.phase)
    own = (
        {
            "learning_rate": preference.learning_rate,
            "schedule_spans": "phase",
            "neftune_alpha": None,
            "patience": None,
        }
        if preference
        else {}
    )
    return {**shaping(config["train"]), **own}


def scheduled(wildcards):
    """The phases that share a phase's schedule, in order."""
    return [wildcards.phase] if wildcards.phase in PREFERENCE else PHASES


def method(wildcards):
    """The training method of a phase."""
    return next(
        phase["method"] for phase in config["curriculum"]["phases"] if phase["name"] == wildcards.phase
    )


def max_growth(wildcards):
    """How many times as high the held-out loss may be after a phase of preference tuning; None for any."""
    preference = PREFERENCE.get(wildcards.phase)
    return preference.max_growth if preference else None


def method_options(wildcards):
    """The settings of the method of preference tuning."""
    preference = PREFERENCE.get(wildcards.phase)
    return {"beta": preference.beta} if preference else {}


def training_memory(wildcards, input, attempt):
    """The `mem_mb` of a training: as for other work on the base, or what the estimate says, if that is more. Each process
    has the whole model; one more starts them.
    """
    estimate = Path(input.estimate)
    needed = json.loads(estimate.read_text(encoding="utf-8"))["memory_gib"] if estimate.is_file() else 0
    on_cpu = 0 if TRAINING_GPU else int(needed * 1100)
    several = memory(3500 * PROCESSES + 800 * (PROCESSES > 1), 1.5 * PROCESSES, "base")
    return max(several(wildcards, input, attempt), attempt * on_cpu)
