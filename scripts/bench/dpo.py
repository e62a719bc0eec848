"""DPO on the same pairs as in tutorials, with TRL's DPOTrainer, or with Gradus: `python -m scripts.bench.dpo JOB.json`.

In: a job from scripts/bench/preference.py. Out: steps.json, the loss, margin and accuracy of each step, and
seconds.json. TRL's way shares no code with Gradus's training; both start from the same weights and adapter, and see
the same tokens.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from scripts.common.chat import read_contract
from scripts.common.io import read_json, read_jsonl, write_json, write_jsonl
from scripts.common.pairs import read_pair_steps
from scripts.train.train_phase import TrainParams, train_phase

Facts = list[dict[str, float]]


def tutorial(job: Mapping[str, Any]) -> tuple[Facts, float]:
    """Train with TRL's DPOTrainer and its defaults, but for what makes the two ways the same training: the prompts are
    the rendered ones, steps are in the file's order, and `batch` pairs are computed at a time.
    """
    torch.set_num_threads(job["threads"])
    tokenizer = AutoTokenizer.from_pretrained(job["base"])
    contract = read_contract(job["contract"])
    model = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.bfloat16)
    adapted = PeftModel.from_pretrained(model, job["adapter"], is_trainable=True)
    pairs = [pair for step in read_pair_steps(job["rows"]) for pair in step]
    rows = [
        {
            "prompt": contract.template.render(contract.ask(pair.record)),
            "chosen": pair.record.response,
            "rejected": pair.rejected,
        }
        for pair in pairs
    ]
    size = job["batch_size"]
    trainer = DPOTrainer(
        model=adapted,
        args=DPOConfig(
            output_dir=job["output"] + "/trainer",
            per_device_train_batch_size=job["batch"],
            gradient_accumulation_steps=size // job["batch"],
            num_train_epochs=1,
            learning_rate=job["learning_rate"],
            lr_scheduler_type=job["train"]["schedule"],
            warmup_steps=job["train"]["warmup_share"],
            max_grad_norm=job["train"]["max_gradient_norm"],
            beta=job["beta"],
            seed=job["seed"],
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            max_length=None,
            train_sampling_strategy="sequential",
            gradient_checkpointing=job["checkpointing"],
            precompute_ref_log_probs=job["precomputed"],
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    seconds = trainer.train().metrics["train_runtime"]
    lines = [line for line in trainer.state.log_history if "rewards/margins" in line]
    names = {"loss": "loss", "margin": "rewards/margins", "accuracy": "rewards/accuracies"}
    return [{name: float(line[key]) for name, key in names.items()} for line in lines], seconds


def ours(job: Mapping[str, Any]) -> tuple[Facts, float]:
    """Train with Gradus."""
    output = Path(job["output"])
    write_jsonl(output / "valid.jsonl", [])
    params = TrainParams(**job["train"])
    train_phase(
        rows=job["rows"],
        valid=output / "valid.jsonl",
        base=job["base"],
        contract_path=job["contract"],
        schedule={"measured": len(read_pair_steps(job["rows"]))},
        phase="measured",
        method="dpo",
        previous=Path(job["adapter"]).parent,
        seed=job["seed"],
        params=dataclasses.replace(params, learning_rate=job["learning_rate"], schedule_spans="phase"),
        work=output / "work",
        folder=output / "trained",
        history=output / "history.jsonl",
        summary=output / "summary.json",
        options={"beta": job["beta"]},
    )
    lines = list(read_jsonl(output / "history.jsonl"))
    return [{name: line[name] for name in ("loss", "margin", "accuracy")} for line in lines], lines[-1]["seconds"]


def main() -> None:
    """Train in the job's way."""
    job = read_json(sys.argv[1])
    steps, seconds = ours(job) if job["way"].startswith("ours") else tutorial(job)
    write_json(Path(job["output"]) / "steps.json", steps)
    (Path(job["output"]) / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
