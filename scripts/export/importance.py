"""Compute the importance matrix: how much each input of each linear layer matters, for the quantizer.

In: an unquantized checkpoint and its GGUF (for the architecture's name), training rows (never held-out ones), the
chat contract. Out: a file in llama.cpp's own imatrix format (GGUF), which its tools read and `quantize` uses.

The quantizer weights the error of a weight by the mean square of the input that it is multiplied with
(ggml-org/llama.cpp#4861). The rows are whole conversations, so that the statistics match the text at inference. The
training device computes them, in bf16 where it has instructions for that, else in fp32.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from scripts.common.chat import ChatContract, read_contract
from scripts.common.device import choose_device, fast_dtype, secure_repeatability
from scripts.common.errors import GradusError
from scripts.common.gguf_info import read_gguf
from scripts.common.io import atomic_path
from scripts.common.job import find_job
from scripts.common.layerwise import predict
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.common.tokens import TokenCounter


def pick_rows(counter: TokenCounter, records: Sequence[Record], tokens: int) -> list[list[int]]:
    """Return the token ids of whole rows, at most `tokens` in total: the rows with the smallest ids, which are hashes.

    At least one row is returned. Raises GradusError if there is none.
    """
    chosen: list[list[int]] = []
    for record in sorted(records, key=lambda record: record.id):
        asked, answer = counter.encode(record)
        if chosen and sum(map(len, chosen)) + len(asked) + len(answer) > tokens:
            break
        chosen.append(asked + answer)
    if not chosen:
        raise GradusError("no training row to measure importance on; set export.imatrix.enabled: false")
    return chosen


def gguf_names(model: torch.nn.Module, architecture: str, blocks: int) -> dict[str, str]:
    """Return {module: GGUF tensor} of the linear layers in the blocks; the head is left out, as in llama.cpp."""
    known = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(known[architecture], blocks)
    tensors = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            target = names.get_name(f"{name}.weight", try_suffixes=(".weight",))
            if target and target.startswith("blk."):
                tensors[name] = target
    if not tensors:
        raise GradusError(
            f"no linear layer of this {architecture} model has a GGUF name; set export.imatrix.enabled: false"
        )
    return tensors


def measure(
    base: str | Path,
    rows: Sequence[Sequence[int]],
    architecture: str,
    dtype: torch.dtype,
    device: str = "cpu",
) -> dict[str, torch.Tensor]:
    """Return {GGUF tensor: sum of squared inputs}, fp64 of shape (inputs,), over all tokens of `rows`.

    The checkpoint `base` is computed in `dtype` on `device`, layer by layer.
    """
    sums: dict[str, torch.Tensor] = {}

    def hook(target: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
        def add(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            squares = inputs[0].reshape(-1, inputs[0].shape[-1]).double().square().sum(0)
            sums[target] = sums[target] + squares if target in sums else squares

        return add

    def watch(model: Any) -> None:
        blocks = model.config.get_text_config().num_hidden_layers
        for name, target in gguf_names(model, architecture, blocks).items():
            model.get_submodule(name).register_forward_pre_hook(hook(target))

    for _ in predict(base, None, rows, None, dtype, watch, device):
        pass  # only what the hooks see is of interest
    return {name: values.cpu() for name, values in sums.items()}


def write_imatrix(path: str | Path, sums: dict[str, torch.Tensor], tokens: int, chunk: int, dataset: str) -> None:
    """Write llama.cpp's imatrix file (tools/imatrix): for each tensor the sums of squares and the number of tokens.

    The quantizer uses their quotient. `chunk` is the length of a text in tokens, `dataset` a name for the text.
    """
    with atomic_path(path) as part:
        writer = gguf.GGUFWriter(part, arch="")
        writer.kv_data[0].pop("general.architecture", None)  # an imatrix has none
        writer.add_type(gguf.GGUFType.IMATRIX)
        writer.add_array(gguf.Keys.IMatrix.DATASETS, [dataset])
        writer.add_uint32(gguf.Keys.IMatrix.CHUNK_COUNT, max(1, tokens // chunk))
        writer.add_uint32(gguf.Keys.IMatrix.CHUNK_SIZE, chunk)
        for name, values in sorted(sums.items()):
            writer.add_tensor(f"{name}.in_sum2", values.float().numpy()[None])
            writer.add_tensor(f"{name}.counts", np.full((1, 1), tokens, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def importance(
    base: str | Path,
    rows: str | Path,
    contract: ChatContract,
    tokens: int,
    architecture: str,
    output: str | Path,
    wanted: str = "auto",
) -> None:
    """Measure the checkpoint `base` on training rows and write the imatrix file. `wanted`: `train.device`."""
    device = choose_device(wanted)
    dtype = fast_dtype(device)
    secure_repeatability(device)
    counter = TokenCounter(base, contract)
    chosen = pick_rows(counter, list(read_records(rows)), tokens)
    sums = measure(base, chosen, architecture, dtype, device)
    count = sum(map(len, chosen))
    logging.info("%d tensors, %d rows, %d tokens, computed in %s on %s", len(sums), len(chosen), count, dtype, device)
    write_imatrix(output, sums, count, max(map(len, chosen)), Path(rows).name)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.threads)
        importance(
            job.input.model,
            job.input.rows,
            read_contract(job.input.contract),
            job.params.tokens,
            str(read_gguf(job.input.gguf)["architecture"]),
            job.output.imatrix,
            job.config["train"]["device"],
        )
