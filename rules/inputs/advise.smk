"""Input functions of the advice, for ../advise.smk. No rules."""


def measured_early():
    """The models that can be measured before training. Endpoints are left out: asking them may cost money."""
    return [model for model in MODELS.values() if not model.trained and model.kind != "endpoint"]


def baseline():
    """The kind of contender whose learning curve is drawn."""
    labels = config["data"]["task"] in resolved.KINDS["linear"].tasks
    return "linear" if labels or any(model.kind == "linear" for model in MODELS.values()) else "nearest"


def baseline_choice(wildcards):
    """The settings that such a contender of this run chose, if there is one."""
    names = [model.name for model in MODELS.values() if model.kind == baseline()]
    kept = [f"results/{wildcards.run}/evaluate/{name}/{baseline()}/choice.json" for name in names[:1]]
    return {"choice": kept[0]} if kept else {}
