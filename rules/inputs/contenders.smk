"""Files of contenders that need no model, for ../contenders.smk. No rules."""

CONTENDED = [*SPLITS, "valid"]  # answered in one job: it takes seconds, mostly of starting


def contended(path):
    """One file of the run for each of these splits."""
    return expand(f"results/{{{{run}}}}/{path}", split=CONTENDED)
