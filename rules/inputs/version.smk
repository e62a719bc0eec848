"""Input functions of archives, for ../version.smk. No rules."""

from scripts.config.code import own_code


def given_files():
    """What comes from outside: fetched sources, and files and folders of the user's, Python files included."""
    sources = [config["base_model"]["source"], "" if own_files() else config["data"]["package"]["source"]]
    schema = [config["data"]["schema"]] if config["data"]["schema"] else []
    files = [*(file["path"] for file in own_files()), *schema, *own_code(config).values()]
    return [*map(source_folder, filter(None, sources)), *files]
