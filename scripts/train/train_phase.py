"""Fine-tune one phase, starting from the previous phase's adapter.

In: the phase's rows or pairs in order, the schedule of all phases, held-out rows, the base to train on, the chat
contract, and the previous phase's folder (none for the first phase). Out: a folder with the adapter and the optimizer
state (both safetensors), the loss history and a summary. While it runs, it writes checkpoints to a work folder.
"""

import importlib.util
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoTokenizer
from trl import SFTConfig

from scripts.common.chat import read_contract
from scripts.common.code import code_fingerprint
from scripts.common.device import choose_device, describe_kernels, secure_repeatability, training_dtype
from scripts.common.hashing import sha256_file, sha256_folder, sha256_json
from scripts.common.io import atomic_path, read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.packages import installed_version
from scripts.common.records import read_records
from scripts.common.weights import require_whole
from scripts.train.callback import PhaseCallback
from scripts.train.checkpoint import Checkpoints, Progress, load_optimizer, save_trained
from scripts.train.loss import check_isolation
from scripts.train.methods import SFT, code_of, find_method
from scripts.train.model import LoraParams, attach_adapter, checkpoint_layers, choose_attention, load_base
from scripts.train.ranks import ALONE, Ranks, launch, run_rank
from scripts.train.reference import require_reference
from scripts.train.sft import heldout_loss, make_dataset
from scripts.train.shaping import not_shaping, shaping
from scripts.train.tracking import Tracking
from scripts.train.trainer import ADVICE, check_held_out, digest

RANK = "from scripts.train.train_phase import train_rank; train_rank()"  # not this file: as a job, it would train


@dataclass
class TrainParams:
    """The training settings; see config/schema.yaml, `train`."""

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
    base_weights: str
    attention: str
    backend: str
    neftune_alpha: float | None
    evaluate_every: int | None
    patience: int | None
    checkpoint_steps: int | None
    checkpoint_minutes: float
    memory_gib: float | None
    report_to: str
    optimizer: str = "adamw"
    device: str = "auto"
    gradient_checkpointing: bool | str = "auto"
    processes: int = 1
    keep: str = "best"  # which adapter, if there are several evaluations: best (lowest held-out loss) or last


def settle(params: TrainParams, estimated: str | Path) -> TrainParams:
    """Return the settings with `auto` replaced by what the estimate decided."""
    if params.gradient_checkpointing == "auto":
        return replace(params, gradient_checkpointing=read_json(estimated)["gradient_checkpointing"])
    return params


def schedule_position(schedule: Mapping[str, int], phase: str, spans: str) -> tuple[int, int]:
    """Return (first step, total steps) of `phase` in the learning-rate schedule: over all phases, or of its own.

    `schedule`: steps of each phase, in the order of training.
    """
    steps, here = list(schedule.values()), list(schedule).index(phase)
    return (sum(steps[:here]), sum(steps)) if spans == "all" else (0, steps[here])


def optimizer_name(wanted: str, device: str) -> str:
    """Return transformers' name of an optimizer in the config."""
    if wanted == "adamw8bit":
        return "adamw_bnb_8bit"
    return "adamw_torch_fused" if device == "cuda" else "adamw_torch"


def fingerprint(
    files: Mapping[str, str | Path | None], params: TrainParams, code: Sequence[str] = (), **more: Any
) -> str:
    """Return a hash of all that affects a phase's result: input contents, settings, code, libraries, device.

    `code`: what else is its code (`code_of`). Training resumes from a checkpoint only if its fingerprint is the same.
    """
    contents = {
        name: None if path is None else sha256_folder(path) if Path(path).is_dir() else sha256_file(path)
        for name, path in files.items()
    }
    packages = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
    device = choose_device(params.device)
    return sha256_json(
        {
            "files": contents,
            "settings": shaping(asdict(params)),
            "code": code_fingerprint("train/train_phase", *code),
            "packages": {name: installed_version(name) for name in packages},
            "kernels": describe_kernels(device, choose_attention(params.attention, device)),
            **more,
        }
    )[:16]


