"""Count a row's tokens with the base's tokenizer and template; needs neither torch nor weights."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from scripts.common.chat import ChatContract
from scripts.common.records import Record


class TokenCounter:
    """Counts the tokens that training sees: the rendered conversation, the response and the end of turn."""

    def __init__(self, tokenizer: str | Path, contract: ChatContract) -> None:
        """Load `tokenizer.json` from the folder `tokenizer` and compile the template."""
        self.tokenizer = Tokenizer.from_file(str(Path(tokenizer) / "tokenizer.json"))
        self.contract = contract
        self.template = contract.template

    def render(self, record: Record) -> str:
        """Return the text that asks a record, up to where the answer begins."""
        return self.template.render(self.contract.ask(record))

    def encode(self, record: Record) -> tuple[list[int], list[int]]:
        """Return (prompt ids, completion ids) of a record; the completion includes the end of turn."""
        asked, answer = (
            self.tokenizer.encode(text, add_special_tokens=False).ids for text in (self.render(record), record.response)
        )
        return asked, [*answer, self.contract.end_of_turn_id]

    def count_answers(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each answer, with end of turn."""
        return [len(encoded) + 1 for encoded in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def count(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        """Return (prompt tokens with template, response tokens with end of turn) of each record."""
        texts = [text for record in records for text in (self.render(record), record.response)]
        lengths = [len(encoded) for encoded in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        return [(lengths[i], lengths[i + 1] + 1) for i in range(0, len(lengths), 2)]
