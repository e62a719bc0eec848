"""Helpers that rules call: the checked config, paths, lookups. No rules."""

import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, workflow.basedir)
# what every job's Python sees: our modules, and no network after the fetch stage; and memory in pages of 2 MB that
# malloc keeps: a training step frees and takes gigabytes, and faulting them in anew takes time (docs/training.md)
os.environ.update(
    PYTHONPATH=workflow.basedir,
    PYTHONHASHSEED="0",
    ONEDNN_PRIMITIVE_CACHE_CAPACITY="128",  # of 1,024: packs differ in length, and each length's kernels were kept
    GLIBC_TUNABLES=":".join(
        [
            "glibc.malloc.hugetlb=1",
            "glibc.malloc.mmap_threshold=4294967296",
            "glibc.malloc.trim_threshold=8589934592",
        ]
    ),
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
)

from scripts.common import guard
from scripts.common.about import data_license, describe_origin, describe_served
from scripts.common.config import check_config, check_files
from scripts.common.errors import GradusError
from scripts.common.hashing import code_fingerprint, sha256_file
from scripts.common.pins import LOCK
from scripts.common.records import HEADLINE, LEVELS
from scripts.version.restore import forget, restore

PHASES = LEVELS

if workflow.is_main_process:
    guard.mark()


def checked(raw):
    """The config with defaults filled in; a fault ends the run here, before any job, with file and line."""
    given = list(map(str, workflow.overwrite_configfiles))  # by --configfile: they override the default's
    default = [str(file) for file in workflow.configfiles if str(file) not in given]
    files = [os.path.relpath(file) for file in default + given]
    try:
        complete = check_config(raw, files)
        check_files(complete, files)
        return complete
    except GradusError as error:
        raise WorkflowError(str(error))


def take_folder():
    """Take this folder for the run: nothing of a killed one goes on in it, and its record is no longer true."""
    try:
        guard.require_writable(f"results/{config['run']}", "data/raw", ".work/train")
        left = guard.hold(".snakemake/gradus.lock")
        forget(config["run"])
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")
    if left:
        message = f"Gradus: {left} processes of a run that was killed were still at work; ended."
        print(message, file=sys.stderr)


def take_over():
    """Verify what DVC restored of this run, if anything is new, and tell Snakemake how it was made."""
    try:
        if workflow.is_main_process and restore(config["run"]):
            print(f"Gradus: run {config['run']}, restored by DVC, is whole and taken over.", file=sys.stderr)
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")


def source_folder(source):
    """The folder of a fetched source, or the local one that a path source names."""
    if not source:  # data.files is used instead
        return "data/raw/none"
    if source.startswith("path:"):
        return source.removeprefix("path:")
    name = re.sub(r"[^A-Za-z0-9.@+-]+", "-", source)
    return f"data/raw/{name}"


def fetched_sha256(part):
    """The sha256 of what is fetched for a part of the config; None for a folder of the user's own."""
    return part["sha256"] if (part["source"] or "path:").partition(":")[0] != "path" else None


def own_files():
    """The user's files, as {path, role}."""
    return [{"path": f, "role": "all"} if isinstance(f, str) else f for f in config["data"]["files"]]


def row_files(wildcards):
    """The rows that ingest reads: the user's files, or what the converter made of the package; and the schema."""
    converter = config["data"]["package"]["converter"]
    rows = [f["path"] for f in own_files()] or [f"results/{wildcards.run}/data/converted/{converter}.jsonl"]
    return {"rows": rows, **answer_schema(wildcards)}


def row_roles():
    """The role of each of these files."""
    return [f["role"] for f in own_files()] or ["all"]


def answer_schema(wildcards):
    """The JSON schema of extracted objects, if there is one."""
    return {"schema": config["data"]["schema"]} if config["data"]["schema"] else {}


def base_losses(wildcards):
    """The base's losses, if a scorer needs them."""
    needed = any(config["score"]["weights"][name] is not None for name in ("loss", "ifd"))
    return {"losses": f"results/{wildcards.run}/train/base_loss.jsonl"} if needed else {}


def cheap_scores(wildcards):
    """What the score rule counted, for the audit; not if that takes the model's weights."""
    return {} if base_losses(wildcards) else {"scores": f"results/{wildcards.run}/curriculum/score.json"}


