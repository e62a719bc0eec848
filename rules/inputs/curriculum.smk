"""Input functions of scoring and phases, for ../curriculum.smk. No rules."""

from scripts.common.records import SPLITS as EVERY_SPLIT

SAMPLE = 500  # rows of a split that scorers of weight 0 look at, at least; more where more are asked


def base_losses(wildcards):
    """The base's losses, if a scorer needs them."""
    needed = any(config["score"]["weights"][name] is not None for name in ("loss", "ifd"))
    return {"losses": f"results/{wildcards.run}/train/base_loss.jsonl"} if needed else {}


def sample_sizes():
    """How many rows of each split scorers of weight 0 look at: all that is asked of it."""
    return {split: max(SAMPLE, config["evaluate"]["max_rows"].get(split, 0)) for split in EVERY_SPLIT}


def curriculum(*keys):
    """The levels, and these keys of every phase."""
    section = config["curriculum"]
    return {
        "levels": section["levels"],
        "phases": [{key: phase[key] for key in keys} for phase in section["phases"]],
    }
