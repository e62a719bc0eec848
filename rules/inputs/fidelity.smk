"""Input functions of checks, for ../fidelity.smk. No rules."""


def served_answers():
    """The served model's answers to the first split."""
    return evaluated("answers.jsonl", [SERVED], SPLITS[:1])[0]


def rounded_base():
    """The weights that adapters are trained with: the NF4-rounded base, or the base itself if nothing is rounded."""
    return "results/{run}/base" if config["train"]["base_weights"] == "bf16" else "results/{run}/base-nf4"
