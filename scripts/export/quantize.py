"""Quantize a bf16 GGUF through llama.cpp.

In: the bf16 GGUF, the chat contract. Out: the quantized GGUF, reopened and checked.
"""

import logging
from pathlib import Path

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.gguf_info import require_contract
from scripts.common.io import atomic_path
from scripts.common.isolate import run_isolated
from scripts.common.logs import logging_to


def run_llama_quantize(source: str, target: str, quant: str, threads: int) -> int:
    """Call llama_model_quantize; return its code, 0 if all is well."""
    import llama_cpp

    from scripts.common.llama import quiet

    quiet()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quant}")
    params.nthread = threads
    return int(llama_cpp.llama_model_quantize(source.encode(), target.encode(), params))


def quantize(source: str | Path, quant: str, threads: int, contract: ChatContract, output: str | Path) -> None:
    """Write `source` quantized as `quant`, a llama.cpp type such as Q4_K_M."""
    with atomic_path(output) as part:
        code = run_isolated(f"quantizing {source}", run_llama_quantize, str(source), str(part), quant, threads)
        if code:
            raise GradusError(f"{source}: llama.cpp could not quantize it as {quant} (code {code})")
        facts = require_contract(part, contract)
        logging.info("%s bits a weight, parameters by type: %s", facts["bits_per_weight"], facts["parameters_by_type"])


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        quantize(
            job.input.gguf, job.wildcards.quant, job.params.threads, read_contract(job.input.contract), job.output.gguf
        )
