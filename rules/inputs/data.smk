"""Input functions of data stages, for ../data.smk. No rules."""

from scripts.common.own_code import is_own, stem
from scripts.config.code import converter_file

CONVERTER = stem(config["data"]["package"]["converter"] or "none")


def given_rows(wildcards):
    """The rows of data.files, or what the converter made of the package, as {path, role, sha256}."""
    made = f"results/{wildcards.run}/data/converted/{CONVERTER}.jsonl"
    return sources.own_files(config) or [{"path": made, "role": "all", "sha256": None}]


def row_files(wildcards):
    """The files and folders of these rows, and the schema of their answers."""
    rows = [sources.location(file["path"]) for file in given_rows(wildcards)]
    return {"rows": rows, **answer_schema(wildcards)}


def answer_schema(wildcards):
    """The JSON schema of extracted objects, if there is one."""
    return {"schema": config["data"]["schema"]} if config["data"]["schema"] else {}


def task_file(wildcards):
    """The Python file of a task of the user's own, for what runs it: an edit of it runs that again."""
    return {"task": config["data"]["task"]} if is_own(config["data"]["task"]) else {}


def converter_code():
    """The fingerprint of converting, which covers the converter and all that it imports."""
    converter = config["data"]["package"]["converter"]
    ours = [] if converter is None or is_own(converter) else [f"data/converters/{converter}.py"]
    return code_fingerprint("data/convert", *ours)


def cheap_scores(wildcards):
    """What the score rule counted, for the audit; not if that takes the model's weights."""
    return {} if looked_up(wildcards) else {"scores": f"results/{wildcards.run}/curriculum/score.json"}
