"""Make the folder that transformers, vLLM and the Hub take: checkpoint, tokenizer, generation config, adapter, model
card.

In: the merged checkpoint, the last phase's folder, the base, figures, ledger, chat contract. Out: the folder, read by
transformers, PEFT and huggingface_hub before it is put in its place; the weights layer by layer.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from scripts.common.chat import ChatContract, read_contract
from scripts.common.device import fast_dtype
from scripts.common.errors import GradusError
from scripts.common.io import atomic_path, read_json, write_json
from scripts.common.job import find_job
from scripts.common.layerwise import predict
from scripts.common.logs import logging_to
from scripts.export.card import describe_seeds, figures, training_figures, write_card
from scripts.export.ollama import link


def require_weights(folder: Path) -> None:
    """Raise GradusError unless transformers finds each of the model's weights in the folder, and no others.

    On the meta device it reads names, types and shapes, and no weights.
    """
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=False, use_safetensors=True, device_map={"": "meta"}, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found := sorted(map(str, loaded[1][kind])):
            raise GradusError(f"{folder}: transformers reports {len(found)} {kind}, such as {found[0]}")


def check(folder: Path, base: str | Path, contract: ChatContract) -> None:
    """Raise GradusError unless the folder loads as a checkpoint, the adapter alone on the base, and the card's
    header.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    contract.require(str(folder), tokenizer.chat_template, tokenizer.eos_token_id)
    config = GenerationConfig.from_pretrained(folder)
    if config.eos_token_id != contract.end_of_turn_id or config.pad_token_id != contract.pad_token_id:
        raise GradusError(f"{folder}: generation_config.json has other end or pad tokens than the chat contract")
    text = contract.template.render(contract.messages("x"))
    ids = tokenizer(text, add_special_tokens=False).input_ids
    require_weights(folder)
    alone, adapted = (
        next(predict(weights, adapter, [ids], [0], fast_dtype("cpu"))).float()
        for weights, adapter in ((folder, None), (base, folder / "adapter"))
    )
    if alone.argmax(-1).ne(adapted.argmax(-1)).float().mean() > 0.2:
        raise GradusError(f"{folder}: the adapter alone predicts otherwise than the merged checkpoint")
    if ModelCard.load(folder / "README.md").data.to_dict().get("base_model") is None:
        raise GradusError(f"{folder}/README.md: huggingface_hub cannot read its header")


def make_folder(
    merged: str | Path,
    trained: str | Path,
    base: str | Path,
    contract: ChatContract,
    template: str | Path,
    about: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    output: str | Path,
) -> None:
    """Write the folder."""
    with atomic_path(output) as part:
        part.mkdir()
        for file in sorted(Path(merged).iterdir()):
            if file.suffix == ".safetensors":
                link(file, part / file.name)
            elif not file.name.startswith("."):
                shutil.copyfile(file, part / file.name)
        GenerationConfig(
            eos_token_id=contract.end_of_turn_id,
            pad_token_id=contract.pad_token_id,
            bos_token_id=read_json(Path(merged) / "config.json").get("bos_token_id"),
            do_sample=False,
            max_new_tokens=about["max_tokens"],
        ).save_pretrained(part)
        adapter = Path(trained) / "adapter"
        (part / "adapter").mkdir()
        shutil.copyfile(adapter / "adapter_model.safetensors", part / "adapter" / "adapter_model.safetensors")
        config = {**read_json(adapter / "adapter_config.json"), "base_model_name_or_path": about["base_name"]}
        write_json(part / "adapter" / "adapter_config.json", config)
        write_card(part / "README.md", template, about, rows)
        check(part, base, contract)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.threads)
        model_name, about = job.params.model, dict(job.params.about)
        metrics, comparison = read_json(job.input.metrics), read_json(job.input.comparison)
        quantization = read_json(job.input.quantization)
        about.update(
            **training_figures([read_json(path) for path in job.input.summaries], read_json(job.input.ledger)),
            first=comparison["first"],
            first_name=comparison["first"] if about["first_trained"] else f"{comparison['first']}, which is untuned,",
            seeds_note=describe_seeds(about["seeds"]),
            model=model_name,
            flips={
                **quantization["quants"][quantization["served"]],
                "split": quantization["split"],
                "binary": quantization["binary"],
            },
            verdict=read_json(job.input.verdict)["sentence"],
        )
        make_folder(
            job.input.merged,
            job.input.last,
            job.input.base,
            read_contract(job.input.contract),
            job.input.template,
            about,
            figures(metrics, comparison, model_name),
            job.output.folder,
        )
