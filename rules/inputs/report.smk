"""Input functions of the report, for ../report.smk. No rules."""


def ledgers():
    """The exposure ledgers of all trainings."""
    return [ledger(training) for training in TRAININGS]


def measured():
    """What the report shows of the run, by name: the jobs behind it are what the run costs."""
    return {
        "metrics": "results/{run}/metrics.json",
        "validity": "results/{run}/validity.json",
        "fidelity": "results/{run}/fidelity.json",
        "speed": "results/{run}/fidelity/speed.json",
        "summaries": training_files("summary.json"),
        "forgetting": forgotten(),
        "judge": "results/{run}/judge.json" if config["judge"] else [],
    }


def effects():
    """What an experiment found, if the config names one."""
    return "results/{run}/experiment/effects.json" if config.get("experiment") else []
