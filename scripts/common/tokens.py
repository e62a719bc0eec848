"""How many tokens a row has, by the base's tokenizer and template; needs neither torch nor weights."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from scripts.common.chat import ChatContract
from scripts.common.records import Record


class TokenCounter:
    """Counts what training will see: the rendered conversation, the response and the end of turn."""

    def __init__(self, tokenizer: str | Path, contract: ChatContract) -> None:
        """Load `tokenizer.json` from the folder `tokenizer`; compile the template, in Jinja's sandbox."""
        self.tokenizer = Tokenizer.from_file(str(Path(tokenizer) / "tokenizer.json"))
        self.contract = contract
        environment: Environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        self.template = environment.from_string(contract.chat_template)

    def render(self, record: Record) -> str:
        """Return the text that asks a record, up to where the answer begins."""
        messages = self.contract.messages(record.prompt, record.context)
        return self.template.render(messages=messages, add_generation_prompt=True, eos_token=self.contract.end_of_turn)

    def count(self, records: Sequence[Record]) -> list[tuple[int, int]]:
        """Return (prompt tokens with the template's, response tokens with the end of turn) of each record."""
        texts = [text for record in records for text in (self.render(record), record.response)]
        lengths = [len(found) for found in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        return [(lengths[i], lengths[i + 1] + 1) for i in range(0, len(lengths), 2)]
