"""Input functions of scoring and phases, for ../curriculum.smk. No rules."""

from scripts.common.records import SPLITS as EVERY_SPLIT

SAMPLE = 500  # rows of a split that scorers of weight 0 look at, at least; more where more are asked


# scorers that look something up: the name of the input of rule score, and the file that another rule makes
LOOKED_UP = {
    "loss": ("losses", "train/base_loss.jsonl"),
    "ifd": ("losses", "train/base_loss.jsonl"),
}


def looked_up(wildcards):
    """The files that the scorers in use look something up in."""
    files = [
        LOOKED_UP[name]
        for name, weight in config["score"]["weights"].items()
        if weight is not None and name in LOOKED_UP
    ]
    return {name: f"results/{wildcards.run}/{file}" for name, file in files}


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
