"""Input functions of experiments, for ../experiment.smk. No rules."""

from scripts.train.shaping import shaping

HELD_OUT = EXPERIMENT["splits"] if EXPERIMENT else []


def of_trainings(name, trainings=None):
    """The files of one name of all trainings of the experiment, or of those given."""
    chosen = EXPERIMENT_TRAININGS if trainings is None else trainings
    return [f"results/{{run}}/experiment/{training.folder}/{name}" for training in chosen]


def shared_files():
    """What all trainings of an experiment share: the plan has the sha256 of each."""
    return {
        "train": "results/{run}/curriculum/train.jsonl",
        "valid": "results/{run}/curriculum/valid.jsonl",
        "scores": "results/{run}/curriculum/scores.jsonl",
        "contract": "results/{run}/data/chat_contract.json",
        **{split: f"results/{{run}}/curriculum/{split}.jsonl" for split in HELD_OUT},
    }


def experiment_base():
    """The checkpoint that an experiment trains on, as in rule train_phase."""
    rounded = config["train"]["base_weights"] == "nf4" and config["train"]["backend"] == "peft"
    return "results/{run}/base-nf4" if rounded else "results/{run}/base"


def measured_losses(wildcards):
    """The base's loss on every row, if the variant sorts rows by it."""
    if VARIANTS[wildcards.variant]["difficulty"] in ("loss", "ifd"):
        return "results/{run}/train/base_loss.jsonl"
    return []


def place_in_order(wildcards):
    """The priority of a training and its answers: 1 of the experiment's first, near 0 of its last, below what else has one."""
    here = experiments.Training(wildcards.variant, wildcards.arm, int(wildcards.seed))
    return 1 - EXPERIMENT_TRAININGS.index(here) / len(EXPERIMENT_TRAININGS)


def trained_with(wildcards):
    """The training settings of a variant."""
    return {**shaping(config["train"]), **VARIANTS[wildcards.variant]["train"]}


def planned():
    """What the plan of an experiment fixes besides the files: everything that shapes a training or the analysis, but for
    the seeds that are left out because a training failed, which the results name."""
    arms = {arm for variant in VARIANTS.values() for arm in variant["arms"]}
    return {
        "experiment": {key: value for key, value in (EXPERIMENT or {}).items() if key != "left_out"},
        "arms": {arm: config["curriculum"]["definitions"][arm] for arm in sorted(arms)},
        "curriculum": curriculum("name", "levels", "rows", "epochs", "method"),
        "task": config["data"]["task"],
        "answers": {
            **{key: config["evaluate"][key] for key in ("headline", "max_rows", "max_tokens")},
            "quant": QUANT,
        },
        "train": shaping(config["train"]),
        "rules": config["score"]["rules"],
        "base": {key: config["base_model"][key] for key in ("source", "sha256")},
    }
