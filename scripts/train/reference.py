"""What the reference of a preference phase is: the model that the phase starts from, and no other."""

from pathlib import Path

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file
from scripts.common.io import read_json


def describe_reference(base: str | Path, previous: str | Path) -> dict[str, str]:
    """Return sha256 of what the base says of itself, and of the adapter in the folder `previous`."""
    return {
        "base": sha256_file(Path(base) / "base.json"),
        "adapter": sha256_file(Path(previous) / "adapter" / "adapter_model.safetensors"),
    }


def require_reference(path: str | Path, base: str | Path, previous: str | Path) -> None:
    """Raise GradusError unless the reference that the file describes is the model that a phase starts from."""
    found, wanted = read_json(path), describe_reference(base, previous)
    for what, place in (("base", base), ("adapter", previous)):
        if found.get(what) != wanted[what]:
            raise GradusError(
                f"{path}: the reference is not the model that this phase starts from: its {what} differs from that of "
                f"{place}. Losses against it would mean nothing. Delete the file and run again."
            )
