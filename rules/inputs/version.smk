"""Input functions of archives, for ../version.smk. No rules."""


def given_files():
    """What comes from outside: fetched sources, and files and folders of the user's."""
    schema = [config["data"]["schema"]] if config["data"]["schema"] else []
    return [*map(sources.location, sources.given_sources(config)), *schema]
