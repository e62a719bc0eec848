"""Check which tokens the loss is computed on, for every training row, with the code that training uses.

In: training rows, the base's tokenizer, the chat contract. Out: the gates' values (prompt tokens masked, end of turn
trained, padding masked, trained tokens spell the response), and one row token by token for the report.
"""

from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.io import write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.parallel import chunks
from scripts.common.records import Record, StoredRecords
from scripts.train.packing import IGNORED, collate, label, packs


def trained_tokens(data: Any, budget: int) -> list[list[tuple[int, int]]]:
    """Return, for each row on its own, the (position, token) pairs that the loss is computed on.

    The position is that of the predicted token. Rows are packed with the code that training uses.
    """
    pairs = []
    for row in data:
        (packed,) = packs(collate([row]), budget, False)
        targets = packed.targets.tolist()
        pairs.append([(place + 1, token) for place, token in enumerate(targets) if token != IGNORED])
    return pairs


def check_labels(records: Sequence[Record], tokenizer: Any, contract: ChatContract, max_length: int) -> dict[str, Any]:
    """Return the gates' values and an example, the shortest row. Rows are read a thousand at a time.

    The start of the answer is determined here from the text, independently of training: the prompt is what the template
    writes before the answer. Raises GradusError if there are no rows.
    """
    if not records:
        raise GradusError("no training rows; see split.json and score.json for where they went")
    values = dict.fromkeys(("prompt_trained", "end_untrained", "padding_trained", "text_differs"), 0)
    read = learned = 0
    shortest: tuple[int, str] | None = None  # row: its tokens and its id
    example: dict[str, Any] = {}
    for part in chunks(records, 1000):
        data = label(part, tokenizer, contract, max_length)
        for record, row, pairs in zip(part, data, trained_tokens(data, 10**9), strict=True):
            text = contract.template.render(contract.ask(record))
            begins = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            places, tokens = [place for place, _ in pairs], [token for _, token in pairs]
            ids = row["input_ids"]
            values["prompt_trained"] += sum(place < begins for place in places)
            values["end_untrained"] += tokens[-1:] != [contract.end_of_turn_id] or places[-1] != len(ids) - 1
            values["padding_trained"] += tokens.count(contract.pad_token_id)
            answer = tokenizer.decode(tokens[:-1], clean_up_tokenization_spaces=False)
            values["text_differs"] += answer != record.response
            read, learned = read + len(ids), learned + len(tokens)
            if shortest is None or (len(ids), record.id) < shortest:
                shortest = len(ids), record.id
                example = {
                    "source": record.source,
                    "tokens": [
                        {"token": tokenizer.decode([token]), "id": token, "trained": place in places}
                        for place, token in enumerate(ids)
                    ],
                }
    return {
        "values": {f"labels.{name}": value for name, value in values.items()},
        "rows": len(records),
        "tokens": read,
        "trained_tokens": learned,
        "example": example,
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_json(
            job.output.facts,
            check_labels(
                StoredRecords(job.input.records),
                AutoTokenizer.from_pretrained(job.input.tokenizer, trust_remote_code=False),
                read_contract(job.input.contract),
                job.params.max_length,
            ),
        )