def preference_advice(phase: str, rate: float, against_reference: bool) -> str:
    """Return what to do if a phase of preference tuning fails; its settings are its own."""
    beta = "raise" if against_reference else "lower"  # without a reference, it is the weight of the odds ratio
    return f"Lower learning_rate of the phase {phase} in curriculum.phases (it is {rate:g}), or {beta} its beta."


def load_model(base: str | Path, adapter: Path | None, seed: int, params: TrainParams, device: str) -> Any:
    """Return the base with a trainable adapter: the one in the folder `adapter`, or a new one."""
    lora = LoraParams(**params.lora)
    if params.backend == "unsloth":
        from scripts.train.unsloth_backend import load_unsloth

        return load_unsloth(base, lora, adapter, seed, params.max_length, params.base_weights != "bf16")
    attention = choose_attention(params.attention, device)
    model = load_base(base, device, attention, packed=params.base_weights == "nf4-packed")
    adapted = attach_adapter(model, lora, adapter, seed)
    if params.gradient_checkpointing is True:
        checkpoint_layers(adapted)
    return adapted


def train_phase(
    rows: str | Path,
    valid: str | Path,
    base: str | Path,
    contract_path: str | Path,
    schedule: Mapping[str, int],
    phase: str,
    method: str,
    previous: str | Path | None,
    seed: int,
    params: TrainParams,
    work: str | Path,
    folder: str | Path,
    history: str | Path,
    summary: str | Path,
    tracked_as: str = "gradus/phase",
    ranks: Ranks = ALONE,
    options: Mapping[str, Any] | None = None,
    reference: str | Path | None = None,
    before: str | Path | None = None,
    max_growth: float | None = None,
) -> None:
    """Train one phase and write its folder (adapter, optimizer state), history and summary.

    `schedule`: steps of each phase, in training order; `method`: of methods.py; `base`: the checkpoint to train on
    (rounded to NF4, or not). `work` holds checkpoints while the phase runs; a killed phase resumes from the last one
    and ends with the same bytes. It is deleted when the phase is done. `tracked_as`: <run>/<phase>, for a tracker.
    `ranks`: the processes that share this training; the first one writes. `options`: those of the method; `reference`:
    what a preference phase's reference was, which must be `previous`; `before`: the summary of the phase that it goes
    on from, whose held-out loss must not grow to more than `max_growth` times as much (None: no matter).
    """
    began = time.time()
    imported = began - psutil.Process().create_time()  # since the process started
    torch.set_num_threads(params.threads)
    require_whole(base, *([previous] if previous else []))
    device = choose_device(params.device)
    secure_repeatability(device)
    contract = read_contract(contract_path)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    contract.require(str(base), tokenizer.chat_template, tokenizer.eos_token_id)
    functions = find_method(method)
    if reference:
        require_reference(reference, base, str(previous))
    planned = functions.read(rows)
    data = functions.make_dataset([item for step in planned for item in step], tokenizer, contract, params.max_length)
    steps = functions.make_steps(data, list(map(len, planned)))
    held_out = list(read_records(valid))
    check = make_dataset(held_out, tokenizer, contract, params.max_length) if held_out else None
    tokenized = time.time() - began
    files = {"rows": rows, "valid": valid, "base": base, "contract": contract_path, "previous": previous}
    order = list(schedule)
    more: dict[str, Any] = {"options": dict(options)} if options else {}
    more |= {"schedule": schedule, "order": order, "phase": phase, "method": method, "seed": seed}
    key = fingerprint(files, params, code_of(method), **more)
    checkpoints = Checkpoints(Path(work) / key)
    progress = checkpoints.newest() or Progress()
    resumed = progress.step
    logging.info("starting at step %d of the phase; checkpoints in %s", resumed, checkpoints.folder)

    start = checkpoints.path(resumed) if resumed else Path(previous) if previous else None
    model = load_model(base, start / "adapter" if start else None, seed, params, device)
    if params.micro_batch_tokens > 1:
        check_isolation(model, functions.single_rows(data, 3))
    ranks.require_same(
        "start differently: their GPUs or files are not the same. Let them have GPUs of one kind", key, resumed, model
    )
    loaded = time.time() - began - tokenized
    first_step, total_steps = schedule_position(schedule, phase, params.schedule_spans)
    tokens_per_step = [sum(map(len, step)) for step in steps["input_ids"]]
    remaining = steps.select([*range(min(resumed, len(steps)), len(steps))])  # an empty range would be an error

    def evaluate() -> float:
        return ranks.mean(lambda rows: heldout_loss(model, rows, params.micro_batch_tokens), check)

    told: dict[str, float] = {}
    advice = ADVICE if method == SFT else preference_advice(phase, params.learning_rate, functions.against_reference)

    grown = None
    if before and max_growth and check:
        loss_before = read_json(before)["heldout_loss"]
        grown = partial(check_held_out, before=loss_before, times=max_growth, advice=advice)

    with (
        tempfile.TemporaryDirectory() as scratch,
        atomic_path(history if ranks.first else Path(scratch) / "history" / "unused.jsonl") as losses,
    ):
        if resumed:
            shutil.copy(checkpoints.path(resumed) / "history.jsonl", losses)
        callback = PhaseCallback(
            losses,
            tokens_per_step,
            progress,
            checkpoints,
            evaluate if check else None,
            params.evaluate_every,
            params.patience,
            params.checkpoint_steps,
            params.checkpoint_minutes,
            params.keep == "best" and method == SFT,  # pairs are not learned for the sake of the held-out loss
            seed=seed * 1_000 + order.index(phase),
            ranks=ranks,
            told=told,
            advice=advice,
            guard_rewards=functions.against_reference,
            check_loss_grown=grown,
        )
        project, name = tracked_as.split("/", 1)
        before_this, _ = schedule_position(schedule, phase, "all")
        # another name for another result; after a kill, the same
        tracker = params.report_to if ranks.first else "none"
        tracking = Tracking(tracker, project, f"{name}-{key}", before_this + resumed)
        trainer = functions.trainer(
            model=model,
            args=SFTConfig(
                output_dir=scratch,
                seed=seed,
                use_cpu=device == "cpu",
                bf16=False,  # completion_loss uses autocast itself
                per_device_train_batch_size=1,  # an item is a whole step
                num_train_epochs=1,
                learning_rate=params.learning_rate,
                lr_scheduler_type=params.schedule,
                warmup_steps=params.warmup_share,
                weight_decay=params.weight_decay,
                max_grad_norm=params.max_gradient_norm,
                optim=optimizer_name(params.optimizer, device),
                # TRL's successor, `use_kernels`, fetches kernels from the Hub, and jobs have no network
                use_liger_kernel=device == "cuda" and importlib.util.find_spec("liger_kernel") is not None,
                train_sampling_strategy="sequential",
                gradient_checkpointing=False,
                remove_unused_columns=False,
                dataset_kwargs={"skip_prepare_dataset": True},
                max_length=None,
                save_strategy="no",
                logging_steps=1,
                report_to="none",  # `Tracking` does it
                project=project,
                run_name=f"{name}-{key}",
                dataloader_pin_memory=device == "cuda",
                disable_tqdm=None if ranks.first else True,
            ),
            train_dataset=remaining if len(remaining) else steps,
            processing_class=tokenizer,
            data_collator=functions.collate,
            callbacks=[callback, tracking],  # in this order: the first adds the held-out loss
            token_budget=params.micro_batch_tokens,
            first_step=first_step + resumed,
            total_steps=total_steps,
            digests=[digest(step) for step in remaining["input_ids"]],
            neftune_alpha=params.neftune_alpha,
            ranks=ranks,
            told=told,
            advice=advice,
            **(options or {}),
        )
        optimizer = trainer.create_optimizer()
        if start and (resumed or params.schedule_spans == "all"):
            load_optimizer(optimizer, start / "optimizer.safetensors")
        if len(remaining) and not progress.stopped_early:
            trainer.train()
        ranks.require_same("ended with different adapters. Please report this as a bug in Gradus.", model)
    if not ranks.first:
        return
    with atomic_path(folder) as part:
        part.mkdir()
        if progress.best_step in (None, progress.step):
            save_trained(model, optimizer, part)
        else:
            logging.info("keeping the adapter of step %d, which has the lowest held-out loss", progress.best_step)
            best = checkpoints.path(progress.best_step)
            shutil.copytree(best / "adapter", part / "adapter")
            shutil.copy(best / "optimizer.safetensors", part)
        shutil.copy(Path(base) / "base.json", part)  # which base the adapter belongs to: merge checks it
    tokens = sum(tokens_per_step[: progress.step])
    facts = {
        "phase": phase,
        "rows": sum(map(len, planned[: progress.step])),
        "steps": progress.step,
        "planned_steps": len(tokens_per_step),
        "kept_step": progress.best_step or progress.step,
        "resumed_at_step": resumed,
        "tokens": tokens,
        "heldout_loss": progress.best_loss,
        "heldout_rows": len(held_out),
        "seconds": {
            "all": round(imported + time.time() - began, 1),
            "imports": round(imported, 1),
            "tokenization": round(tokenized, 1),
            "model": round(loaded, 1),  # loading, and hashing for the fingerprint
            "steps": round(progress.seconds, 1),
        },
        "tokens_per_s": round(tokens / progress.seconds, 1),
        **({"method": method, "learning_rate": params.learning_rate, **(options or {})} if method != SFT else {}),
        "device": device,
        "dtype": str(training_dtype(device)).removeprefix("torch."),
        "contract": contract.hash,
        "fingerprint": key,
    }
    logging.info("%s", facts)
    write_json(summary, facts)
    shutil.rmtree(work, ignore_errors=True)


