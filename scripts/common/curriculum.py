"""Difficulty levels and training phases: completes and checks the config's sections `curriculum` and `score`.

A level is a difficulty class; a record's `difficulty` is an index into the levels, easiest first. A phase is a part of
training that draws rows from one or more levels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

from scripts.common.preference import complete_preference, is_preference, supervised_names

PLACES = ("first", "last")  # an arm may refer to a phase by position
RESERVED = (*PLACES, "all")  # `all` is the total in the ledger
Path = list[Any]


@dataclass
class Phase:
    """One supervised phase; the fields are those of `curriculum.phases` in config/schema.yaml."""

    name: str
    levels: Sequence[str]
    rows: int | None = None
    epochs: float = 1
    method: str = "sft"


@dataclass
class Curriculum:
    """The difficulty levels, easiest first, and the supervised phases in training order."""

    levels: Sequence[str]
    phases: Sequence[Phase]

    @property
    def names(self) -> list[str]:
        """Return the phases' names."""
        return [phase.name for phase in self.phases]

    def level(self, difficulty: int | None) -> str:
        """Return the name of a record's level."""
        return self.levels[difficulty or 0]

    def new_levels(self) -> dict[str, list[str]]:
        """Return, for each phase, the levels that no earlier phase draws from."""
        new, seen = {}, set[str]()
        for phase in self.phases:
            new[phase.name] = [level for level in self.levels if level in phase.levels and level not in seen]
            seen |= set(phase.levels)
        return new


def read_curriculum(section: Mapping[str, Any]) -> Curriculum:
    """Return the curriculum of the config's section `curriculum`, or of its keys `levels` and `phases`."""
    return Curriculum(section["levels"], [Phase(**phase) for phase in section["phases"] if not is_preference(phase)])


def wanted_shares(count: int) -> list[float]:
    """Return the share of the rows that each of `count` levels should have: 30/50/20 for three levels, else equal."""
    return [0.3, 0.5, 0.2] if count == 3 else [1 / count] * count


def wanted_quantiles(count: int) -> list[float]:
    """Return the quantiles that divide rows by `wanted_shares`."""
    return [round(value, 6) for value in accumulate(wanted_shares(count)[:-1])]


def complete_curriculum(config: dict[str, Any]) -> None:
    """Fill in defaults that depend on the levels: one cumulative phase per level, and quantiles."""
    section, score = config["curriculum"], config["score"]
    levels = section["levels"]
    phases = section["phases"] or [{"name": name, "levels": levels[:n]} for n, name in enumerate(levels, 1)]
    section["phases"] = [phase if is_preference(phase) else asdict(Phase(**phase)) for phase in phases]
    complete_preference(section, config["train"]["learning_rate"])
    if score["thresholds"] is None and score["quantiles"] is None:
        score["quantiles"] = wanted_quantiles(len(levels))


def check_curriculum(config: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield (path in the completed config, message) for each fault that the schema cannot express."""
    section = config["curriculum"]
    levels, phases = section["levels"], section["phases"]
    names = [phase["name"] for phase in phases]
    for number, phase in enumerate(phases):
        path = ["curriculum", "phases", number]
        if phase["name"] in names[:number]:
            yield path, f"two phases are named {phase['name']!r}; phase names must be unique"
        if phase["name"] in RESERVED:
            yield path, f"{phase['name']!r} is a reserved name ({', '.join(RESERVED)}); use another name"
        if is_preference(phase):
            continue
        if phase["rows"] is not None and phase["epochs"] != Phase.epochs:
            yield [*path, "epochs"], "has no effect if `rows` is set; remove one of them"
        yield from _check_levels([*path, "levels"], phase["levels"], levels)
    supervised = supervised_names(phases)
    for name, arm in section["definitions"].items() if supervised else ():
        yield from _check_arm(name, arm, supervised, levels)
    if config["score"]["thresholds"] is not None and config["score"]["quantiles"] is not None:
        yield ["score", "thresholds"], "has no effect if `quantiles` are set; set one of them to null"
    for key in ("thresholds", "quantiles"):
        if (values := config["score"][key]) is None:
            continue
        path = ["score", key]
        if len(values) != len(levels) - 1:
            yield path, f"{len(levels)} levels need {len(levels) - 1} values; {values} has {len(values)}"
        elif any(left > right for left, right in pairwise(values)):
            yield path, f"{values} must be in ascending order"


def _check_levels(path: Path, given: Sequence[str], levels: Sequence[str]) -> Iterator[tuple[Path, str]]:
    for unknown in (level for level in given if level not in levels):
        yield path, f"no level {unknown!r} in curriculum.levels; known levels: {', '.join(levels)}"


def _check_arm(
    name: str, arm: Mapping[str, Any], phases: Sequence[str], levels: Sequence[str]
) -> Iterator[tuple[Path, str]]:
    path = ["curriculum", "definitions", name]
    for key in ("levels", "shares", "pool_shares"):
        given = arm.get(key)
        if not isinstance(given, Mapping):
            continue
        known = phases if key == "levels" else [*phases, *PLACES]
        for phase in (phase for phase in given if phase not in known):
            yield [*path, key], f"no phase {phase!r}; known phases: {', '.join(known)}"
        if key != "levels" and len(by_phase(given, phases)) < len(given):
            yield (
                [*path, key],
                f"{', '.join(given)}: one phase is listed twice (first is {phases[0]}, last is {phases[-1]})",
            )
        if key == "levels":
            for phase, drawn in given.items():
                yield from _check_levels([*path, key, phase], drawn, levels)
    shares = by_phase(arm.get("shares") or {}, phases)
    if shares and set(phases) - set(shares) and sum(shares.values()) >= 1:
        left = ", ".join(phase for phase in phases if phase not in shares)
        yield [*path, "shares"], f"the shares add up to 1 or more, which leaves nothing for {left}"


def by_phase(given: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Return values keyed by phase name: `first` and `last` are replaced by the names of those phases."""
    places = {"first": names[0], "last": names[-1]}
    return {places.get(name, name): value for name, value in given.items()}
