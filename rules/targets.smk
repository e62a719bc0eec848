"""What a run is to make: lists of files, for `rule all`, the gates and the records. No rules."""


def check_names():
    """Every check of fidelity, in the order of the steps that it judges."""
    return [
        "labels",
        *resolved.own_checks(MODELS.values()),
        f"{SERVED.name}/quantization",
        "template",
        "stopping",
        "serving",
    ]


def check_files():
    """The file of what each check measured."""
    return [f"results/{{run}}/fidelity/{check}.json" for check in check_names()]


def passed():
    """The notes that every check's gates passed. What leaves the run waits for them, but is not made of them: a check
    that is repeated, as when Go was installed meanwhile, does not make it again."""
    return ancient([f"results/{{run}}/fidelity/{check}.passed" for check in check_names()])


def answered():
    """Every answers file: all models and splits in the served quant, and all quants of the served model."""
    return list(dict.fromkeys([*evaluated("answers.jsonl"), *quant_files("answers.jsonl")]))


def everything():
    """What `rule all` makes."""
    names = ["metrics.json", "report.html", "fidelity.json", "ollama", "hf"]
    records = ["manifest.json", "config.yaml", "ro-crate-metadata.json", "sbom.cdx.json"]
    return [f"results/{config['run']}/{name}" for name in names + records]