def train_in_processes(given: Mapping[str, Any], params: TrainParams, log: str | Path) -> None:
    """Train one phase in `params.processes` processes; `given`: what else `train_phase` takes."""
    launch(RANK, {**given, "params": asdict(params)}, params.processes, log)


def train_rank() -> None:
    """Train as one of these processes."""
    run_rank(lambda given, ranks: train_phase(**{**given, "params": TrainParams(**given["params"])}, ranks=ranks))


if job := find_job(globals()):
    os.environ["OMP_NUM_THREADS"] = str(job.params.train["threads"])
    steps_of = read_json(job.input.schedule)
    with logging_to(job.log[0]):
        settings = settle(TrainParams(**job.params.train, **not_shaping(job.config["train"])), job.input.estimate)
        given = {
            "rows": job.input.rows,
            "valid": job.input.valid,
            "base": job.input.base,
            "contract_path": job.input.contract,
            "schedule": {name: steps_of[name] for name in job.params.phases},
            "phase": job.wildcards.phase,
            "method": job.params.method,
            "options": dict(job.params.options),
            "reference": job.input.get("reference"),
            "before": job.input.get("before"),
            "max_growth": job.params.max_growth,
            "previous": job.input.previous or None,
            "seed": int(job.wildcards.seed),
            "work": job.params.work,
            "folder": job.output.folder,
            "history": job.output.history,
            "summary": job.output.summary,
            "tracked_as": "{run}/{arm}-{seed}-{phase}".format(**dict(job.wildcards)),
        }
        if settings.processes > 1:
            train_in_processes(given, settings, job.log[0])
        else:
            train_phase(**given, params=settings)
