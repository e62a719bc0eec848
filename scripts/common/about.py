"""What the config says about a model's origin: for GGUF metadata, model card and README."""

from collections.abc import Mapping
from typing import Any

from scripts.common.models import Model
from scripts.common.own_code import stem
from scripts.common.sources import own_files, public_name

Config = Mapping[str, Any]


def data_sources(config: Config) -> list[str]:
    """Return the sources of the rows: the user's files by name, datasets and URLs in full, or the package."""
    return [public_name(file["path"]) for file in own_files(config)] or [config["data"]["package"]["source"]]


def data_license(config: Config) -> str:
    """Return the license of the rows."""
    data = config["data"]
    return str(data["license"] if data["files"] else data["package"]["license"])


def base_name(config: Config) -> str:
    """Return the base model's common name."""
    return str(config["base_model"]["name"] or config["base_model"]["source"])


def describe_license(config: Config) -> str:
    """Return the license text of the Modelfile."""
    base = config["base_model"]["license"]
    return f"Base model: {base}. Data: {data_license(config)}. The weights derive from both."


def describe_origin(config: Config, model: Model) -> dict[str, Any]:
    """Return the origin of a model, for the metadata of its GGUF."""
    run, task, name = config["run"], stem(config["data"]["task"]), base_name(config)
    tuned = model.trained
    return {
        "name": f"{run} {model.name}",
        "finetune": f"{run}-{model.name}" if tuned else None,
        "base_model": name,
        "base_source": config["base_model"]["source"],
        "license": config["base_model"]["license"].lower(),
        "datasets": data_sources(config) if tuned else [],
        "data_license": f"License: {data_license(config)}",
        "description": f"{name}, fine-tuned for {task}" if tuned else f"{name}, untuned",
        "quantized_by": "Gradus",
        "tags": ["gradus", "text-generation", task, run],
    }


def describe_served(config: Config, model: Model) -> dict[str, Any]:
    """Return what the config contributes to the README and model card of the served model."""
    base = config["base_model"]
    return {
        "run": config["run"],
        "title": config["report"]["title"],
        "description": f"{config['report']['title']}.",
        "fidelity": f"results/{config['run']}/fidelity.json",
        "base_name": base_name(config),
        "base_link": f"https://huggingface.co/{base['name']}" if base["name"] else None,
        "base_license": base["license"],
        "system_prompt": config["chat"]["system_prompt"],
        "data_source": ", ".join(data_sources(config)),
        "data_license": data_license(config),
        "split_note": f"held-out rows are split by {config['split']['by']}.",
        "tags": ["gradus", stem(config["data"]["task"])],
        "max_length": config["train"]["max_length"],
        "max_tokens": config["evaluate"]["max_tokens"],
        "lora": config["train"]["lora"],
        "learning_rate": config["train"]["learning_rate"],
        "nf4": config["train"]["base_weights"] != "bf16",
        "merged_into": "NF4-rounded" if model.merged_into == "nf4" else model.merged_into,
        "quant": config["export"]["quant"],
    }
