"""Train all phases of one arm with one seed, and measure its loss on every held-out row. One training of an experiment.

In: what all trainings share (training, validation and held-out rows, scores, base, chat contract), and the plan. Out:
the adapter, the loss of each held-out row, the loss history over all phases, and a result with what was spent.

The phases run one after the other in this process, by the same functions as in rules `phase` and `train_phase`, with
the imports done once; an arm that is cut by tokens there, too, gives the same adapter to the byte. Phases that are done
stay in a work folder, and a killed training resumes from its last checkpoint.
"""

import gc
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from scripts.common.chat import ChatContract, read_contract
from scripts.common.curriculum import Curriculum, read_curriculum
from scripts.common.device import choose_device, secure_repeatability
from scripts.common.hashing import sha256_file
from scripts.common.io import atomic_path, read_json, read_jsonl, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.machine import describe_cpu
from scripts.common.records import Record, read_records, write_steps
from scripts.common.tokens import TokenCounter
from scripts.curriculum.arms import Arm, Dealer, budget, lay_out_phases, ledger, phase_steps
from scripts.curriculum.scorers import SCORERS, Known
from scripts.train.loss import row_losses
from scripts.train.packing import encode
from scripts.train.shaping import not_shaping
from scripts.train.train_phase import TrainParams, fingerprint, load_model, settle, train_phase


@dataclass
class Shared:
    """What all trainings of an experiment share."""

    train: list[Record]
    scores: Mapping[str, float]  # mixed difficulty score, by id
    lengths: Mapping[str, int]  # tokens of each training row, by id
    curriculum: Curriculum
    contract: ChatContract
    contract_path: str
    valid: str
    base: str


def relabel(train: Sequence[Record], values: Sequence[float]) -> list[Record]:
    """Return the rows with difficulties dealt by a scorer's values, the lowest first; equal values by id. Each level
    keeps its number of rows, so that two scorers differ only in which rows they call easy.
    """
    ranked = sorted(range(len(train)), key=lambda number: (values[number], train[number].id))
    levels = sorted(record.difficulty or 0 for record in train)
    dealt = dict(zip(ranked, levels, strict=True))
    return [replace(record, difficulty=dealt[number]) for number, record in enumerate(train)]


def measure_rows(
    base: str | Path, adapter: Path | None, contract: ChatContract, records: Sequence[Record], params: TrainParams
) -> list[float]:
    """Return the loss of each row's response, in nats a token, by the base with an adapter; None: a new one, which
    changes nothing yet.
    """
    device = choose_device(params.device)
    secure_repeatability(device)
    model = load_model(base, adapter, 0, params, device)
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    losses = row_losses(model, [encode(tokenizer, contract, record) for record in records])
    del model
    gc.collect()
    return losses


