"""Files that stay in this folder, for all rules, even where `--default-storage-provider` keeps a run's files elsewhere:
the project's own, and those that the config names by path. No rules."""


def located(source):
    """The user's own path that a source names, or the folder that it is fetched into, which is one of the run's files."""
    place = sources.location(source)
    return local(place) if source and sources.local_path(source) is not None else place
