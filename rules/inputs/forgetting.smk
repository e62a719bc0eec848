"""What the forgetting probe measures, for ../forgetting.smk and the report. No rules."""

# the untrained base, under the name that its weights have; without it there is nothing to compare with
BEFORE = next((model.weights for model in MODELS.values() if model.kind == "base"), None)
PROBED = [
    BEFORE,
    *(model.name for model in MODELS.values() if model.trained and model.weights == model.name),
]
PROBES = config["forgetting"]["enabled"] and BEFORE is not None


def own_text(wildcards):
    """The user's own text for the perplexity, if there is one, or the World Factbook."""
    text = config["forgetting"]["text"]
    return {"text": local(text)} if text else {"factbook": factbook()}


def factbook():
    """The folder that the World Factbook is fetched into."""
    return located(config["forgetting"]["factbook"]["source"])


def probed(kind):
    """The files of one kind of all models that are probed, the base first."""
    return [f"results/{{run}}/forgetting/{model}/{kind}" for model in PROBED]


def forgotten():
    """The comparison, if the probe is on."""
    return "results/{run}/forgetting.json" if PROBES else []