def train_arm(
    shared: Shared, arm: Arm, seed: int, batch_size: int, params: TrainParams, points: int, work: Path, tracked_as: str
) -> dict[str, dict[str, Any]]:
    """Train all phases in the folder `work`, each in a subfolder of its name; return {phase: its summary}.

    `points`: how often the validation loss is measured before the end, for the learning curve; `tracked_as`:
    <run>/<name>, for a tracker.
    """
    trained: Path | None = None

    def measure(rows: Sequence[Record]) -> list[float]:
        return measure_rows(shared.base, trained and trained / "adapter", shared.contract, rows, params)

    dealer = Dealer(seed, shared.lengths, shared.scores)
    reference = budget(shared.train, shared.curriculum, dealer, batch_size)
    schedule = phase_steps(arm, reference)
    every = max(1, sum(schedule.values()) // (points + 1)) if points else None
    methods = {phase.name: phase.method for phase in shared.curriculum.phases}
    summaries = {}
    phases = lay_out_phases(
        shared.train, arm, shared.curriculum, seed, batch_size, shared.lengths, shared.scores, measure
    )
    for phase, drawn in phases:
        # the run's own training cuts the curriculum by rows, and other arms by tokens; here all are cut alike
        steps = dealer.cut([row for step in drawn for row in step], len(drawn))
        folder = work / phase
        rows = folder / "rows.jsonl"
        if not (folder / "summary.json").is_file():
            write_jsonl(rows, write_steps(steps))
            train_phase(
                rows=rows,
                valid=shared.valid,
                base=shared.base,
                contract_path=shared.contract_path,
                schedule=schedule,
                phase=phase,
                method=methods[phase],
                previous=trained,
                seed=seed,
                params=replace(params, evaluate_every=every, patience=None, keep="last"),
                work=folder / "checkpoints",
                folder=folder / "trained",
                history=folder / "history.jsonl",
                summary=folder / "summary.json",
                tracked_as=f"{tracked_as}-{phase}",
            )
            gc.collect()
        trained = folder / "trained"
        exposures = ledger({phase: steps}, shared.curriculum, shared.lengths)[phase]
        summaries[phase] = {**read_json(folder / "summary.json"), "exposures": exposures}
    return summaries


def join_histories(work: Path, phases: Sequence[str]) -> list[dict[str, Any]]:
    """Return the lines of all phases' histories, with steps and tokens counted from the start of the first."""
    lines, steps, tokens = [], 0, 0
    for phase in phases:
        of_phase = list(read_jsonl(work / phase / "history.jsonl"))
        lines += [
            {**line, "phase": phase, "step": line["step"] + steps, "tokens": line["tokens"] + tokens}
            for line in of_phase
        ]
        steps, tokens = lines[-1]["step"], lines[-1]["tokens"]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


if job := find_job(globals()):
    os.environ["OMP_NUM_THREADS"] = str(job.params.train["threads"])
    began = time.time()
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.train["threads"])
        settings = settle(TrainParams(**job.params.train, **not_shaping(job.config["train"])), job.input.estimate)
        plan = read_json(job.input.plan)["hash"]
        records = list(read_records(job.input.train))
        contract = read_contract(job.input.contract)
        scores = {row["id"]: row["score"] for row in read_jsonl(job.input.scores) if row["split"] == "train"}
        if job.params.difficulty:
            tables = {"losses": {row["id"]: row for row in read_jsonl(job.input.losses)}} if job.input.losses else {}
            known = Known(job.params.rules, tables, corpus=records)
            values = SCORERS[job.params.difficulty](records, known)
            records = relabel(records, values)
            scores = dict(zip((record.id for record in records), values, strict=True))
        counted = TokenCounter(job.input.tokenizer, contract).count(records)
        shared = Shared(
            train=records,
            scores=scores,
            lengths={record.id: sum(both) for record, both in zip(records, counted, strict=True)},
            curriculum=read_curriculum(job.params.curriculum),
            contract=contract,
            contract_path=job.input.contract,
            valid=job.input.valid,
            base=job.input.base,
        )
        seed = int(job.wildcards.seed)
        key = fingerprint(
            {name: job.input[name] for name in ("base", "tokenizer")},
            settings,
            plan=plan,
            code_of_this=job.params.code,
            losses=sha256_file(job.input.losses) if job.input.losses else None,
        )
        work = Path(job.params.work) / key
        summaries = train_arm(
            shared,
            Arm(**job.params.arm),
            seed,
            job.params.train["batch_size"],
            settings,
            job.params.points,
            work,
            "{run}/{variant}-{arm}-{seed}".format(**dict(job.wildcards)),
        )
        last = work / list(summaries)[-1] / "trained"
        held_out = [row for path in job.input.held_out for row in read_records(path)]
        losses = measure_rows(job.input.base, last / "adapter", contract, held_out, settings)
        write_jsonl(
            job.output.losses,
            (
                {
                    "id": row.id,
                    "split": row.split,
                    "level": shared.curriculum.level(row.difficulty),
                    "group": row.group or row.thread,
                    "loss": round(loss, 6),
                }
                for row, loss in zip(held_out, losses, strict=True)
            ),
        )
        write_jsonl(job.output.history, join_histories(work, list(summaries)))
        with atomic_path(job.output.trained) as part:
            part.mkdir()
            shutil.copytree(last / "adapter", part / "adapter")
            shutil.copy(last / "base.json", part)
        seconds = [summary["seconds"] for summary in summaries.values()]
        result = {
            "plan": plan,
            "variant": job.wildcards.variant,
            "arm": job.wildcards.arm,
            "seed": seed,
            "steps": sum(summary["steps"] for summary in summaries.values()),
            "tokens": sum(summary["tokens"] for summary in summaries.values()),
            "longest_row": max(shared.lengths.values()),
            "exposures": {phase: summary["exposures"] for phase, summary in summaries.items()},
            "heldout_loss": list(summaries.values())[-1]["heldout_loss"],
            "adapter": sha256_file(last / "adapter" / "adapter_model.safetensors"),
        }
        write_json(job.output.result, result)
        spent = {
            "steps": round(sum(each["steps"] for each in seconds), 1),
            "imports": seconds[0]["imports"],
            "this_attempt": round(time.time() - began, 1),
            "cpu": describe_cpu()["name"],
        }
        logging.info("%s", spent)
        write_json(job.output.spent, spent)
    shutil.rmtree(Path(job.params.work), ignore_errors=True)
