"""What checks and quantization compute of a checkpoint layer by layer on the GPU, against the CPU in fp32.

`python -m scripts.gpu_check.checkpoints JOB.json`
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from scripts.common.device import choose_device, fast_dtype, secure_repeatability
from scripts.config.schema import default
from scripts.export.importance import measure
from scripts.fidelity.check_merge import answer_logits, diverge
from scripts.gpu_check.findings import Findings, run_job
from scripts.gpu_check.shapes import contract, make_records
from scripts.train.model import LoraParams, attach_adapter, load_base
from scripts.train.packing import encode

LIMIT = default("fidelity.merge_mean_kl") / 10  # nats: no gate may notice which device computed
IMPORTANCE = 0.05  # of a tensor's sums: the quantizer weighs errors by them


def write_adapter(base: Path, folder: Path, dora: bool) -> Path:
    """Write a LoRA adapter of random weights; return its folder."""
    model = attach_adapter(load_base(base, "cpu", "eager", False), LoraParams(8, 16, 0.0, "all-linear", dora), None, 1)
    numbers = torch.Generator().manual_seed(3)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            value.data = 0.02 * torch.randn(value.shape, generator=numbers)
    model.save_pretrained(folder)
    return folder


def check(job: dict[str, Any], findings: Findings) -> None:
    """Compare predictions and importance. `job`: `device`, `base`, `threads`."""
    torch.set_num_threads(job["threads"])
    base, device = Path(job["base"]), choose_device("cpu" if job["device"] == "cpu" else "auto")
    secure_repeatability(device)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    pairs = [encode(tokenizer, contract(), record) for record in make_records(base, 4, 96)]
    rows = [(asked + answer, len(asked)) for asked, answer in pairs]
    whole = [ids for ids, _ in rows]
    for what in ("base", "LoRA", "DoRA"):
        name = f"predictions layer by layer, {what}"
        with findings.trying(name):
            adapter = None if what == "base" else write_adapter(base, base.with_name(what), what == "DoRA")
            (cpu, slow), (gpu, fast) = (
                _timed(partial(list, answer_logits(base, adapter, rows, on))) for on in ("cpu", device)
            )
            far = diverge(cpu, gpu, rows)["mean_kl"]
            text = f"mean KL {far:.7f} from the CPU's (limit {LIMIT}); {fast:.1f} s, the CPU {slow:.1f} s"
            findings.add(name, far <= LIMIT, text, mean_kl=far, seconds=fast, cpu_seconds=slow)
    name = "importance"
    with findings.trying(name):
        kind = AutoConfig.from_pretrained(base, trust_remote_code=False).model_type
        exact, slow = _timed(partial(measure, base, whole, kind, torch.float32))
        found, fast = _timed(partial(measure, base, whole, kind, fast_dtype(device), device))
        far = max(((found[key] - sums).norm() / sums.norm()).item() for key, sums in exact.items())
        text = f"at most {far:.2%} from fp32 on the CPU (limit {IMPORTANCE:.0%}); {fast:.1f} s, the CPU {slow:.1f} s"
        findings.add(name, far <= IMPORTANCE, text, distance=far, seconds=fast, cpu_seconds=slow)
        again = measure(base, whole, kind, fast_dtype(device), device)
        same = all(torch.equal(again[key], sums) for key, sums in found.items())
        findings.add(f"{name}, again", same, f"{'the same' if same else 'NOT the same'} bits a second time")


def _timed(compute: partial[Any]) -> tuple[Any, float]:
    """Return what a function returns, and its seconds."""
    began = time.monotonic()
    return compute(), time.monotonic() - began


if __name__ == "__main__":
    run_job(check, sys.argv[1])
