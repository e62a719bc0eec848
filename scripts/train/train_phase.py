"""Fine-tune one phase, starting from the previous phase's adapter.

In: the phase's rows in order, the schedule of all phases, held-out rows, the bf16 base, the chat contract, the
previous phase's folder (none for the first). Out: a folder with the adapter and the optimizer's state
(safetensors both), the loss history and a summary.
"""

import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import SFTConfig

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.io import atomic_path, read_json, write_json
from scripts.common.logs import logging_to
from scripts.common.records import LEVELS, Record, read_records
from scripts.train.model import LoraParams, attach_adapter, load_base
from scripts.train.trainer import (
    IGNORED,
    History,
    PhaseTrainer,
    collate,
    completion_loss,
    encode,
    load_optimizer,
    micro_batches,
    save_optimizer,
)


@dataclass
class TrainParams:
    """See config/schema.yaml, `train`, for each."""

    threads: int
    lora: Mapping[str, Any]
    learning_rate: float
    schedule: str
    schedule_spans: str
    warmup_share: float
    weight_decay: float
    max_gradient_norm: float
    batch_size: int
    micro_batch_tokens: int
    max_length: int
    unpack_nf4: bool
    attention: str
    report_to: str


def choose_device() -> str:
    """Return the device to train on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def make_dataset(records: Sequence[Record], tokenizer: Any, contract: ChatContract, max_length: int) -> Dataset:
    """Return the rows as `input_ids` and `labels`: prompt masked, response and end of turn trained.

    Raises GradusError naming the first rows that are longer than `max_length` tokens: nothing is cut in silence.
    """
    rows, long = [], []
    for record in records:
        asked, answer = encode(tokenizer, contract, record.prompt, record.response)
        if len(asked) + len(answer) > max_length:
            long.append(f"{record.source} ({len(asked) + len(answer)} tokens)")
        rows.append({"input_ids": asked + answer, "labels": [IGNORED] * len(asked) + answer})
    if long:
        raise GradusError(
            f"{len(long)} rows are longer than train.max_length ({max_length} tokens): {', '.join(long[:3])} … "
            "Raise train.max_length (it costs memory), or take the rows out."
        )
    return Dataset.from_list(rows)


def heldout_loss(model: Any, rows: Dataset, pad_token_id: int, token_budget: int) -> float:
    """Return the mean loss per completion token, in nats, without a gradient."""
    model.eval()
    total, count = 0.0, 0
    lengths = [len(ids) for ids in rows["input_ids"]]
    with torch.no_grad():
        for group in micro_batches(lengths, token_budget):
            inputs = {k: v.to(model.device) for k, v in collate([rows[i] for i in group], pad_token_id).items()}
            total += completion_loss(model, inputs).item()
            count += int((inputs["labels"][:, 1:] != IGNORED).sum())
    model.train()
    return total / count


def schedule_position(schedule: Mapping[str, Mapping[str, int]], phase: str, spans: str) -> tuple[int, int]:
    """Return (first step, total steps) of `phase` in the learning-rate schedule: over all phases, or of its own."""
    steps = [schedule[name]["steps"] for name in LEVELS]
    here = LEVELS.index(phase)
    return (sum(steps[:here]), sum(steps)) if spans == "all" else (0, steps[here])


def train_phase(
    rows: str | Path,
    valid: str | Path,
    base: str | Path,
    contract_path: str | Path,
    schedule: Mapping[str, Mapping[str, int]],
    phase: str,
    previous: str | Path | None,
    seed: int,
    params: TrainParams,
    folder: str | Path,
    history: str | Path,
    summary: str | Path,
) -> None:
    """Train one phase and write its folder (adapter, optimizer state), history and summary."""
    began = time.monotonic()
    torch.set_num_threads(params.threads)
    device = choose_device()
    contract = read_contract(contract_path)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    contract.require(str(base), tokenizer.chat_template, tokenizer.eos_token_id)
    data = make_dataset(list(read_records(rows)), tokenizer, contract, params.max_length)
    held_out = list(read_records(valid))
    check = make_dataset(held_out, tokenizer, contract, params.max_length) if held_out else None
    model = load_base(base, device, params.attention, params.unpack_nf4)
    model = attach_adapter(model, LoraParams(**params.lora), Path(previous) / "adapter" if previous else None, seed)
    first_step, total_steps = schedule_position(schedule, phase, params.schedule_spans)
    lengths = [len(ids) for ids in data["input_ids"]]
    tokens_per_step = [sum(lengths[i : i + params.batch_size]) for i in range(0, len(lengths), params.batch_size)]
    with tempfile.TemporaryDirectory() as scratch, atomic_path(history) as losses:
        trainer = PhaseTrainer(
            model=model,
            args=SFTConfig(
                output_dir=scratch,
                seed=seed,
                use_cpu=device == "cpu",
                bf16=False,  # completion_loss does its own autocast
                per_device_train_batch_size=params.batch_size,
                num_train_epochs=1,
                learning_rate=params.learning_rate,
                lr_scheduler_type=params.schedule,
                warmup_steps=params.warmup_share,
                weight_decay=params.weight_decay,
                max_grad_norm=params.max_gradient_norm,
                optim="paged_adamw_8bit" if device == "cuda" else "adamw_torch",
                train_sampling_strategy="sequential",
                gradient_checkpointing=False,
                remove_unused_columns=False,
                dataset_kwargs={"skip_prepare_dataset": True},
                max_length=None,
                save_strategy="no",
                logging_steps=1,
                report_to=params.report_to,
                dataloader_pin_memory=device == "cuda",
            ),
            train_dataset=data,
            processing_class=tokenizer,
            data_collator=lambda rows: collate(rows, contract.pad_token_id),
            callbacks=[History(losses, tokens_per_step)],
            token_budget=params.micro_batch_tokens,
            first_step=first_step,
            total_steps=total_steps,
        )
        optimizer = trainer.create_optimizer()
        if previous and params.schedule_spans == "all":
            load_optimizer(optimizer, Path(previous) / "optimizer.safetensors")
        started = time.monotonic()
        trainer.train()
        trained = time.monotonic() - started
    loss = heldout_loss(model, check, contract.pad_token_id, params.micro_batch_tokens) if check else None
    with atomic_path(folder) as part:
        part.mkdir()
        model.save_pretrained(part / "adapter", safe_serialization=True)
        save_optimizer(optimizer, part / "optimizer.safetensors")
    facts = {
        "phase": phase,
        "rows": len(data),
        "steps": len(tokens_per_step),
        "tokens": sum(lengths),
        "heldout_loss": loss,
        "heldout_rows": len(held_out),
        "seconds": {"all": round(time.monotonic() - began, 1), "steps": round(trained, 1)},
        "tokens_per_s": round(sum(lengths) / trained, 1),
        "device": device,
        "contract": contract.hash,
    }
    logging.info("%s", facts)
    write_json(summary, facts)


if "snakemake" in globals():
    job = globals()["snakemake"]
    os.environ["OMP_NUM_THREADS"] = str(job.params.train["threads"])
    with logging_to(job.log[0]):
        train_phase(
            rows=job.input.rows,
            valid=job.input.valid,
            base=job.input.base,
            contract_path=job.input.contract,
            schedule=read_json(job.input.schedule),
            phase=job.wildcards.phase,
            previous=job.input.get("previous"),
            seed=int(job.wildcards.seed),
            params=TrainParams(**job.params.train),
            folder=job.output.folder,
            history=job.output.history,
            summary=job.output.summary,
        )
