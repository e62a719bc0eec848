"""Input functions of archives, for ../version.smk. No rules."""

from scripts.config.code import own_code


def asked_behind_apis():
    """The answers of models behind an API."""
    asked = [model for model in MODELS.values() if model.kind == "endpoint"]
    return [path.format(run=config["run"]) for path in evaluated("answers.jsonl", asked)]


def given_files():
    """External inputs: fetched sources, and the user's files and folders, Python files included."""
    models = [file for _, file in resolved.given_files(config)]
    schema = [config["data"]["schema"]] if config["data"]["schema"] else []
    return [
        *map(sources.location, sources.given_sources(config)),
        *schema,
        *own_code(config).values(),
        *models,
    ]
