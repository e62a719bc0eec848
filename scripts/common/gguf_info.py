"""What a GGUF file says of itself."""

from collections import Counter
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from scripts.common.chat import ChatContract


def read_gguf(path: str | Path) -> dict[str, Any]:
    """Return name, chat template, end-of-turn id, bytes, bits a weight and the parameters of each tensor type."""
    reader = GGUFReader(path)

    def value(key: str) -> Any:
        field = reader.get_field(key)
        return field.contents() if field else None

    types: Counter[str] = Counter()
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] += int(tensor.n_elements)
    parameters = sum(types.values())
    stored = sum(int(tensor.n_bytes) for tensor in reader.tensors)
    return {
        "name": value("general.name"),
        "architecture": value("general.architecture"),
        "chat_template": value("tokenizer.chat_template"),
        "end_of_turn_id": value("tokenizer.ggml.eos_token_id"),
        "bytes": Path(path).stat().st_size,
        "bits_per_weight": round(8 * stored / parameters, 3),
        "parameters_by_type": dict(types),
    }


def require_contract(path: str | Path, contract: ChatContract) -> dict[str, Any]:
    """Return what the GGUF says of itself; raise GradusError unless it keeps the chat contract."""
    facts = read_gguf(path)
    contract.require(str(path), facts["chat_template"], facts["end_of_turn_id"])
    return facts
