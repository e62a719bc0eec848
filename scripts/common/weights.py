"""Check that safetensors files are complete."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from scripts.common.errors import GradusError


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
