"""Input functions of checks, for ../fidelity.smk. No rules."""


def served_answers():
    """What the served model answered on the first split."""
    return evaluated("answers.jsonl", [SERVED], SPLITS[:1])[0]


def rounded_base():
    """The base as NF4 rounds it, or as it is where nothing is rounded: the weights that adapters are trained with."""
    return "results/{run}/base" if config["train"]["base_weights"] == "bf16" else "results/{run}/base-nf4"
