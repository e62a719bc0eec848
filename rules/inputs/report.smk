"""Input functions of the report, for ../report.smk. No rules."""


def ledgers():
    """The exposure ledgers of all trainings."""
    return [ledger(training) for training in TRAININGS]
