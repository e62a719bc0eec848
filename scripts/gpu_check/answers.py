"""What llama.cpp computes with all layers on the GPU, against the CPU; answers a second time; tokens a second.

`python -m scripts.gpu_check.answers JOB.json`. The weights are random and fp16: with quantized ones, CPU and GPU round
activations to 8 bits, each in its way, and a random model makes much of it.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType

from scripts.common.gpus import ALL, gpu_backends
from scripts.common.isolate import run_isolated
from scripts.config.schema import default
from scripts.gpu_check.findings import Findings, run_job
from scripts.setup.check_llama import LAYERS, VOCABULARY, WIDTH, write_random_model

LIMIT = default("fidelity.gguf_mean_kl")  # nats: as for transformers against llama.cpp
PROMPT, ANSWER = 200, 64  # tokens


def compute(path: str, vocabulary: int, count: int, threads: int, gpu_layers: int) -> dict[str, Any]:
    """Return the logits of four prompts, the answers to `count`, and tokens a second, prompts included."""
    from scripts.common.decode import Decoder

    numbers = np.random.default_rng(1)
    prompts = numbers.integers(0, vocabulary, (count, PROMPT)).tolist()
    decoder = Decoder(path, threads, 1, PROMPT + 1, gpu_layers)
    logits = np.concatenate([decoder.logits(prompt, 1) for prompt in prompts[:4]])
    decoder.close()
    decoder = Decoder(path, threads, 16, PROMPT + ANSWER + 1, gpu_layers)
    decoder.answer(prompts[:2], 2)  # loads the kernels
    began = time.monotonic()
    answers = decoder.answer(prompts, ANSWER)
    seconds = time.monotonic() - began
    decoder.close()
    return {"logits": logits, "answers": answers, "speed": len(prompts) * (PROMPT + ANSWER) / seconds}


def mean_kl(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean KL divergence in nats of two tables of logits, (positions, vocabulary)."""
    first, second = (table - np.logaddexp.reduce(table, -1, keepdims=True) for table in (one, other))
    return float((np.exp(first) * (first - second)).sum(-1).mean())


def check(job: dict[str, Any], findings: Findings) -> None:
    """Compare. `job`: `device`, `threads`, `output`, `small`: whether a tiny model will do."""
    device = "CPU"
    if job["device"] != "cpu":
        if "cuda" not in gpu_backends():
            findings.leave_out("answers with offload", "llama.cpp was built for CPUs only (`make CUDA=1` adds GPUs)")
            return
        device = "GPU"
    path = Path(job["output"]) / "random.gguf"
    vocabulary, count = (VOCABULARY, 4) if job["small"] else (32_000, 16)
    width, layers = (WIDTH, LAYERS) if job["small"] else (1024, 12)
    write_random_model(path, None, width, layers, vocabulary, GGMLQuantizationType.F16)
    what, offloaded = "answers with offload", ALL if device == "GPU" else 0
    with findings.trying(what):
        ways = [(0, "CPU"), (offloaded, device), (offloaded, device)]
        cpu, gpu, again = (
            run_isolated(f"answering on the {name}", compute, str(path), vocabulary, count, job["threads"], on)
            for on, name in ways
        )
        far = mean_kl(cpu["logits"], gpu["logits"])
        agree = float((cpu["logits"].argmax(-1) == gpu["logits"].argmax(-1)).mean())
        text = f"mean KL {far:.6f} from the CPU's predictions (limit {LIMIT}), the same first choice for {agree:.1%}"
        findings.add(what, far <= LIMIT, text, mean_kl=far, top1_agreement=agree)
        same = np.array_equal(gpu["logits"], again["logits"]) and gpu["answers"] == again["answers"]
        findings.add(
            f"{what}, again", same, "the same logits and answers" if same else "NOT the same logits or answers"
        )
        text = f"{gpu['speed']:,.0f} tokens/s, prompts included; {cpu['speed']:,.0f} on {job['threads']} threads"
        findings.add("answers, speed", None, text, gpu=gpu["speed"], cpu=cpu["speed"], threads=job["threads"])


if __name__ == "__main__":
    run_job(check, sys.argv[1])
