"""Phases of preference tuning (DPO, ORPO, KTO), which follow the supervised ones: completes and checks their settings.

A preference phase goes on from the adapter of a supervised phase, its `after`, and learns from pairs: a row's prompt
with an answer that is right and one that is not. The model after that phase is evaluated, too: it makes the pairs, it
is the reference of DPO and KTO, and without it nobody could say what the phase was good for.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

METHODS = ("dpo", "orpo", "kto")  # of preference tuning; those of every phase: MODULES in scripts/train/methods.py
WITH_OTHERS = ("kto",)  # methods for which each pair needs an answer to another prompt
Fault = tuple[list[str | int], str]


@dataclass(frozen=True)
class PreferencePhase:
    """One phase; the fields are those of `curriculum.phases` in config/schema.yaml."""

    name: str
    method: str
    after: str  # the supervised phase whose adapter it goes on from
    learning_rate: float
    epochs: float = 1
    beta: float = 0.1
    order: str = "difficulty"  # easy pairs first, or random
    max_difficulty: float = 1.0  # the share of the pairs that is kept, the easiest
    max_growth: float | None = 3.0  # how many times as high the held-out loss may be after it; None: no matter


def is_preference(phase: Mapping[str, Any]) -> bool:
    """Return whether an entry of `curriculum.phases` is a phase of preference tuning."""
    return phase.get("method") in METHODS


def supervised_names(phases: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the supervised phases in `curriculum.phases`, in their order."""
    return [phase["name"] for phase in phases if not is_preference(phase)]


def complete_preference(section: dict[str, Any], rate: float) -> None:
    """Fill in the defaults of the preference phases in the config's section `curriculum`. `rate`: the learning rate of
    supervised phases; theirs is a hundredth of it, and a tenth for ORPO, which also trains on right answers alone.
    """
    supervised = supervised_names(section["phases"])

    def complete(phase: Mapping[str, Any]) -> dict[str, Any]:
        own = {
            "after": supervised[-1] if supervised else "",
            "learning_rate": float(f"{rate / (10 if phase['method'] == 'orpo' else 100):.12g}"),
        }
        return asdict(PreferencePhase(**{**own, **phase}))

    section["phases"] = [complete(phase) if is_preference(phase) else phase for phase in section["phases"]]


def complete_models(config: dict[str, Any]) -> None:
    """Leave out the phase of models where it is the last supervised one: without it they are the same models."""
    supervised = supervised_names(config["curriculum"]["phases"])
    for settings in config["models"].values():
        trained = settings.get("trained") or {}
        if supervised and trained.get("phase") == supervised[-1]:
            del trained["phase"]


def preference_phases(config: Mapping[str, Any]) -> dict[str, PreferencePhase]:
    """Return the preference phases of a completed config by name, in its order."""
    phases = config["curriculum"]["phases"]
    return {phase["name"]: PreferencePhase(**phase) for phase in phases if is_preference(phase)}


def check_preference(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield (path in the completed config, what is wrong) for preference phases, and for models of a phase."""
    phases = config["curriculum"]["phases"]
    supervised = supervised_names(phases)
    names = [phase["name"] for phase in phases]
    used = {
        (arm, seed, (settings.get("trained") or {}).get("phase") or (supervised or [""])[-1])
        for settings in config["models"].values()
        for arm, seed in _trainings(settings.get("trained") or {})
    }
    for number, phase in enumerate(phases):
        path: list[str | int] = ["curriculum", "phases", number]
        if not is_preference(phase):
            if any(is_preference(before) for before in phases[:number]):
                yield path, "is supervised, but stands after a preference phase; preference tuning comes last"
            continue
        if not supervised:
            yield path, "there is no supervised phase before it; add one: {name: train, levels: [easy, medium, hard]}"
        elif phase["after"] not in supervised:
            known = ", ".join(supervised)
            yield [*path, "after"], f"no supervised phase {phase['after']!r}; supervised phases: {known}"
            continue
        mine = [(arm, seed) for arm, seed, name in sorted(used) if name == phase["name"]]
        if not mine and all(name in names for _, _, name in used):  # else one of a wrong name is meant
            entry = f"{phase['name']}: {{trained: {{arm: curriculum, seed: 1, phase: {phase['name']}}}}}"
            yield path, f"no model uses this phase, so it would not be trained; add one to models: {entry}"
        for arm, seed in mine:
            if (arm, seed, phase["after"]) not in used:
                entry = f"supervised: {{trained: {{arm: {arm}, seed: {seed}, phase: {phase['after']}}}}}"
                yield (
                    path,
                    f"the model before it is not in models (arm {arm}, seed {seed}, phase {phase['after']}). Its "
                    f"answers to training rows make the pairs, and only it shows whether this phase helps; add {entry}",
                )
    for entry, settings in config["models"].items():
        wanted = (settings.get("trained") or {}).get("phase")
        if wanted and wanted not in names:
            yield ["models", entry, "trained", "phase"], f"no phase {wanted!r}; known phases: {', '.join(names)}"


def _trainings(trained: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield (arm, seed) of each training that an entry of `models` names."""
    arms = [trained["arm"]] if "arm" in trained else trained.get("arms", [])
    seeds = [trained["seed"]] if "seed" in trained else trained.get("seeds", [])
    yield from ((arm, seed) for arm in arms for seed in seeds)
