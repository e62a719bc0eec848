"""`python -m scripts.data.pin hf:<org>/<name>`: print the lines that pin a base model from the Hugging Face Hub.

Small files are downloaded and hashed. For the weights it takes the sha256 that the Hub states, so nothing large is
downloaded; a run compares it with what it fetches.
"""

import re
import sys
import tempfile
from pathlib import Path, PurePosixPath

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file, sha256_json
from scripts.data.fetchers import MODEL_FILES, hub_client


def pin(source: str, work: str | Path) -> tuple[str, str]:
    """Return `source` with its commit, and the sha256 that `fetch` will find; `work`: a folder for downloads.

    `source`: `hf:<org>/<name>`, or with `@<branch, tag or commit>`; without, its main branch as it is now. Raises
    GradusError for all errors of the network and the Hub, and for a repository without safetensors.
    """
    match = re.fullmatch(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", source)
    if not match or source.startswith("hf:datasets/"):
        raise GradusError(f"{source}: not of the form hf:<org>/<name>")
    repository, revision = match["repository"], match["revision"] or "main"
    with hub_client({"repository": repository, "revision": revision}, Path(work)):
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.utils import filter_repo_objects

        about = HfApi().model_info(repository, revision=revision, files_metadata=True)
        files = {file.rfilename: file.lfs for file in about.siblings or []}
        hashes = {}
        for name in filter_repo_objects(sorted(files), allow_patterns=MODEL_FILES):
            if not PurePosixPath(name).name.startswith("."):  # as `sha256_folder` does
                stored = files[name]
                path = "" if stored else hf_hub_download(repository, name, revision=about.sha)
                hashes[name] = stored.sha256 if stored else sha256_file(path)
    if not any(name.endswith(".safetensors") for name in hashes):
        raise GradusError(f"{source}: it has no *.safetensors weights; use another repository of this model")
    return f"hf:{repository}@{about.sha}", sha256_json(hashes)


def main() -> None:
    """Print the pin of the source that is named on the command line, as lines of `base_model`."""
    if len(sys.argv) != 2:
        sys.exit("Gradus: name one source: python -m scripts.data.pin hf:<org>/<name>")
    try:
        with tempfile.TemporaryDirectory() as work:
            source, sha256 = pin(sys.argv[1], work)
    except GradusError as error:
        sys.exit(f"Gradus: {error}")
    print(f"  source: {source}\n  sha256: {sha256}")


if __name__ == "__main__":
    main()
