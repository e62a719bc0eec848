"""Merge an adapter into the unquantised base.

In: the bf16 base, the last phase's folder. Out: a checkpoint folder like the base's, in bf16.

Never into NF4 weights: that rounds twice and degrades the model (huggingface/peft#2321).
"""

import logging
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.common.errors import GradusError
from scripts.common.io import atomic_path
from scripts.common.logs import logging_to


def merge(base: str | Path, adapter: str | Path, output: str | Path) -> None:
    """Write base + adapter. The sum is taken in fp32 and rounded to bf16 once.

    Raises GradusError if no weight changed: the adapter would not be the one that was trained.
    """
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    before = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True).to(torch.bfloat16)
    after = merged.state_dict()
    changed = [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
    logging.info("%d of %d tensors changed", len(changed), len(before))
    if not changed:
        raise GradusError(f"{adapter}: merging it changed no weight; delete the training folder and run again")
    with atomic_path(output) as part:
        merged.save_pretrained(part, safe_serialization=True)
        AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(part)


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.threads)
        merge(job.input.base, Path(job.input.last) / "adapter", job.output.merged)
