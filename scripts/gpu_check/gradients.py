"""The gradients of an adapter on the GPU, against those of the CPU in fp32, and NF4 as the CPU rounds it.

`python -m scripts.gpu_check.gradients JOB.json`

bf16 has 8 bits, so no two ways to compute give the same gradient. How far the CPU's own bf16 is from fp32 says what
is rounding.
"""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from scripts.common.device import choose_device, secure_repeatability, training_dtype
from scripts.common.preference import PreferencePhase
from scripts.config.schema import default
from scripts.gpu_check.findings import Findings, run_job
from scripts.gpu_check.shapes import contract, make_records
from scripts.train.loss import completion_loss, shares_beginnings
from scripts.train.model import LoraParams, attach_adapter, checkpoint_layers, choose_attention, load_base
from scripts.train.packing import collate, label, on, packs
from scripts.train.preference import OBJECTIVES, Step, grouped, log_probabilities

LORA = LoraParams(**default("train.lora"))
LIMIT = 0.05  # of the gradient's norm
PAIRS_LIMIT = 0.1  # the gradients of two answers cancel in part, and their rounding does not
BETA = PreferencePhase.beta


def gradient(
    base: Path, device: str, attention: str, packed: bool, checkpointing: bool, whole: bool, method: str | None = None
) -> torch.Tensor:
    """Return the adapter's gradient for a pack of four rows, as one fp32 vector on the CPU.

    `whole`: whether the model computes in fp32. `method`: dpo, orpo or kto, with a wrong answer to each row, as in the
    first step of a phase. The adapter's second matrices are random, as after some steps: with the zeros that they start
    from, the first ones would have no gradient.
    """
    model = load_base(base, device, attention, packed)
    model = attach_adapter(model.float() if whole else model, LORA, None, 1)
    if checkpointing:
        checkpoint_layers(model)
    numbers = torch.Generator().manual_seed(2)
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    for name, value in trained:
        if "lora_B" in name:
            value.data = (0.02 * torch.randn(value.shape, generator=numbers)).to(value.device)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    records = make_records(base, 4, 96)
    rows = label(records, tokenizer, contract(), 96)
    model.train()
    if method:  # the answer of another row is the wrong one
        wrong = [replace(one, response=records[n - 1].response) for n, one in enumerate(records)]
        both = zip(rows, label(wrong, tokenizer, contract(), 256), strict=True)
        groups = grouped(on(model.device, collate([row for pair in both for row in pair])), 2)
        for sums, counts, _ in log_probabilities(model, groups, 10**9):
            step = Step(counts[:, 0].float().mean().item())
            OBJECTIVES[method](sums, counts, sums.detach(), BETA, step)[0].mean().backward()
    else:
        for pack in packs(on(model.device, collate(rows)), 10**9, shares_beginnings(model)):
            (completion_loss(model, pack) / len(rows)).backward()
    return torch.cat([value.grad.flatten().float().cpu() for _, value in trained if value.grad is not None])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return ‖one − other‖ / ‖other‖; not a number where a gradient is not."""
    return ((one - other).norm() / other.norm()).item()


def check(job: dict[str, Any], findings: Findings) -> None:
    """Compare gradients. `job`: `device`, `base`, `packages`."""
    torch.set_num_threads(job["threads"])
    base, device = Path(job["base"]), choose_device("cpu" if job["device"] == "cpu" else "auto")
    kinds = {"bf16": (base, False)}
    if "bitsandbytes" in job["packages"]:
        from scripts.train.round_base import round_base

        rounded = base.with_name("rounded")
        with findings.trying("NF4 as on the CPU"):
            round_base(base, rounded, "cpu")
            kinds |= {"nf4": (rounded, False), "nf4-packed": (base, True)}
            other = base.with_name("rounded-on-gpu")
            round_base(base, other, "auto" if device == "cuda" else "cpu")
            _compare_rounding(rounded, other, findings)
    cpu = str(training_dtype("cpu")).removeprefix("torch.")

    @cache
    def reference(source: Path, method: str | None = None) -> tuple[torch.Tensor, float]:
        """Return the CPU's gradient in fp32, and how far its own bf16 is from it."""
        exact = gradient(source, "cpu", "rows", False, False, True, method)
        return exact, distance(gradient(source, "cpu", "rows", False, False, False, method), exact)

    def told(far: float, limit: float, usual: float) -> str:
        return f"{far:.2%} from fp32 on the CPU (limit {limit:.0%}; the CPU's own {cpu} {usual:.2%})"

    secure_repeatability(device)
    fastest = choose_attention("auto", device)
    for kind, (folder, packed) in kinds.items():
        plain: torch.Tensor | None = None
        source = rounded if kind != "bf16" else folder
        for attention, checkpointing in dict.fromkeys(((fastest, False), (fastest, True), ("rows", False))):
            name = f"gradients {kind}, {attention}" + (", checkpointing" if checkpointing else "")
            with findings.trying(name):
                exact, usual = reference(source)
                found = gradient(folder, device, attention, packed, checkpointing, False)
                far = distance(found, exact)
                text = told(far, LIMIT, usual)
                if checkpointing and plain is not None:
                    same = torch.equal(found, plain)
                    text += "; the same bits as without" if same else "; NOT the bits of the same without"
                    findings.add(name, far <= LIMIT and same, text, distance=far, cpu_bf16=usual, same_bits=same)
                else:
                    findings.add(name, far <= LIMIT, text, distance=far, cpu_bf16=usual)
                if not checkpointing and attention == fastest:
                    plain = found
                    again = gradient(folder, device, attention, packed, checkpointing, False)
                    same = torch.equal(again, found)
                    findings.add(f"{name}, again", same, f"{'the same' if same else 'NOT the same'} bits a second time")
        for method in OBJECTIVES:
            name = f"gradients of pairs ({method}) {kind}, {fastest}"
            with findings.trying(name):
                exact, usual = reference(source, method)
                far = distance(gradient(folder, device, fastest, packed, False, False, method), exact)
                text = told(far, PAIRS_LIMIT, usual)
                findings.add(name, far <= PAIRS_LIMIT, text, distance=far, cpu_bf16=usual)


def _compare_rounding(one: Path, other: Path, findings: Findings) -> None:
    """Tell how many weights the GPU rounds to another number than the CPU."""
    differ = count = 0
    largest = 0.0
    for file in sorted(one.glob("*.safetensors")):
        theirs = load_file(other / file.name)
        for name, value in load_file(file).items():
            count += value.numel()
            if not torch.equal(value, theirs[name]):
                differ += int((value != theirs[name]).sum())
                largest = max(largest, (value.float() - theirs[name].float()).abs().max().item())
    share = differ / count
    text = f"{differ:,} of {count:,} weights differ ({share:.2e}), by {largest:.1e} at most"
    findings.add("NF4 as on the CPU", share < 1e-3, text, share=share, largest=largest)


if __name__ == "__main__":
    run_job(check, sys.argv[1])
