"""Input functions of the report, for ../report.smk. No rules."""


def ledgers():
    """Every training's exposure ledger."""
    return [ledger(training) for training in TRAININGS]
