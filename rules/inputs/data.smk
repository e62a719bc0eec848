"""Input functions of data stages, for ../data.smk. No rules."""

from scripts.common.own_code import is_own, stem
from scripts.config.code import converter_file

CONVERTER = stem(config["data"]["package"]["converter"] or "none")


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
    rows = [f["path"] for f in own_files()] or [f"results/{wildcards.run}/data/converted/{CONVERTER}.jsonl"]
    return {"rows": rows, **answer_schema(wildcards)}


def row_roles():
    """The role of each of these files."""
    return [f["role"] for f in own_files()] or ["all"]


def answer_schema(wildcards):
    """The JSON schema of extracted objects, if there is one."""
    return {"schema": config["data"]["schema"]} if config["data"]["schema"] else {}


def task_file(wildcards):
    """The Python file of a task of the user's own, for what runs it: an edit of it runs that again."""
    return {"task": config["data"]["task"]} if is_own(config["data"]["task"]) else {}


def converter_code():
    """The fingerprint of rule convert: a converter of ours counts with all that it imports."""
    converter = config["data"]["package"]["converter"]
    ours = (
        [] if converter is None or is_own(converter) else [code_fingerprint(f"data/converters/{converter}")]
    )
    return [code_fingerprint("data/convert"), *ours]


def cheap_scores(wildcards):
    """What the score rule counted, for the audit; not if that takes the model's weights."""
    return {} if base_losses(wildcards) else {"scores": f"results/{wildcards.run}/curriculum/score.json"}
