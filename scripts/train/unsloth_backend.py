"""Load the model with Unsloth, if it is installed (CUDA only). Untested; see docs/training.md."""

from pathlib import Path
from typing import Any

import torch

from scripts.common.errors import GradusError
from scripts.train.model import LoraParams, keep_adapter_fp32


def load_unsloth(
    base: str | Path, lora: LoraParams, adapter: Path | None, seed: int, max_length: int, four_bit: bool
) -> Any:
    """Return the base with a trainable adapter, with Unsloth's kernels. Raises GradusError if it cannot be used."""
    if lora.use_dora:
        raise GradusError("train.lora.use_dora: Unsloth does not support it; set train.backend: peft")
    try:
        from unsloth import FastLanguageModel
    except (ImportError, NotImplementedError) as error:  # the latter if there is no GPU
        raise GradusError(
            f"train.backend: unsloth cannot be used here ({error}). Install it with a CUDA build of torch, "
            "or set train.backend: peft."
        ) from None
    model, _ = FastLanguageModel.from_pretrained(
        str(adapter or base),
        max_seq_length=max_length,
        dtype=torch.bfloat16,
        trust_remote_code=False,
        load_in_4bit=four_bit,
    )
    if adapter is None:
        model = FastLanguageModel.get_peft_model(
            model,
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules,
            use_rslora=lora.use_rslora,
            random_state=seed,
        )
    keep_adapter_fp32(model)
    return model