def training_base(wildcards):
    """The checkpoint that phases train on: the base rounded to NF4, or the base as it is, to be packed or not."""
    rounded = config["train"]["base_weights"] == "nf4" and config["train"]["backend"] == "peft"
    return f"results/{wildcards.run}/base-nf4" if rounded else f"results/{wildcards.run}/base"


def previous_phase(wildcards):
    """The folder of the phase before; nothing for the first."""
    before = PHASES[: PHASES.index(wildcards.phase)]
    if not before:
        return []
    return f"results/{wildcards.run}/train/{wildcards.arm}/seed{wildcards.seed}/{before[-1]}/trained"


def model_folder(wildcards):
    """The checkpoint that a model name stands for: the base, or a merged one."""
    if wildcards.model == "base":
        return f"results/{wildcards.run}/base"
    return f"results/{wildcards.run}/export/{wildcards.model}/merged"


def trained_rows(wildcards):
    """The split that a model was trained on, whose hash its GGUF carries; nothing for the base."""
    return {} if wildcards.model == "base" else {"rows": f"results/{wildcards.run}/curriculum/train.jsonl"}


def merged_into(model):
    """What a model's adapter is merged into: as its name's suffix says, or merge.base."""
    return {"bf16": "bf16", "nf4": "nf4-dequantized"}.get(model.rpartition("-")[2], config["merge"]["base"])


def merge_base(wildcards):
    """The checkpoint that a trained model's adapter is merged into."""
    return f"results/{wildcards.run}/base" + ("" if merged_into(wildcards.model) == "bf16" else "-nf4")


def trained_on(wildcards):
    """The weights that an adapter was trained with, as a plain checkpoint."""
    rounded = config["train"]["base_weights"] != "bf16"
    return f"results/{wildcards.run}/base-nf4" if rounded else f"results/{wildcards.run}/base"


def last_phase(wildcards):
    """The last phase's folder of the arm and seed that a model name (<arm>-<seed>[-bf16|-nf4]) stands for."""
    arm, _, seed = re.sub("-(bf16|nf4)$", "", wildcards.model).rpartition("-")
    return f"results/{wildcards.run}/train/{arm}/seed{seed}/{PHASES[-1]}/trained"


def served_model():
    """The model that goes to Ollama: the first trained one of evaluate.models."""
    return next(model for model in config["evaluate"]["models"] if model != "base")


def as_served(wildcards):
    """The wildcards of the served model, for helpers that ask for a model."""
    return SimpleNamespace(run=wildcards.run, model=served_model())


def served_summaries(wildcards):
    """The summary of each phase of the served model's training."""
    phases = Path(last_phase(as_served(wildcards))).parents[1]
    return [f"{phases}/{phase}/summary.json" for phase in PHASES]


def served(path):
    """A path of the served model: {model} and {quant} are filled in, {run} stays."""
    return path.replace("{model}", served_model()).replace("{quant}", config["export"]["quant"])


def held_out_rows(wildcards):
    """The rows of the first split that is evaluated."""
    return f"results/{wildcards.run}/curriculum/{config['evaluate']['splits'][0]}.jsonl"


def quants():
    """The quants of the served model that are compared: bf16, Q4_K_M, the served one, those asked for, and one without
    importance matrix.
    """
    given = [config["export"]["quant"], "Q4_K_M", *config["export"]["more_quants"]]
    plain = [f"{config['export']['quant']}-plain"] if config["export"]["imatrix"]["enabled"] else []
    return list(dict.fromkeys(["bf16", *given, *plain]))


def importance_matrix(wildcards):
    """The importance matrix of a quant, if it takes one."""
    if wildcards.quant.endswith("-plain") or not config["export"]["imatrix"]["enabled"]:
        return {}
    return {"imatrix": f"results/{wildcards.run}/export/{wildcards.model}/importance.gguf"}


def trained_models():
    """The trained models that are evaluated."""
    return [model for model in config["evaluate"]["models"] if model != "base"]


def origin(wildcards):
    """Where a model comes from, for its GGUF's metadata."""
    return describe_origin(config, wildcards.model)


def merge_variants():
    """Pairs of evaluated models that are the same but for what they are merged into: bf16 first, NF4-rounded second."""
    found = {}
    for model in trained_models():
        found.setdefault(re.sub("-(bf16|nf4)$", "", model), {})[merged_into(model)] = model
    return [[pair["bf16"], pair["nf4-dequantized"]] for pair in found.values() if len(pair) == 2]


