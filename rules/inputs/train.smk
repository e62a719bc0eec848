"""Input functions of training, for ../train.smk. No rules."""

from scripts.train.shaping import shaping

PROCESSES = config["train"]["processes"]  # of each training


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
