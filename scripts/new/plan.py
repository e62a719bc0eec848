"""Plan a run: inspect the rows, choose splits, phases and budget, and estimate the time."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.records import Record
from scripts.config.schema import default
from scripts.data.split import FEW
from scripts.new import difficulty
from scripts.new.budget import PARAMETERS, Budget, Machine, count_parameters, make_budget, this_machine
from scripts.new.held_out import HeldOut, hold_out
from scripts.new.lengths import Lengths, find_tokenizer, measure, round_up
from scripts.new.looks import Looks, look

NAMED_CHARS = 600  # maximum length of the list of labels or keys in a system prompt
HEADROOM = 1.25  # over the longest row, and over the longest answer
FEW_ROWS = 1_500  # with fewer, a tenth of them is too small a test set
MANY_ROWS = 10_000  # with more, a tenth of them is more than is evaluated
VALID_ROWS, TEST_ROWS = 500, 1_000  # enough in that case
FEW_GROUPS = 20
EVALUATED = ("test", "eval-hard", "eval-unseen")


@dataclass
class Plan:
    """The plan. `split`: settings of the config's section that differ from their defaults, {key: (value, reason)}."""

    run: str
    base: Mapping[str, Any]
    parameters: float  # of the base; 0 if unknown
    looks: Looks
    few: bool
    system_prompt: str
    lengths: Lengths
    split: dict[str, tuple[Any, str]]
    held_out: HeldOut
    levels: list[int]
    division: difficulty.Division | None  # None: the rows have their own difficulty
    phases: list[list[int]]
    pools: list[int]  # training rows that each phase draws from
    max_length: int
    max_tokens: int
    budget: Budget
    machine: Machine


def name_all(names: Sequence[str]) -> str:
    """Return names joined by commas and a final `and`."""
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def write_system_prompt(seen: Looks) -> str:
    """Return the rows' own system prompt, or a draft."""
    if seen.system_prompt is not None:
        return seen.system_prompt
    if seen.task == "command":
        return "You turn a request into one AWS CLI command."
    if seen.task == "classify":
        labels = ", ".join(sorted(seen.labels))
        return f"Name the label that fits the text{f', one of: {labels}' if len(labels) <= NAMED_CHARS else ''}."
    if seen.task == "extract":
        keys = seen.keys
        always = [key for key in keys if keys[key] == len(seen.records)]
        others = [key for key in keys if key not in always]
        if not keys or len(name_all(list(keys))) > NAMED_CHARS:
            return "Turn the text into one JSON object."
        wanted = f" with the key{'s' * (len(always) > 1)} {name_all(always)}" if always else ""
        maybe = f"{', and' if always else ' with,'} where the text has them, {name_all(others)}" if others else ""
        return f"Turn the text into one JSON object{wanted}{maybe}."
    return "You answer questions."


def choose_split(records: Sequence[Record]) -> dict[str, tuple[Any, str]]:
    """Return the settings of the section `split` that should differ from their defaults, with reasons."""
    changed: dict[str, tuple[Any, str]] = {}
    groups = {record.group for record in records if record.group}
    if groups and len(groups) < FEW_GROUPS:
        changed["by"] = ("row", f"only {len(groups)} groups: with whole groups, test could be tiny or huge")
        changed["unseen_share"] = (0, "too few groups to hold out whole ones")
    if all(record.split for record in records):
        return changed
    if len(records) < FEW_ROWS:
        changed["test_share"] = (0.2, f"a tenth of {len(records):,} rows would be too few to evaluate the model")
    if len(records) > MANY_ROWS:
        changed["valid_share"] = (
            share_of(VALID_ROWS, len(records)),
            f"about {VALID_ROWS} rows; their loss is measured after each phase",
        )
        changed["test_share"] = (
            share_of(TEST_ROWS, len(records)),
            f"about {TEST_ROWS:,} rows; evaluate.max_rows of them are answered",
        )
    return changed


def check_evaluated(places: Sequence[str], records: Sequence[Record], contaminated: int) -> None:
    """Raise GradusError if no row is held out to be asked. `contaminated`: rows left out because training asks them."""
    if set(places) & set(EVALUATED):
        return
    if all(record.split for record in records):
        advice = "Every row brings its split: mark some as test, or leave the column out"
    elif contaminated:
        advice = (
            f"Training rows ask nearly what all {contaminated:,} held-out rows ask: bring rows that differ more, or "
            "give those that belong together a column `group`"
        )
    else:
        advice = "Bring more rows, or rows of more groups"
    found = ", ".join(f"{name} {count:,}" for name, count in Counter(filter(None, places)).items()) or "none is left"
    raise GradusError(f"no row would be held out to evaluate the model on ({found}). {advice}")


def share_of(part: int, whole: int) -> float:
    """Return the share of about `part` rows, rounded to one significant digit."""
    return float(f"{part / whole:.1g}")


def make_plan(
    files: Sequence[str],
    run: str,
    base: Mapping[str, Any],
    minutes: float = 60,
    prompt: str | None = None,
    response: str | None = None,
    allow_few: bool = False,
    again: Sequence[str] = (),
) -> Plan:
    """Inspect the rows and make a plan. `minutes`: limit for training; `prompt`, `response`: columns given by the user;
    `again`: the command line, to which error messages add options.

    Raises GradusError if the rows cannot be used, or if there are too few.
    """
    seen = look(files, prompt, response, again)
    records = seen.records
    few = len(records) < FEW
    if few and not allow_few:
        raise GradusError(
            f"only {len(records)} rows can be used; training and evaluation are meaningless with fewer than {FEW}. "
            f"Add rows. To try anyway, which sets data.allow_few: {shlex.join([*again, '--allow-few'])}"
        )
    system_prompt = write_system_prompt(seen)
    measured = measure(records, system_prompt, find_tokenizer(base, Path()))
    max_tokens = round_up(HEADROOM * measured.longest_answer + 2, 4)
    division = difficulty.divide(records, default("score.rules"))
    levels = division.levels if division else [record.difficulty or 0 for record in records]
    phases = difficulty.choose_phases(levels, division)
    split = choose_split(records)
    held_out = hold_out(records, default("split") | {key: value for key, (value, _) in split.items()})
    places = difficulty.mark_hard(held_out.places, records, levels)
    check_evaluated(places, records, held_out.contaminated)
    parameters = count_parameters(base)
    machine = this_machine(base, Path())
    planned = make_budget(places, levels, phases, measured, max_tokens, parameters or PARAMETERS, machine, minutes)
    trained = Counter(level for place, level in zip(places, levels, strict=True) if place == "train")
    return Plan(
        run=run,
        base=base,
        parameters=parameters,
        looks=seen,
        few=few,
        system_prompt=system_prompt,
        lengths=measured,
        split=split,
        held_out=held_out,
        levels=levels,
        division=division,
        phases=phases,
        pools=[sum(trained[level] for level in wanted) for wanted in phases],
        max_length=max(256, round_up(HEADROOM * measured.longest, 64)),
        max_tokens=max_tokens,
        budget=planned,
        machine=machine,
    )
