"""The tensors of safetensors checkpoints, read and replaced one at a time, so that no stage holds a model whole."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from scripts.common.errors import GradusError

WEIGHTS = (".safetensors", ".gguf", ".whl")  # names of files with weights end so


def require_whole(*folders: str | Path) -> None:
    """Raise GradusError that names a *.safetensors file under these folders that is truncated or invalid."""
    for file in (file for folder in folders for file in sorted(Path(folder).rglob("*.safetensors"))):
        try:
            with safe_open(file, framework="numpy"):  # reads the header and compares it with the file's length
                pass
        except (SafetensorError, OSError, ValueError) as error:
            raise GradusError(
                f"{file}: not a complete safetensors file ({error}); delete its folder and run again"
            ) from None


def weights_mb(path: str | Path) -> float:
    """Return the size in MB of a GGUF, or of the weights in a folder; 0 if they do not exist yet."""
    path = Path(path)
    files = [file for file in path.iterdir() if file.suffix in WEIGHTS] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def find_tensors(folder: str | Path) -> dict[str, Path]:
    """Return {tensor: the file that contains it} of a folder's *.safetensors files."""
    found = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="numpy") as handle:
            found.update(dict.fromkeys(handle.keys(), file))
    return found


def read_tensor(file: Path, name: str) -> Any:
    """Return a tensor of a file, for torch. It is mapped: what is read of it leaves memory together with it."""
    # a file that stays open would keep all that was ever read of it
    with safe_open(file, framework="pt") as handle:
        return handle.get_tensor(name)


def replace_tensors(folder: str | Path, tensors: Iterable[tuple[str, Any]]) -> None:
    """Write tensors (name, torch tensor) over those in a folder's files, one at a time.

    Raises ValueError if a tensor's type or shape is another than in the file.
    """
    places = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        with open(file, "rb") as handle:  # the format: 8 bytes with the header's length, header, data
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(length))
        places.update({name: (file, 8 + length, entry) for name, entry in header.items() if name != "__metadata__"})
    for name, tensor in tensors:
        file, begin, entry = places[name]
        shape = list(tensor.shape)
        if shape != entry["shape"] or tensor.dtype != read_tensor(file, name).dtype:
            raise ValueError(f"{file}: {name} is {entry['dtype']} {entry['shape']}, not {tensor.dtype} {shape}")
        with open(file, "r+b") as handle:
            handle.seek(begin + entry["data_offsets"][0])
            handle.write(tensor.detach().contiguous().flatten().view(dtype=_bytes()).numpy().data)


def _bytes() -> Any:
    import torch  # here, because stages without torch check files as well

    return torch.uint8
