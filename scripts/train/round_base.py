"""Round the base's linear layers to NF4 and write the dequantized weights as a bf16 checkpoint.

In: the bf16 base. Out: a checkpoint folder of the same size, on which every phase trains.

These are the weights that bitsandbytes computes from its packed ones in every forward pass. Dequantizing them once,
not in every step, changes no bit (a test compares loss and gradients of both). One tensor at a time is in memory.
"""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from tqdm import tqdm
from transformers import BitsAndBytesConfig
from transformers.quantizers import AutoHfQuantizer

from scripts.common.device import choose_device
from scripts.common.empty_model import EmptyModel
from scripts.common.errors import GradusError
from scripts.common.io import atomic_path
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.weights import replace_tensors, require_whole


def rounded_tensors(base: str | Path, wanted: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, bf16 weights) of each tensor that transformers would pack, rounded to NF4. `wanted`: `train.device`.

    Raises GradusError if the base keeps such a tensor under another name.
    """
    empty, device = EmptyModel(base, None, torch.bfloat16), choose_device(wanted)
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    AutoHfQuantizer.from_config(nf4).preprocess_model(empty.model, device_map={"": device})
    layers = {name: module.weight for name, module in empty.model.named_modules() if isinstance(module, Linear4bit)}
    logging.info("rounding %d of %d tensors", len(layers), len(empty.base))
    for name, shape in tqdm(layers.items(), desc="round_base", unit="tensor", mininterval=1):
        target = f"{name}.weight"
        if target not in empty.base:
            raise GradusError(f"{base}: no {target} in its files; set train.base_weights: bf16")
        parameter: Any = Params4bit(empty.read(target), requires_grad=False, **vars(shape))
        packed = parameter.to(device)
        yield target, bnb.functional.dequantize_4bit(packed.data, packed.quant_state).to(torch.bfloat16).cpu()


def round_base(base: str | Path, output: str | Path, wanted: str = "auto") -> None:
    """Write the checkpoint `base` to the folder `output`, its linear layers rounded to NF4 with double quantization.

    `wanted`: `train.device`.
    """
    require_whole(base)
    with atomic_path(output) as part:
        part.mkdir()
        for file in sorted(Path(base).iterdir()):
            if file.is_file() and not file.name.startswith("."):
                shutil.copyfile(file, part / file.name)
        replace_tensors(part, rounded_tensors(base, wanted))


if job := find_job(globals()):
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.threads)
        round_base(job.input.base, job.output.rounded, job.config["train"]["device"])
