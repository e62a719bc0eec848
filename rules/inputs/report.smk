"""Input functions of the report, for ../report.smk. No rules."""


def ledgers():
    """Every training's exposure ledger."""
    return [f"results/{{run}}/curriculum/{training.folder}/ledger.json" for training in TRAININGS]
