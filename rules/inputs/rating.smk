"""Input functions of the blind rating, for ../rating.smk. No rules."""


def rated_pairs():
    """The pairs of models whose answers are rated; of none in the config, if the page is asked for by its name, the
    served model and the one that all are compared with."""
    return config["rating"]["pairs"] or [[SERVED.name, COMPARED_WITH.name]]


def rated_splits():
    """The splits whose answers are rated."""
    return config["rating"]["splits"] or SPLITS[:1]


def rated_models():
    """The models of these pairs."""
    return [MODELS[name] for name in dict.fromkeys(name for pair in rated_pairs() for name in pair)]
