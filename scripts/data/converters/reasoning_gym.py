"""Make rows with reasoning-gym: problems with one right answer, of tasks and levels that the config names.

In: a folder with the fetched wheel, which pins the version; the rows are made by the installed package of that version.
Out: rows (JSONL: prompt, response, split, difficulty, source); a source is `<task>/<level>/<number>`.

A row's difficulty is the place, from 0, of its settings in the config: known, not estimated. Its split is given, so a
share of the *training* answers can be wrong (`corrupt`); the source of such a row ends in WRONG, which no model sees.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from scripts.common.errors import GradusError

Row = dict[str, Any]
WRONG = "/wrong"  # the end of the source of a row with a wrong answer
DRAWN = 20  # problems drawn for each that is wanted, since some come twice
WHEEL = re.compile(r"reasoning_gym-([^-]+)-.*\.whl")


@dataclass
class Options:
    """Which problems become rows.

    tasks: {task of reasoning-gym: [its settings at each level, easiest first]}; all have the same number of levels.
    train, valid, test: rows of each task and level. seed: from 0. corrupt: share, from 0 to 1, of the training rows of
    each task and level that get the right answer of another one of them, which is wrong for them.
    """

    tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    train: int = 100
    valid: int = 5
    test: int = 20
    seed: int = 1
    corrupt: float = 0

    def __post_init__(self) -> None:
        """Reject values that make no rows."""
        if not isinstance(self.tasks, dict) or not self.tasks:
            raise ValueError("tasks: none; name some, as {chain_sum: [{max_digits: 1}, {max_digits: 2}]}")
        for name, levels in self.tasks.items():
            if not isinstance(levels, list) or not levels or not all(isinstance(each, dict) for each in levels):
                raise ValueError(f"tasks.{name}: not a list with a mapping of settings for each level")
            if reserved := {"seed", "size"} & {key for each in levels for key in each}:
                raise ValueError(f"tasks.{name}: {min(reserved)} is not a setting of a level")
        if len(sizes := {len(levels) for levels in self.tasks.values()}) > 1:
            raise ValueError(f"tasks: they have different numbers of levels ({min(sizes)} to {max(sizes)})")
        if min(self.train, self.valid, self.test) < 0 or self.train + self.valid + self.test == 0:
            raise ValueError("train, valid, test: negative, or all 0")
        if not 0 <= self.corrupt <= 1:
            raise ValueError(f"corrupt: {self.corrupt} is not from 0 to 1")


Entry = Mapping[str, Any]  # of reasoning-gym: question, answer, metadata


def plain(numbers: Sequence[str]) -> str:
    """Return numbers as people list them: 56, 8 and not 56.0, 8.0."""
    return ", ".join(number.removesuffix(".0") for number in numbers)


def as_given(entry: Entry) -> tuple[str, str]:
    """Return the package's own question and answer."""
    return entry["question"].strip(), str(entry["answer"])


def chain_sum(entry: Entry) -> tuple[str, str]:
    """`12 + 34 =`, and the result."""
    return f"{entry['metadata']['expression']} =", entry["answer"]


def number_filtering(entry: Entry) -> tuple[str, str]:
    """`Keep numbers larger than 20: 56, 8`, and what is left, which may be `none`."""
    facts = entry["metadata"]
    what, size = facts["operation"].split("_")
    asked = f"{what.capitalize()} numbers {size} than {plain([facts['filter_value']])}"
    return f"{asked}: {plain(facts['original_numbers'])}", plain(facts["result"]) or "none"


def number_sorting(entry: Entry) -> tuple[str, str]:
    """`Sort ascending: 56, 8`, and the sorted list."""
    facts = entry["metadata"]
    return f"Sort {facts['direction']}: {plain(facts['original_numbers'])}", plain(facts["sorted_numbers"])


def spell_backward(entry: Entry) -> tuple[str, str]:
    """`Mirror: sun`, and the word's letters from the last to the first."""
    return f"Mirror: {entry['metadata']['word']}", entry["answer"]


def word_sequence_reversal(entry: Entry) -> tuple[str, str]:
    """`Reverse: one, two, three`, and the words from the last to the first."""
    return f"Reverse: {', '.join(entry['metadata']['words'])}", entry["answer"]


# these tasks are asked in fewer words than the package's, which are the same in all rows, cost tokens, and make
# different problems look like near-copies; functions of an entry that return (prompt, response)
BRIEF: Mapping[str, Callable[[Entry], tuple[str, str]]] = {
    task.__name__: task
    for task in (chain_sum, number_filtering, number_sorting, spell_backward, word_sequence_reversal)
}


