"""Read the metadata of a GGUF file."""

import struct
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
from gguf import GGUFReader, GGUFValueType

from scripts.common.chat import ChatContract
from scripts.common.errors import GradusError

SUPERBLOCK = 256  # weights in a K-quant block; a tensor whose row length is not a multiple of it gets another type


LONG = 1000  # lists with at least this many items belong to the vocabulary


class PlainReader(GGUFReader):  # type: ignore[misc]
    """Reads slices of a plain array: those of a memmap take three times as long, and a vocabulary has 100,000."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value.view(np.ndarray) if name == "data" else value)


class QuickReader(PlainReader):
    """Skips the contents of the vocabulary's lists, which the library reads item by item in seconds."""

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list[Any], list[int], list[GGUFValueType]]:
        if GGUFValueType(raw_type) is not GGUFValueType.ARRAY or self.byte_order == "S":
            return super()._get_field_parts(orig_offs, raw_type)
        kind, count = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
        item, end = GGUFValueType(kind[0]), orig_offs + 12
        if count[0] < LONG or item is GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        if item is GGUFValueType.STRING:
            for _ in range(int(count[0])):
                end += 8 + struct.unpack_from("<Q", cast(Any, self.data), end)[0]
        else:
            end += int(count[0]) * np.dtype(self.gguf_scalar_to_np[item]).itemsize
        return end - orig_offs, [kind, count], [], [GGUFValueType.ARRAY, item]


def open_gguf(path: str | Path, whole: bool = False) -> GGUFReader:
    """Open a GGUF, without its vocabulary unless `whole`; raise GradusError if it is not a GGUF, or truncated."""
    try:
        reader = (PlainReader if whole else QuickReader)(path)
        stored = max((int(t.data_offset) + int(t.n_bytes) for t in reader.tensors), default=0)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error) as error:
        raise GradusError(f"{path}: not a complete GGUF file ({error}); delete it and run again") from None
    if stored > Path(path).stat().st_size or not reader.tensors:
        raise GradusError(f"{path}: not a complete GGUF file, it is truncated; delete it and run again")
    return reader


def metadata(reader: GGUFReader) -> dict[str, Any]:
    """Return every key-value pair except the vocabulary's lists."""
    return {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith(("GGUF.", "tokenizer.ggml.")) or name.endswith(("_token_id", "_token", "model", "pre"))
    }


def read_gguf(path: str | Path) -> dict[str, Any]:
    """Return name, chat template, end-of-turn id, bytes, bits per weight, parameters by tensor type, and the tensors
    that could not be stored as a K-quant and have another type.

    Raises GradusError if the file is not a complete GGUF.
    """
    reader = open_gguf(path)
    values = metadata(reader)
    types: Counter[str] = Counter()
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] += int(tensor.n_elements)
    parameters = sum(types.values())
    stored = sum(int(tensor.n_bytes) for tensor in reader.tensors)
    k_quant = any(name.endswith("_K") for name in types)
    return {
        "name": values.get("general.name"),
        "architecture": values.get("general.architecture"),
        "chat_template": values.get("tokenizer.chat_template"),
        "end_of_turn_id": values.get("tokenizer.ggml.eos_token_id"),
        "bytes": Path(path).stat().st_size,
        "bits_per_weight": round(8 * stored / parameters, 3),
        "parameters_by_type": dict(types),
        "fallbacks": {
            tensor.name: tensor.tensor_type.name
            for tensor in reader.tensors
            if k_quant and len(tensor.shape) > 1 and int(tensor.shape[0]) % SUPERBLOCK
        },
    }


def require_contract(path: str | Path, contract: ChatContract) -> dict[str, Any]:
    """Return the GGUF's metadata; raise GradusError unless it matches the chat contract."""
    facts = read_gguf(path)
    contract.require(str(path), facts["chat_template"], facts["end_of_turn_id"])
    return facts


def own_template(path: str | Path) -> tuple[str, str, str]:
    """Return a GGUF's chat template and the texts of its first and last token, "" where there is none.

    Raises GradusError if it has no template.
    """
    reader = open_gguf(path, whole=True)
    values = metadata(reader)
    if not (template := values.get("tokenizer.chat_template")):
        raise GradusError(
            f"{path}: has no chat template, so nobody knows how to ask it; use an instruction-tuned model"
        )
    tokens = reader.fields["tokenizer.ggml.tokens"]

    def text(name: str) -> str:
        number = values.get(f"tokenizer.ggml.{name}_token_id")
        return "" if number is None else str(tokens.contents(int(number)))

    return str(template), text("bos"), text("eos")
