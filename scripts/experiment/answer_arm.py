"""Let the model of one training answer the held-out rows with llama.cpp, and grade its answers.

In: the adapter, the bf16 base, the chat contract, the held-out rows. Out: answers and grades of all splits, one line
each. Merged checkpoint and GGUFs are as large as the base, so they are made in a temporary folder and not kept. The
quant is made without an importance matrix, which would take a pass over the training rows for each model.
"""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from scripts.common.answers import sample
from scripts.common.chat import read_contract
from scripts.common.generate import answer_records
from scripts.common.gpus import choose_layers
from scripts.common.io import read_jsonl, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import read_records
from scripts.common.strict_json import read_schema
from scripts.evaluate.answer import fit_prompts
from scripts.evaluate.grade import grade
from scripts.export.convert_gguf import convert
from scripts.export.merge import merge
from scripts.export.quantize import quantize
from scripts.tasks.table import load_task

if job := find_job(globals()):
    with logging_to(job.log[0]):
        folder = Path(job.params.work)
        shutil.rmtree(folder, ignore_errors=True)  # of a killed job
        folder.mkdir(parents=True)
        torch.set_num_threads(job.params.threads)
        layers = choose_layers(job.params.answer["gpu_layers"])
        contract = read_contract(job.input.contract)
        merge(job.input.base, job.input.trained, folder / "merged")
        convert(folder / "merged", job.params.origin, contract, folder / "bf16.gguf")
        gguf = folder / "bf16.gguf"
        if job.params.quant != "bf16":
            gguf = folder / f"{job.params.quant}.gguf"
            quantize(folder / "bf16.gguf", job.params.quant, None, contract, gguf)
        task = load_task(job.params.task)
        schema = read_schema(job.input.schema) if job.input.get("schema") else None
        trained = Counter(row["response"] for row in read_jsonl(job.input.train))
        answers: list[dict[str, Any]] = []
        grades: list[dict[str, Any]] = []
        for path in job.input.held_out:
            rows = list(read_records(path))
            if not rows:
                continue
            asked = sample(rows, job.params.max_rows[rows[0].split])
            prompts = fit_prompts(gguf, contract, asked, {}, False, [], job.params.answer["max_tokens"])[0]
            given = answer_records(gguf, asked, prompts, **{**job.params.answer, "gpu_layers": layers})[0]
            marks = grade(asked, given, task, schema, trained)[0]
            answers += [{**line, "split": rows[0].split} for line in given]
            grades += [{**line, "split": rows[0].split} for line in marks]
        write_jsonl(job.output.answers, answers)
        write_jsonl(job.output.grades, grades)
        shutil.rmtree(folder)
