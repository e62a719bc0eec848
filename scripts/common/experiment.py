"""The config's `experiment`: which trainings it has, and what is wrong with it.

A training is an arm with a seed, in the experiment itself (`main`) or in one of its variants.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]
Fault = tuple[list[str | int], str]
MAIN = "main"


@dataclass(frozen=True)
class Training:
    """One training of an experiment."""

    variant: str
    arm: str
    seed: int

    @property
    def folder(self) -> str:
        """Return its folder below `results/<run>/experiment`."""
        return f"{self.variant}/{self.arm}/seed{self.seed}"


def variants(experiment: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every variant with its arms, its seeds but for those left out, and its changes: `train` (settings) and
    `difficulty` (a scorer).
    """
    everything = {MAIN: {}, **experiment["variants"]}
    return {
        name: {
            "arms": changes.get("arms", experiment["arms"]),
            "seeds": [seed for seed in changes.get("seeds", experiment["seeds"]) if seed not in experiment["left_out"]],
            "train": changes.get("train", {}),
            "difficulty": changes.get("difficulty"),
        }
        for name, changes in everything.items()
    }


def trainings(experiment: Mapping[str, Any] | None) -> list[Training]:
    """Return all trainings, seed by seed, so that what is there after a stop is pairs: every arm with the first seeds.

    The variant `main` comes first.
    """
    if experiment is None:
        return []
    return [
        Training(name, arm, seed)
        for name, variant in variants(experiment).items()
        for seed in variant["seeds"]
        for arm in variant["arms"]
    ]


def answered(experiment: Mapping[str, Any] | None) -> list[Training]:
    """Return the trainings whose models answer held-out rows: those of the seeds in `answers`, of `main`."""
    return [t for t in trainings(experiment) if t.variant == MAIN and t.seed in (experiment or {})["answers"]]


def check_experiment(config: Config) -> Iterator[Fault]:
    """Yield (path in the config, what is wrong) for `experiment`, and for arms that only an experiment can train."""
    definitions = config["curriculum"]["definitions"]
    by_model = [name for name, arm in definitions.items() if arm.get("difficulty") == "model"]
    for entry, settings in config["models"].items():
        trained = settings.get("trained") or {}
        for arm in {*trained.get("arms", []), trained.get("arm")} & set(by_model):
            yield (
                ["models", entry, "trained"],
                f"the arm {arm!r} measures its rows anew before each phase, which only an experiment does; name it in "
                "experiment.arms",
            )
    experiment = config["experiment"]
    if experiment is None:
        return
    yield from _check_arms(["experiment"], experiment, experiment, definitions)
    for key in ("control", "primary"):
        if experiment[key] not in experiment["arms"]:
            yield (
                ["experiment", key],
                f"{experiment[key]!r} is not in experiment.arms ({', '.join(experiment['arms'])}). "
                + (
                    "Without a control whose sets grow alike but are of random rows, a gain says nothing about what "
                    "comes first: add it, or name another control"
                    if key == "control"
                    else "Add it, or name the arm that the question is about"
                ),
            )
    if experiment["control"] == experiment["primary"]:
        yield ["experiment", "primary"], f"{experiment['primary']!r} is the control itself; name another arm"
    if unknown := set(experiment["answers"]) - set(experiment["seeds"]):
        yield ["experiment", "answers"], f"not in experiment.seeds: {', '.join(map(str, sorted(unknown)))}"
    trained = {
        *experiment["seeds"],
        *(seed for each in experiment["variants"].values() for seed in each.get("seeds", ())),
    }
    if unknown := set(experiment["left_out"]) - trained:
        yield ["experiment", "left_out"], f"no training has these seeds: {', '.join(map(str, sorted(unknown)))}"
    for name, variant in experiment["variants"].items():
        path: list[str | int] = ["experiment", "variants", name]
        if name == MAIN:
            yield path, f"{MAIN!r} is the experiment itself; use another name"
        if not variant.keys() & {"train", "difficulty"}:
            yield path, "changes nothing; set `train` or `difficulty`"
        yield from _check_arms(path, variant, experiment, definitions)
        for role in ("control", "primary"):
            if (arms := variant.get("arms")) and experiment[role] not in arms:
                yield [*path, "arms"], f"the {role} arm {experiment[role]!r} is missing, so nothing is compared; add it"
    if config["train"]["patience"] is not None:
        yield (
            ["train", "patience"],
            "stops some trainings early, so that arms would differ in their budget, and a difference would not be one "
            "of the order; set it to null for an experiment",
        )


def _check_arms(
    path: list[str | int], given: Mapping[str, Any], experiment: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Iterator[Fault]:
    for number, arm in enumerate(given.get("arms", [])):
        if arm not in definitions:
            yield [*path, "arms", number], f"no arm {arm!r} in curriculum.definitions; known: {', '.join(definitions)}"
    if len(set(given.get("seeds", experiment["seeds"])) - set(experiment["left_out"])) < 2:
        yield (
            [*path, "seeds"],
            "one seed only shows how two models differ, and nothing about the arms: another seed may turn the "
            "difference around, and no interval can say how likely that is. Name at least two; 8 find a difference "
            "of 1.15 of their standard deviations",
        )
