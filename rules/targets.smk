"""The target files of a run, for `rule all`, the gates and the records. No rules."""


def check_names():
    """All fidelity checks, in the order of the steps that they check."""
    return [
        "labels",
        *resolved.own_checks(MODELS.values()),
        f"{SERVED.name}/quantization",
        "template",
        "stopping",
        "serving",
    ]


def check_files():
    """The measurements of each check."""
    return [f"results/{{run}}/fidelity/{check}.json" for check in check_names()]


def passed():
    """The files that say that each check's gates passed. The folders that leave the run wait for them, but do not
    depend on them: what a check found reaches them by the verdict, which they quote."""
    return ancient([f"results/{{run}}/fidelity/{check}.passed" for check in check_names()])


def answered():
    """All answers files: all models and splits in the served quant, and all quants of the served model."""
    return list(dict.fromkeys([*evaluated("answers.jsonl"), *quant_files("answers.jsonl")]))


def rating_files():
    """The page for raters, and the key to it, if the config names pairs of models to rate."""
    names = ["rating/rate.html", "rating/key.json"] if config["rating"]["pairs"] else []
    return [f"results/{{run}}/{name}" for name in names]


def everything():
    """What `rule all` makes."""
    names = ["advice.json", "advice.html", "metrics.json", "verdict.json", "report.html", "fidelity.json"]
    folders = ["ollama", "hf"]
    records = ["curves.csv", "manifest.json", "config.yaml", "ro-crate-metadata.json", "sbom.cdx.json"]
    experiment = [f"results/{config['run']}/experiment/effects.json"] if EXPERIMENT else []
    rated = [path.format(run=config["run"]) for path in rating_files()]
    return [*(f"results/{config['run']}/{name}" for name in names + folders + records), *rated, *experiment]
