"""The chat contract: how a request becomes a prompt, the same in training, evaluation, GGUF and Modelfile."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_json
from scripts.common.io import read_json, write_json
from scripts.common.records import Record
from scripts.common.template import ChatTemplate


@dataclass(frozen=True)
class ChatContract:
    """System prompt, chat template (Jinja) and special tokens.

    It has no fingerprint of the dataset: if it changed with every row, phases that never saw the row would be
    retrained.
    """

    system_prompt: str  # empty: no system message
    chat_template: str
    end_of_turn: str  # the token that ends an answer; it is trained, and it is the stop token in serving
    end_of_turn_id: int
    pad_token: str  # never the end-of-turn token: padding is masked, so the model would not learn to stop
    pad_token_id: int
    bos_token: str = ""  # available to the template; empty if the base has none

    @property
    def hash(self) -> str:
        """Return the contract's sha256."""
        return sha256_json(asdict(self))

    def messages(self, prompt: str, context: Sequence[Mapping[str, str]] = ()) -> list[dict[str, str]]:
        """Return the conversation that asks `prompt`, after the turns of `context`."""
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        return [*system, *map(dict, context), {"role": "user", "content": prompt}]

    def ask(self, record: Record) -> list[dict[str, str]]:
        """Return the conversation that asks a record. No other code decides what the model sees of a row."""
        return self.messages(record.prompt, record.context)

    @property
    def template(self) -> ChatTemplate:
        """Return the chat template, ready to render."""
        return ChatTemplate(self.chat_template, self.bos_token, self.end_of_turn)

    def require(self, place: str, chat_template: str | None, end_of_turn_id: int | None) -> None:
        """Raise GradusError unless the model file `place` has the contract's template and end of turn."""
        for what, found, expected in (
            ("chat template", chat_template, self.chat_template),
            ("end-of-turn token id", end_of_turn_id, self.end_of_turn_id),
        ):
            if found != expected:
                raise GradusError(
                    f"{place}: its {what} differs from the chat contract.\n  found: {found!r}\n"
                    f"  contract: {expected!r}\n"
                    "Prompts would differ from those in training. Delete the file and run again."
                )


def write_contract(path: str | Path, contract: ChatContract) -> None:
    """Write a contract with its hash."""
    write_json(path, {**asdict(contract), "hash": contract.hash})


def read_contract(path: str | Path) -> ChatContract:
    """Read a contract; raise GradusError if its hash does not match, which means that it was edited by hand."""
    fields = read_json(path)
    expected = fields.pop("hash", None)
    contract = ChatContract(**fields)
    if contract.hash != expected:
        raise GradusError(f"{path}: was edited by hand; delete it, change the config and run again")
    return contract
