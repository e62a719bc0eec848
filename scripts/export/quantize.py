"""Quantize a bf16 GGUF with llama.cpp.

In: the bf16 GGUF, the importance matrix or none, the chat contract. Out: the quantized GGUF, reopened and checked;
the same bytes as from `llama-quantize --imatrix importance.gguf`.
"""

import ctypes
import logging
from pathlib import Path
from typing import Any

import numpy as np

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.gguf_info import open_gguf, require_contract
from scripts.common.io import atomic_path
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to

THREADS = 1  # each quant is a separate job, and they run in parallel


def read_imatrix(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str | int]]:
    """Return ({tensor: mean squared inputs, fp32}, metadata for the quantized file) of an imatrix file."""
    reader = open_gguf(path)
    tensors = {tensor.name: np.array(tensor.data, np.float32) for tensor in reader.tensors}
    means = {}
    for name, sums in tensors.items():
        if name.endswith(".in_sum2"):
            counts = tensors[name.removesuffix("in_sum2") + "counts"]
            means[name.removesuffix(".in_sum2")] = (sums.reshape(counts.size, -1) / counts.reshape(-1, 1)).ravel()

    def value(key: str) -> Any:
        field = reader.get_field(key)
        return field.contents() if field else None

    about = {
        "quantize.imatrix.file": Path(path).name,
        "quantize.imatrix.dataset": value("imatrix.datasets")[0],
        "quantize.imatrix.entries_count": len(means),
        "quantize.imatrix.chunks_count": int(value("imatrix.chunk_count")),
    }
    return means, about


def run_llama_quantize(source: str, target: str, quant: str, imatrix: str | None) -> int:
    """Call llama_model_quantize; return its code, 0 for success."""
    import llama_cpp

    from scripts.common.llama_log import quiet

    quiet()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quant}")
    params.nthread = THREADS
    if imatrix:
        means, about = read_imatrix(imatrix)
        entries = (llama_cpp.llama_model_imatrix_data * (len(means) + 1))()  # a last one without a name ends the list
        for entry, (name, values) in zip(entries, means.items(), strict=False):
            pointer = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            entry.name, entry.data, entry.size = name.encode(), pointer, values.size
        overrides = (llama_cpp.llama_model_kv_override * (len(about) + 1))()
        for override, (key, value) in zip(overrides, about.items(), strict=False):
            override.key = key.encode()
            if isinstance(value, int):
                override.tag, override.value.val_i64 = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, value
            else:
                override.tag, override.value.val_str = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR, value.encode()[:127]
        params.imatrix, params.kv_overrides = entries, ctypes.cast(overrides, type(params.kv_overrides))
    return int(llama_cpp.llama_model_quantize(source.encode(), target.encode(), params))


def quantize(
    source: str | Path, quant: str, imatrix: str | Path | None, contract: ChatContract | None, output: str | Path
) -> None:
    """Write `source` quantized to `quant`, a llama.cpp type such as Q4_K_M, with or without an importance matrix.

    Raises GradusError if llama.cpp fails, or if the source is not a complete GGUF.
    """
    open_gguf(source)
    with atomic_path(output) as part:
        code = run_isolated(
            f"quantizing {source}", run_llama_quantize, str(source), str(part), quant, str(imatrix) if imatrix else None
        )
        if code:
            raise GradusError(
                f"{source}: llama.cpp could not quantize it as {quant} (code {code}; its messages are in this rule's "
                f"log). Is the disk full? It needs up to {Path(source).stat().st_size / 1e6:.0f} MB for {output}"
            )
        if contract:
            facts = require_contract(part, contract)
            types = facts["parameters_by_type"]
            logging.info("%s bits per weight, parameters by type: %s", facts["bits_per_weight"], types)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        quantize(
            job.input.gguf,
            job.wildcards.quant.removesuffix("-no-imatrix"),
            job.input.get("imatrix"),
            read_contract(job.input.contract),
            job.output.gguf,
        )
