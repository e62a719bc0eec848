"""The model to train: NF4 base and LoRA adapter, with safeguards for their number formats."""

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import scripts.train.attention  # noqa: F401 (registers `rows`)
from scripts.common.device import training_dtype
from scripts.common.errors import GradusError
from scripts.train.fused import fuse_lora


@dataclass
class LoraParams:
    """Shape of the adapter; see config/schema.yaml, `train.lora`."""

    rank: int
    alpha: float
    dropout: float
    target_modules: str | list[str]
    use_dora: bool = False
    use_rslora: bool = False


def choose_attention(wanted: str, device: str) -> str:
    """Return the attention kernel: `wanted`, or for `auto` the fastest one available.

    On CPUs that is our own `rows` (docs/training.md).
    """
    if wanted != "auto":
        return wanted
    if device == "cpu":
        return "rows"
    return "flash_attention_2" if importlib.util.find_spec("flash_attn") else "sdpa"


def load_base(base: str | Path, device: str, attention: str, packed: bool) -> Any:
    """Return a checkpoint in bf16, or in fp32 on a CPU without instructions for bf16; with `packed`, its linear layers
    are in NF4 with double quantization.
    """
    dtype = training_dtype(device)
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=dtype,
        quantization_config=four_bit if packed else None,
        device_map={"": device},
        attn_implementation=attention,
        trust_remote_code=False,
        use_safetensors=True,
    )
    if packed:
        keep_autograd_path(model)
        round_unpacked(model)
    return model


def round_unpacked(model: torch.nn.Module) -> None:
    """Have packed weights unpacked to bf16 whatever computes: those of the base that `round_base` writes."""
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            state.dtype = torch.bfloat16


def keep_autograd_path(model: torch.nn.Module) -> int:
    """Stop bitsandbytes from repacking 4-bit weights during evaluation; return how many layers are affected.

    On CPUs with AVX512-BF16, a forward pass without gradients repacks the weights for a kernel that has no backward
    pass. Training then continues with wrong gradients and no error. See docs/training.md.
    """
    from bitsandbytes.nn import Linear4bit  # only packed bases need it

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def lora_config(lora: LoraParams) -> LoraConfig:
    """Return PEFT's config of the adapter."""
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        task_type="CAUSAL_LM",
    )


def attach_adapter(model: Any, lora: LoraParams, previous: str | Path | None, seed: int) -> Any:
    """Return the model with a trainable adapter: a new one, or the previous phase's.

    Adapter weights are fp32; autocast computes in bf16 where the base is in bf16. See `keep_adapter_fp32`.
    """
    if previous is not None:
        logging.info("continuing from the adapter in %s", previous)
        adapted = PeftModel.from_pretrained(model, previous, is_trainable=True)
    else:
        torch.manual_seed(seed)
        adapted = get_peft_model(model, lora_config(lora))
    keep_adapter_fp32(adapted)
    vars(adapted)["needs_autocast"] = not fuse_lora(adapted)
    return adapted


def checkpoint_layers(model: Any) -> None:
    """Keep only each decoder layer's input for the backward pass, and compute the layer again there: the same bits,
    less memory, a third more time.
    """
    causal = model.get_base_model()
    if not causal.supports_gradient_checkpointing:
        raise GradusError(
            f"{type(causal).__name__} has no gradient checkpointing; set train.gradient_checkpointing: false"
        )
    causal.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})


def keep_adapter_fp32(model: torch.nn.Module) -> None:
    """Keep adapter weights, and so Adam's moments, in fp32, and leave casting to autocast.

    In bf16 the moments would hardly change: 8 bits of precision cannot represent a change of 0.1%. PEFT would also
    cast every layer's input to the adapter's type, and autocast would cast it back.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            setattr(module, "cast_input_dtype_enabled", False)  # noqa: B010 (typed as a module's attribute)
