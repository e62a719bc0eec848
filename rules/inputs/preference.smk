"""Input functions of pairs for preference tuning, for ../preference.smk. No rules."""

PREFERENCE_NAMES = "|".join(map(re.escape, PREFERENCE)) or "none"  # a wildcard must match something


def held_out_files():
    """The rows of all splits but training."""
    return [f"results/{{run}}/curriculum/{split}.jsonl" for split in EVERY_SPLIT if split != "train"]


def asked_model(wildcards):
    """The GGUF of the model after a supervised phase; of several, one that is asked plainly."""
    wanted = (wildcards.arm, int(wildcards.seed), wildcards.after)
    found = [
        model
        for model in MODELS.values()
        if model.training
        and (model.training.arm, model.training.seed, model.training.phase or PHASES[-1]) == wanted
    ]
    model = next((model for model in found if model.plain), found[0])
    return f"results/{wildcards.run}/export/{model.weights}/{QUANT}.gguf"


def samples_asked():
    """How many answers to training rows a model is asked for; of all rows, at most as many as of 20,000."""
    rows = config["preference"]["rows"]
    return (20_000 if rows is None else rows) * config["preference"]["samples"]


def samples(wildcards):
    """The model's answers to training rows, and which file gave them, unless all pairs are to be the user's own."""
    folder = f"results/{wildcards.run}/preference/{wildcards.arm}/seed{wildcards.seed}/{wildcards.after}"
    files = {"samples": f"{folder}/samples.jsonl", "gguf": asked_model(wildcards)}
    return {} if config["preference"]["rows"] == 0 else files


def pairs_file(name):
    """A function: the file `name` of the pairs that a preference phase learns from."""

    def file(wildcards):
        after = PREFERENCE[wildcards.phase].after
        return f"results/{wildcards.run}/preference/{wildcards.arm}/seed{wildcards.seed}/{after}/{name}"

    return file
