"""Input functions of scoring and phases, for ../curriculum.smk. No rules."""

from scripts.common.records import SPLITS as EVERY_SPLIT

SAMPLE = 500  # minimum rows of a split for scorers of weight 0; more if evaluate.max_rows is larger


# scorers that need another rule's output: the name of the input of rule score, and the file
LOOKED_UP = {
    "loss": ("losses", "train/base_loss.jsonl"),
    "ifd": ("losses", "train/base_loss.jsonl"),
}


def looked_up(wildcards):
    """The files that the scorers in use need."""
    files = [
        LOOKED_UP[name]
        for name, weight in config["score"]["weights"].items()
        if weight is not None and name in LOOKED_UP
    ]
    return {name: f"results/{wildcards.run}/{file}" for name, file in files}


def sample_sizes():
    """The number of rows of each split for scorers of weight 0: at least those that are evaluated."""
    return {split: max(SAMPLE, config["evaluate"]["max_rows"].get(split, 0)) for split in EVERY_SPLIT}


def heeded(wildcards):
    """The note that the advice is to go on, if the config has the run stop otherwise."""
    return {"heeded": f"results/{wildcards.run}/advice.passed"} if config["advise"]["stop"] else {}


def checked_pairs(wildcards):
    """The note that the pairs of the user's own can be used, if there is preference tuning."""
    return {"checked": f"results/{wildcards.run}/preference/checked.json"} if PREFERENCE else {}


def curriculum(*keys):
    """The levels, and the given keys of every supervised phase."""
    section = config["curriculum"]
    return {
        "levels": section["levels"],
        "phases": [
            {key: phase[key] for key in keys} for phase in section["phases"] if not is_preference(phase)
        ],
    }
