"""QLoRA as in tutorials: SFTTrainer, NF4, dropout 0.05, prompt and completion columns.

`python -m scripts.bench.tutorial JOB.json`. In: a job from scripts/bench/training.py. Out: the adapter and
seconds.json. It is as simple as the code that people copy, and shares no code with Gradus's own training.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Train with the job's settings."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    tokenizer = AutoTokenizer.from_pretrained(job["base"])
    model = AutoModelForCausalLM.from_pretrained(
        job["base"],
        dtype=torch.bfloat16,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
    )
    rows = [
        {
            "prompt": [{"role": "system", "content": job["system_prompt"]}, {"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["response"]}],
        }
        for row in job["rows"]
    ]
    # the library's default recomputes the forward pass to save memory; the tuned variant turns this off
    checkpointing = False if job["tuned"] else SFTConfig.gradient_checkpointing
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=job["output"] + "/trainer",
            per_device_train_batch_size=job["batch_size"],
            num_train_epochs=1,
            learning_rate=job["learning_rate"],
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            seed=job["seed"],
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            completion_only_loss=True,
            gradient_checkpointing=checkpointing,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=job["rank"],
            lora_alpha=job["alpha"],
            lora_dropout=0.0 if job["tuned"] else 0.05,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    seconds = trainer.train().metrics["train_runtime"]
    trainer.save_model(job["output"] + "/adapter")
    Path(job["output"], "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
