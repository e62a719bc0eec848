"""The same job with LLaMA-Factory, in a separate environment (envs/llamafactory.in).

`python -m scripts.bench.llamafactory JOB.json`, as for scripts/bench/tutorial.py. Only the settings that the job fixes
are set (rows, batch, rank, learning rate, NF4, template, no dropout); the others are LLaMA-Factory's defaults.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.common.io import read_json


def main() -> None:
    """Write the dataset and the config, train, and write adapter and seconds where the benchmark expects them."""
    job = read_json(sys.argv[1])
    output = Path(job["output"]).resolve()
    rows = [
        {"instruction": row["prompt"], "output": row["response"], "system": job["system_prompt"]} for row in job["rows"]
    ]
    (output / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    columns = {"prompt": "instruction", "response": "output", "system": "system"}
    (output / "dataset_info.json").write_text(
        json.dumps({"rows": {"file_name": "rows.json", "columns": columns}}), encoding="utf-8"
    )
    config = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": str(Path(job["base"]).resolve()),
        "template": job["llamafactory_template"],
        "finetuning_type": "lora",
        "lora_target": "all",
        "lora_rank": job["rank"],
        "lora_alpha": job["alpha"],
        "lora_dropout": 0.0,
        "quantization_bit": 4,
        "quantization_method": "bnb",
        "dataset": "rows",
        "dataset_dir": str(output),
        "cutoff_len": 1024,
        "output_dir": str(output / "adapter"),
        "overwrite_output_dir": True,
        "per_device_train_batch_size": job["batch_size"],
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 1.0,
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.05,
        "bf16": True,
        "use_cpu": True,
        "seed": job["seed"],
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
    }
    # JSON is valid YAML; this version cannot read a config named .json
    (output / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    subprocess.run([job["llamafactory"], "train", str(output / "config.yaml")], check=True, stdin=subprocess.DEVNULL)
    seconds = read_json(output / "adapter" / "train_results.json")["train_runtime"]
    shutil.copy(output / "adapter" / "train_results.json", output)
    (output / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
