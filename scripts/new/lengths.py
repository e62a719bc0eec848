"""Count the tokens of rows with the base's tokenizer if it is on this machine, else estimate them from characters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml import YAMLError

from scripts.common.records import Record
from scripts.common.sources import fetched_sha256, folder_name, location, require_sha256
from scripts.config.reading import load_yaml

CHARACTERS = 3  # per token, if there is no tokenizer; English has four or five, so this estimate is conservative
TEMPLATE = 20  # tokens that a chat template adds to a prompt


@dataclass
class Lengths:
    """(prompt, response) tokens of each record, including system prompt and template, and the end of turn."""

    pairs: list[tuple[int, int]]
    exact: bool

    @property
    def longest(self) -> int:
        """Return the tokens of the longest row."""
        return max(asked + answer for asked, answer in self.pairs)

    @property
    def longest_answer(self) -> int:
        """Return the tokens of the longest answer."""
        return max(answer for _, answer in self.pairs)

    @property
    def usual(self) -> int:
        """Return the 99th percentile of the tokens of rows."""
        return sorted(asked + answer for asked, answer in self.pairs)[math.ceil(0.99 * len(self.pairs)) - 1]


def runs_on(base: Mapping[str, Any], root: Path) -> list[Path]:
    """Return the results folders of earlier runs on this base, identified by their resolved configs."""
    runs = []
    for file in sorted(root.glob("results/*/config.yaml")):
        try:
            config = load_yaml(file)
        except (OSError, UnicodeDecodeError, YAMLError):
            continue
        used = config.get("base_model") if isinstance(config, dict) else None
        if used and (used == base.get("alias") or (isinstance(used, dict) and used.get("source") == base["source"])):
            runs.append(file.parent)
    return runs


def find_tokenizer(base: Mapping[str, Any], root: Path) -> Path | None:
    """Return a folder with the base's tokenizer: from an earlier run, or extracted from the fetched base into .work.

    None if the base has not been fetched.
    """
    for run in runs_on(base, root):
        if (run / "tokenizer" / "tokenizer.json").is_file():
            return run / "tokenizer"
    source = base["source"]
    kept = root / ".work" / "tokenizers" / folder_name(source)
    if (kept / "tokenizer.json").is_file():
        return kept
    fetched = root / location(source)
    if not fetched.is_dir():
        return None
    from scripts.train.prepare_tokenizer import prepare  # imports transformers: seconds, so its result is kept

    require_sha256(fetched, fetched_sha256({"sha256": None, **base}))
    prepare(source, fetched, base.get("gguf"), base.get("pad_token"), kept)
    return kept


def measure(records: Sequence[Record], system_prompt: str, tokenizer: Path | None) -> Lengths:
    """Return the lengths of records with the given system prompt."""
    if tokenizer is None:
        pairs = [
            (
                math.ceil(len(system_prompt + record.asked) / CHARACTERS) + TEMPLATE,
                math.ceil(len(record.response) / CHARACTERS) + 1,
            )
            for record in records
        ]
        return Lengths(pairs, exact=False)
    from scripts.common.tokens import TokenCounter
    from scripts.data.chat_contract import make_contract

    return Lengths(TokenCounter(tokenizer, make_contract(tokenizer, system_prompt)).count(records), exact=True)


def round_up(value: float, step: int) -> int:
    """Return the next multiple of `step`."""
    return math.ceil(value / step) * step
