"""What was fetched, checked again before it is opened."""

from pathlib import Path

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file, sha256_folder

ARCHIVES = ("*.whl", "*.tar.gz")


def require_sha256(folder: str | Path, sha256: str | None) -> None:
    """Raise GradusError unless a fetched folder still holds what the config's sha256 is of; None: nothing was fetched.

    The sha256 is that of a package's one archive, or of `sha256_folder` for a repository.
    """
    if sha256 is None:
        return
    archives = [file for pattern in ARCHIVES for file in sorted(Path(folder).glob(pattern))]
    found = sha256_file(archives[0]) if len(archives) == 1 else sha256_folder(folder)
    if found != sha256:
        raise GradusError(
            f"{archives[0] if archives else folder}: not the file that was fetched (sha256 {found[:16]}…, expected "
            f"{sha256[:16]}…). Delete {folder} and run again, and it is fetched anew"
        )
