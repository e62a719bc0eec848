"""Merge an adapter into an unquantized checkpoint: the bf16 base, or, for comparison, the base rounded to NF4.

In: the checkpoint, the last phase's folder. Out: a checkpoint folder like the base's, in bf16.

Never merge into packed NF4 weights: this rounds twice and degrades the model (huggingface/peft#2321).
"""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from tqdm import tqdm

from scripts.common.empty_model import PREFIX, EmptyModel
from scripts.common.errors import GradusError
from scripts.common.io import atomic_path, read_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.weights import replace_tensors, require_whole

KEPT = (  # of the base's files, besides the weights; the converter identifies the tokenizer by them
    "config.json",
    "generation_config.json",
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


def merged_tensors(base: str | Path, adapter: str | Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, bf16 weights) of each tensor that an adapter changes, as PEFT merges it; one at a time is in memory.

    Raises GradusError if the adapter changes what cannot be merged.
    """
    empty = EmptyModel(base, adapter, torch.float32)
    adapted = [name for name, module in empty.model.named_modules() if isinstance(module, BaseTunerLayer)]
    # of embeddings and output layers, PEFT stores the unchanged weights as well
    known = {f"{PREFIX}{name}{end}" for name in adapted for end in ("", ".base_layer.weight", ".base_layer.bias")}
    if strange := sorted(name for name in empty.adapter if name.partition(".lora_")[0] not in known):
        raise GradusError(f"{adapter}: {strange[0]} is not of a LoRA layer of this base; only LoRA and DoRA are merged")
    ends = [empty.model.get_input_embeddings(), empty.model.get_output_embeddings()]
    for name in tqdm(adapted, desc="merge", unit="tensor", mininterval=1):
        target = f"{name}.weight"
        if target not in empty.base or (
            empty.model.get_submodule(name) in ends and empty.model.config.get_text_config().tie_word_embeddings
        ):
            raise GradusError(
                f"{adapter}: it changes {name}, whose weights this base shares with another layer or keeps under "
                "another name, so it cannot be merged; leave it out of train.lora.target_modules"
            )
        with empty.filled(name) as layer:
            layer.merge(safe_merge=True)
            yield target, layer.get_base_layer().weight.to(torch.bfloat16)


def merge(base: str | Path, trained: str | Path, output: str | Path) -> None:
    """Write the base merged with the adapter in the folder `trained`. The sum is fp32 and is rounded to bf16 once.

    The output has the base's files, in which only what the adapter changes is replaced. Raises GradusError if the
    adapter belongs to another base or cannot be merged, or if the checkpoint is packed.
    """
    require_same_base(base, trained)
    require_whole(base, trained)
    if "quantization_config" in read_json(Path(base) / "config.json"):
        raise GradusError(
            f"{base}: a quantized checkpoint; adapters are merged into unquantized weights only. Use the bf16 base"
        )
    with atomic_path(output) as part:
        part.mkdir()
        for file in sorted(Path(base).iterdir()):
            if file.name in KEPT or ".safetensors" in file.name:
                shutil.copyfile(file, part / file.name)
        replace_tensors(part, merged_tensors(base, Path(trained) / "adapter"))
    logging.info("merged into %s", base)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.threads)
        merge(job.input.base, job.input.last, job.output.merged)
