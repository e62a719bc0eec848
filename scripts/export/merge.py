"""Merge an adapter into an unquantized checkpoint: the bf16 base, or, for comparison, the base rounded to NF4.

In: the checkpoint, the last phase's folder. Out: a checkpoint folder like the base's, in bf16.

Never merge into packed NF4 weights: this rounds twice and degrades the model (huggingface/peft#2321).
"""

import logging
import shutil
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from scripts.common.errors import GradusError
from scripts.common.io import atomic_path, read_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.weights import require_whole

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "tokenizer.model",
)


def require_same_base(base: str | Path, trained: str | Path) -> None:
    """Raise GradusError unless the adapter in the folder `trained` was trained for the model in `base`."""
    card = Path(trained) / "base.json"
    if not card.is_file():
        raise GradusError(
            f"{trained}: no base.json, so the base of this adapter is unknown; delete the folder and run again"
        )
    wanted, given = read_json(Path(base) / "base.json"), read_json(card)
    if wanted != given:
        differs = ", ".join(f"{k} {given.get(k)!r} instead of {v!r}" for k, v in wanted.items() if given.get(k) != v)
        raise GradusError(
            f"{trained}: this adapter was trained for another base ({differs}); merged into this one, it would produce "
            "nonsense. Delete the training folder and run again."
        )


def merge(base: str | Path, trained: str | Path, output: str | Path) -> None:
    """Write the base merged with the adapter in the folder `trained`. The sum is fp32 and is rounded to bf16 once.

    Raises GradusError if the adapter belongs to another base, or if the checkpoint is packed.
    """
    require_same_base(base, trained)
    require_whole(base, trained)
    if "quantization_config" in read_json(Path(base) / "config.json"):
        raise GradusError(
            f"{base}: a quantized checkpoint; adapters are merged into unquantized weights only. Use the bf16 base"
        )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    adapted = PeftModel.from_pretrained(model, str(Path(trained) / "adapter"))
    merged = adapted.merge_and_unload(safe_merge=True).to(torch.bfloat16)
    merged.config.dtype = torch.bfloat16
    with atomic_path(output) as part:
        merged.save_pretrained(part)
        for name in TOKENIZER:  # the base's own files, unchanged: the converter identifies the tokenizer by them
            if (Path(base) / name).is_file():
                shutil.copyfile(Path(base) / name, part / name)
    logging.info("merged into %s", base)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.threads)
        merge(job.input.base, job.input.last, job.output.merged)
