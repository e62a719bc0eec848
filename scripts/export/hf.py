"""Make the folder that transformers, vLLM and the Hub take: checkpoint, tokenizer, generation config, adapter, model
card.

In: the merged checkpoint, the last phase's folder, the base, figures, the chat contract. Out: the folder, loaded
once by transformers, PEFT and huggingface_hub before it is put in its place.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.html import percent
from scripts.common.io import atomic_path, read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.export.ollama import link


def figures(metrics: Mapping[str, Any], comparison: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    """Return one row a split and metric: split, n, metric, base, value, raw, interval."""
    first = comparison["first"]
    rows = []
    for split, found in metrics[model].items():
        for name, metric in found.items():
            bounds = comparison["models"].get(model, {}).get(split, {}).get(name, {}).get("interval")
            rows.append(
                {
                    "split": split,
                    "n": metric["n"],
                    "metric": name,
                    "base": percent(metrics[first][split][name]["value"]),
                    "value": percent(metric["value"]),
                    "raw": metric["value"],
                    "interval": f"{percent(bounds[0])} to {percent(bounds[1])}" if bounds else "–",
                }
            )
    return rows


def write_card(path: Path, template: str | Path, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the model card: a YAML header that the Hub reads, and text for people."""
    run = about["run"]
    data = ModelCardData(
        license=str(about["base_license"]).lower(),
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=about["base_name"],
        tags=about["tags"],
        model_name=run,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=run,
                dataset_name=f"{run}, {row['split']} (n = {row['n']})",
                dataset_split=row["split"],
                metric_type=row["metric"],
                metric_value=row["raw"],
            )
            for row in rows
            if row["raw"] is not None
        ],
    )
    ModelCard.from_template(data, template_path=str(template), results=rows, **about).save(path)


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
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, trust_remote_code=False)
    with torch.no_grad():
        alone = model(**ids).logits.float()
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, trust_remote_code=False)
        adapted = PeftModel.from_pretrained(plain, str(folder / "adapter"))(**ids).logits.float()
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
        phases = [read_json(path) for path in job.input.summaries]
        comparison = read_json(job.input.comparison)
        quantization = read_json(job.input.quantization)
        about.update(
            phases=phases,
            first=comparison["first"],
            model=model_name,
            device=phases[-1]["device"],
            rows=phases[-1]["rows"],
            steps=sum(phase["steps"] for phase in phases),
            tokens=sum(phase["tokens"] for phase in phases),
            flips={**quantization["quants"][quantization["served"]], "split": quantization["split"]},
        )
        make_folder(
            job.input.merged,
            job.input.last,
            job.input.base,
            read_contract(job.input.contract),
            job.input.template,
            about,
            figures(read_json(job.input.metrics), comparison, model_name),
            job.output.folder,
        )
