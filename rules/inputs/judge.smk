"""Inputs and params of the judge, for ../judge.smk. No rules."""


def judged_splits():
    """The splits whose answers are judged."""
    return config["judge"]["splits"] or SPLITS[:1]


def judged_models():
    """The models whose answers may be judged: all, if the advice names one of them."""
    named, pairs = config["judge"]["models"], config["judge"]["pairs"]
    if named is None:
        return list(MODELS.values())
    names = dict.fromkeys([*named, *(name for pair in pairs or [] for name in pair)])
    return [MODELS[name] for name in names]


def is_judge(model):
    """Whether a model is the one that judges."""
    endpoint = config["judge"]["endpoint"]
    return model.kind == "endpoint" and all(model.given[key] == endpoint[key] for key in ("url", "model"))


def human_ratings():
    """What people said of the same answers, if this run has ratings."""
    return ["results/{run}/rating/ratings.json"] if config["rating"]["files"] else []
