"""Let the validation rows decide how many examples a model is shown, and how these are chosen.

In: a GGUF, the validation rows, the training rows and neighbors, the chat contract. Out: examples.json: {count, choose}
of the best, and what each one tried reached by the task's main metric.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scripts.common.answers import Answer, read_training, sample
from scripts.common.chat import read_contract
from scripts.common.errors import GradusError
from scripts.common.generate import answer_all
from scripts.common.gpus import choose_layers
from scripts.common.io import write_json
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.models import every
from scripts.common.records import Record, read_records
from scripts.common.shots import CHOICES, Shots, read_neighbors, shots
from scripts.evaluate.answer import fit_prompts
from scripts.evaluate.grammar import find_grammar
from scripts.tasks.table import load_task
from scripts.tasks.task import Task


def choose_examples(
    task: Task,
    records: Sequence[Record],
    train: Sequence[Record],
    neighbors: Mapping[str, Sequence[str]],
    examples: Mapping[str, Any],
    ask: Callable[[Sequence[Shots]], Sequence[Answer]],
) -> dict[str, Any]:
    """Return {count, choose, tried}: the best by the task's main metric; of equally good ones the one with the fewest
    examples, then `fixed`, whose answers are the cheapest.

    `examples`: count and choose, each a value or a list. `ask` answers `records` after the examples that it is given,
    in versions (shots.py).
    Raises GradusError if there are no records to decide by, or too few training rows.
    """
    if not records:
        raise GradusError(
            "there are no validation rows to decide about examples.count and examples.choose; give one value for each, "
            "or set split.valid_share above 0"
        )
    settings = [
        (count, choose)
        for count in sorted(every(examples["count"]))
        for choose in sorted(every(examples["choose"]), key=CHOICES.index)
    ]
    # all answers before the first grade: a metric may load a model, and answering forks this process
    answers = [ask(shots(records, train, neighbors, *setting)) for setting in settings]
    tried = []
    for (count, choose), given in zip(settings, answers, strict=True):
        graded = [(record, said.text, said.stopped) for record, said in zip(records, given, strict=True)]
        tried.append({"count": count, "choose": choose, **task.average(task.headline, graded)})
    best = max(tried, key=lambda row: row["value"] or 0)
    return {"count": best["count"], "choose": best["choose"], "metric": task.headline, "tried": tried}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        settings, options = dict(job.params.answer), job.params.options
        settings["gpu_layers"] = choose_layers(settings["gpu_layers"])
        rows = sample(list(read_records(job.input.records)), settings.pop("max_rows"))
        contract = read_contract(job.input.contract)
        gguf, grammar = job.input.gguf, find_grammar(options.get("constrained"), job.input)

        def ask(shown: Sequence[Shots]) -> list[Answer]:
            """Answer the rows after as many of these examples as fit."""
            own, room = job.params.own_template, settings["max_tokens"]
            prompts, _ = fit_prompts(gguf, contract, rows, options, own, shown, room)
            names = [row.source or row.id for row in rows]
            return run_isolated(
                f"answering with {gguf}", answer_all, str(gguf), prompts, grammar=grammar, names=names, **settings
            )

        near = read_neighbors(job.input.neighbors) if job.input.get("neighbors") else {}
        training = read_training(job.input.train)
        write_json(
            job.output.examples,
            choose_examples(
                load_task(job.params.task, job.params.headline), rows, training, near, options["examples"], ask
            ),
        )
