"""Input functions of archives, for ../version.smk. No rules."""

from scripts.config.code import own_code


def given_files():
    """External inputs: fetched sources, and the user's files and folders, Python files included."""
    models = [file for _, file in resolved.given_files(config)]
    named = [config["data"]["schema"], config["forgetting"]["text"]]
    return [
        *map(sources.location, sources.given_sources(config)),
        *filter(None, named),
        *own_code(config).values(),
        *models,
    ]
