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
from scripts.common.records import Record, read_records
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
    """Return the gates' values and an example.

    The start of the answer is determined here from the text, independently of training: the prompt is what the template
    writes before the answer. Raises GradusError if there are no rows.
    """
    if not records:
        raise GradusError("no training rows; see split.json and score.json for where they went")
    data = label(records, tokenizer, contract, max_length)
    values = dict.fromkeys(("prompt_trained", "end_untrained", "padding_trained", "text_differs"), 0)
    trained = trained_tokens(data, 10**9)
    for record, row, pairs in zip(records, data, trained, strict=True):
        text = contract.template.render(contract.ask(record))
        begins = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        values["prompt_trained"] += sum(place < begins for place, _ in pairs)
        tokens = [token for _, token in pairs]
        values["end_untrained"] += tokens[-1:] != [contract.end_of_turn_id] or pairs[-1][0] != len(row["input_ids"]) - 1
        values["padding_trained"] += tokens.count(contract.pad_token_id)
        values["text_differs"] += tokenizer.decode(tokens[:-1], clean_up_tokenization_spaces=False) != record.response
    number = min(range(len(records)), key=lambda n: (len(data[n]["input_ids"]), records[n].id))  # the shortest row
    places = {place for place, _ in trained[number]}
    shown = [
        {"token": tokenizer.decode([token]), "id": token, "trained": place in places}
        for place, token in enumerate(data[number]["input_ids"])
    ]
    return {
        "values": {f"labels.{name}": value for name, value in values.items()},
        "rows": len(records),
        "tokens": sum(len(row["input_ids"]) for row in data),
        "trained_tokens": sum(map(len, trained)),
        "example": {"source": records[number].source, "tokens": shown},
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_json(
            job.output.facts,
            check_labels(
                list(read_records(job.input.records)),
                AutoTokenizer.from_pretrained(job.input.tokenizer, trust_remote_code=False),
                read_contract(job.input.contract),
                job.params.max_length,
            ),
        )