def checks():
    """Every check of fidelity, in the order of the steps that it judges."""
    return [
        "labels",
        *(f"{model}/merge" for model in trained_models()),
        *(f"{model}/gguf" for model in config["evaluate"]["models"]),
        f"{served_model()}/quantization",
        "template",
        "stopping",
        "serving",
    ]


def facts():
    """What every check measured."""
    return expand("results/{{run}}/fidelity/{check}.json", check=checks())


def passed():
    """The notes that every check's gates passed; what leaves the run waits for them."""
    return expand("results/{{run}}/fidelity/{check}.passed", check=checks())


def answered():
    """Every answers file: all models and splits in the served quant, and all quants of the served model."""
    every = graded("answers.jsonl")
    return [*every, *(path for path in quant_files("answers.jsonl") if path not in every)]


def served_answers(wildcards):
    """What the served model answered on the first split."""
    folder = served(f"results/{wildcards.run}/evaluate/{{model}}/{{quant}}")
    return f"{folder}/{config['evaluate']['splits'][0]}.answers.jsonl"


def quant_files(kind):
    """A grade file of one kind of each quant of the served model, on the first split."""
    return expand(
        "results/{{run}}/evaluate/{model}/{quant}/{split}.{kind}",
        model=served_model(),
        quant=quants(),
        split=config["evaluate"]["splits"][0],
        kind=kind,
    )


def ledgers():
    """Every arm's and seed's exposure ledger."""
    return expand(
        "results/{{run}}/curriculum/{arm}/seed{seed}/ledger.json",
        arm=config["curriculum"]["arms"],
        seed=config["curriculum"]["seeds"],
    )


def graded(kind):
    """Every model's and split's grade file of one kind, models first."""
    return expand(
        "results/{{run}}/evaluate/{model}/{quant}/{split}.{kind}",
        model=config["evaluate"]["models"],
        quant=config["export"]["quant"],
        split=config["evaluate"]["splits"],
        kind=kind,
    )


def training_files(kind):
    """Every arm's, seed's and phase's file of one kind."""
    return expand(
        "results/{{run}}/train/{arm}/seed{seed}/{phase}/{kind}",
        arm=config["curriculum"]["arms"],
        seed=config["curriculum"]["seeds"],
        phase=PHASES,
        kind=kind,
    )


def everything():
    """What `rule all` makes."""
    names = ["metrics.json", "report.html", "fidelity.json", "ollama", "hf"]
    records = ["manifest.json", "config.yaml", "ro-crate-metadata.json", "sbom.cdx.json"]
    return [f"results/{config['run']}/{name}" for name in names + records]


def recorded():
    """What the manifest waits for; behind these stands every file of the run."""
    return [
        *(
            f"results/{{run}}/{name}"
            for name in ("data/dataset.jsonl", "data/rejected.jsonl", "data/audit.json")
        ),
        *(
            f"results/{{run}}/{name}"
            for name in ("metrics.json", "report.html", "fidelity.json", "ollama", "hf")
        ),
        *training_files("trained"),
        *expand("results/{{run}}/export/{model}/merged", model=trained_models()),
        *expand("results/{{run}}/export/{model}/{quant}.gguf", model=served_model(), quant=quants()),
        *answered(),
        *graded("grades.jsonl"),
    ]


def given_files():
    """What comes from outside: fetched sources, and files and folders of the user's."""
    sources = [config["base_model"]["source"], "" if own_files() else config["data"]["package"]["source"]]
    schema = [config["data"]["schema"]] if config["data"]["schema"] else []
    return [*map(source_folder, filter(None, sources)), *(file["path"] for file in own_files()), *schema]


def bench_input():
    """What benchmarks measure on: the default arm's hard phase, which has rows of every kind."""
    arm, seed = config["curriculum"]["arms"][0], config["curriculum"]["seeds"][0]
    results = f"results/{config['run']}"
    return {
        "rows": f"{results}/curriculum/{arm}/seed{seed}/hard.jsonl",
        "valid": f"{results}/curriculum/valid.jsonl",
        "base": f"{results}/base",
        "rounded": f"{results}/base-nf4",
        "contract": f"{results}/data/chat_contract.json",
    }