def draw(task: str, level: int, settings: Mapping[str, Any], count: int, seed: int, used: set[str]) -> dict[str, str]:
    """Return {prompt: response} of `count` problems whose prompts are not among `used`, and add them there.

    Raises GradusError if the settings are wrong, or give fewer different problems.
    """
    import reasoning_gym  # imports all its hundred tasks
    from reasoning_gym.factory import DATASETS

    place = f"data.package.options.tasks.{task}"
    if task not in DATASETS:
        close = difflib.get_close_matches(task, DATASETS, 1)
        raise GradusError(f"{place}: reasoning-gym has no such task" + (f"; did you mean {close[0]}?" if close else ""))
    # a seed of its own: with one seed, a longer list of the next level begins like a shorter one of this level
    own = Random(f"{seed} {task} {level}").randrange(2**31)
    try:
        entries = reasoning_gym.create_dataset(task, seed=own, size=DRAWN * count, **settings)
    except (AssertionError, TypeError, ValueError) as error:
        raise GradusError(f"{place}[{level}]: reasoning-gym refuses these settings: {error}") from None
    found: dict[str, str] = {}
    for number in range(DRAWN * count):
        prompt, response = BRIEF.get(task, as_given)(entries[number])
        if prompt not in used:
            used.add(prompt)
            found[prompt] = response
            if len(found) == count:
                return found
    raise GradusError(
        f"{place}[{level}]: only {len(found)} different problems among {DRAWN * count}, and {count} are wanted; widen "
        "its settings, or ask for fewer rows"
    )


def corrupt(answers: Sequence[str], share: float, lots: Random) -> dict[int, str]:
    """Return {index: another one of the answers, different from its own} for a share of the answers, from 0 to 1.

    Raises ValueError if all answers are the same.
    """
    wrong = {}
    for number in sorted(lots.sample(range(len(answers)), round(share * len(answers)))):
        others = [answer for answer in answers if answer != answers[number]]
        if not others:
            raise ValueError("all answers are the same, so none can be wrong")
        wrong[number] = lots.choice(others)
    return wrong


def require_version(folder: str | Path) -> None:
    """Raise GradusError unless the fetched wheel has the version that is installed."""
    found = [match[1] for path in Path(folder).iterdir() if (match := WHEEL.match(path.name))]
    if found != [version("reasoning-gym")]:
        raise GradusError(
            f"{folder} holds {f'reasoning-gym {found[0]}' if found else 'no wheel of reasoning-gym'}, but the rows are "
            f"made by the installed package. Set data.package.source to pypi:reasoning-gym=={version('reasoning-gym')}"
        )


def make_rows(task: str, level: int, settings: Mapping[str, Any], options: Options, used: set[str]) -> list[Row]:
    """Return the rows of one task and level: test, valid, train, so that more training rows change no held-out ones."""
    splits = ["test"] * options.test + ["valid"] * options.valid + ["train"] * options.train
    made = list(draw(task, level, settings, len(splits), options.seed, used).items())
    held_out = options.test + options.valid
    answers = [response for _, response in made[held_out:]]
    try:
        wrong = corrupt(answers, options.corrupt, Random(f"{options.seed} {task} {level} wrong"))
    except ValueError as error:
        raise GradusError(f"data.package.options.corrupt: {task}, level {level}: {error}") from None
    rows = []
    for number, ((prompt, response), split) in enumerate(zip(made, splits, strict=True)):
        source = f"{task}/{level}/{number + 1}"
        if number - held_out in wrong:
            response, source = wrong[number - held_out], source + WRONG
        rows.append({"prompt": prompt, "response": response, "split": split, "difficulty": level, "source": source})
    return rows


def convert(folder: str | Path, options: Options) -> tuple[list[Row], list[dict[str, str]], dict[str, Any]]:
    """Return rows, none that were left out, and counts."""
    require_version(folder)
    rows = []
    for task, levels in options.tasks.items():
        used: set[str] = set()
        for level, settings in enumerate(levels):
            rows += make_rows(task, level, settings, options, used)
    wrong = sum(row["source"].endswith(WRONG) for row in rows)
    read = f"{len(rows)} problems of {len(options.tasks)} tasks, {wrong} of them with a wrong answer"
    return rows, [], {"read": read, "rows": len(rows), "left_out": {}}
