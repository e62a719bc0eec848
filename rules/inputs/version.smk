"""Input functions of records, for ../version.smk. No rules."""

from scripts.common.packages import LOCK


def given_files():
    """What comes from outside: fetched sources, and files and folders of the user's."""
    sources = [config["base_model"]["source"], "" if own_files() else config["data"]["package"]["source"]]
    schema = [config["data"]["schema"]] if config["data"]["schema"] else []
    return [*map(source_folder, filter(None, sources)), *(file["path"] for file in own_files()), *schema]
