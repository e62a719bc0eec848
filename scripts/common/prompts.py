"""The conversations that ask records: the chat contract's, with another system prompt or with solved examples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scripts.common.chat import ChatContract
from scripts.common.records import Record

Conversation = list[dict[str, str]]


def conversations(
    contract: ChatContract,
    records: Sequence[Record],
    system_prompt: str | None = None,
    shots: Mapping[str, Sequence[Record]] | None = None,
) -> list[Conversation]:
    """Return the conversation that asks each record.

    `system_prompt` replaces the contract's, "" leaves it out. `shots`: {id of a record: the examples that are shown
    before it, in this order}, as earlier turns of the conversation.
    """
    if system_prompt is not None:
        contract = replace(contract, system_prompt=system_prompt)
    return [
        contract.messages(record.prompt, [*_turns((shots or {}).get(record.id, ())), *record.context])
        for record in records
    ]


def _turns(examples: Sequence[Record]) -> Conversation:
    return [
        turn
        for example in examples
        for turn in (
            *example.context,
            {"role": "user", "content": example.prompt},
            {"role": "assistant", "content": example.response},
        )
    ]
