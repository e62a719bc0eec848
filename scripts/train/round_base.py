"""Round the base's linear layers to NF4 and write the dequantized weights as a bf16 checkpoint.

In: the bf16 base. Out: a checkpoint folder of the same size, on which every phase trains.

These are the weights that bitsandbytes computes from its packed ones in every forward pass. Dequantizing them once,
not in every step, changes no bit (a test compares loss and gradients of both).
"""

import logging
import shutil
from pathlib import Path

import torch

from scripts.common.io import atomic_path
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.weights import require_whole
from scripts.train.device import choose_device
from scripts.train.model import load_base, unpack_nf4


def round_base(base: str | Path, output: str | Path, wanted: str = "auto") -> None:
    """Write the checkpoint `base` to the folder `output`, its linear layers rounded to NF4 with double quantization.

    `wanted`: `train.device`.
    """
    require_whole(base)
    before = load_base(base, "cpu", "eager", packed=False).state_dict()
    model = load_base(base, choose_device(wanted), "eager", packed=True)
    unpack_nf4(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor.cpu(), before[name])}
    logging.info("%d of %d tensors rounded", len(changed), len(before))
    with atomic_path(output) as part:
        model.save_pretrained(part)
        for file in sorted(Path(base).iterdir()):  # everything but the weights
            if file.is_file() and not (part / file.name).exists() and ".safetensors" not in file.name:
                shutil.copy(file, part / file.name)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.threads)
        round_base(job.input.base, job.output.rounded, job.config["train"]["device"])
