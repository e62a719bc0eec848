"""Input functions of data stages, for ../data.smk. No rules."""

from scripts.common.own_code import is_own, stem
from scripts.config.code import converter_file

CONVERTER = stem(config["data"]["package"]["converter"] or "none")


def converted_rows(wildcards):
    """The converter's output."""
    return f"results/{wildcards.run}/data/converted/{CONVERTER}.jsonl"


def given_rows(wildcards):
    """The files of data.own and data.files, or the converter's output, as {path, role, sha256}."""
    converted = converted_rows(wildcards)
    own = [{"path": config["data"]["own"], "role": "own", "sha256": None}] if config["data"]["own"] else []
    return own + (sources.own_files(config) or [{"path": converted, "role": "all", "sha256": None}])


def row_files(wildcards):
    """The paths of these rows, and the schema of their answers."""
    paths = [file["path"] for file in given_rows(wildcards)]
    rows = [path if path == converted_rows(wildcards) else located(path) for path in paths]
    return {"rows": rows, **answer_schema(wildcards)}


def answer_schema(wildcards):
    """The JSON schema of extracted objects, if given."""
    return {"schema": local(config["data"]["schema"])} if config["data"]["schema"] else {}


def task_file(wildcards):
    """The Python file of the user's own task, as an input of the rules that run it, so that an edit reruns them."""
    return {"task": local(config["data"]["task"])} if is_own(config["data"]["task"]) else {}


def converter_code():
    """The code fingerprint of rule convert, which covers the converter and its imports."""
    converter = config["data"]["package"]["converter"]
    ours = [] if converter is None or is_own(converter) else [f"data/converters/{converter}.py"]
    return code_fingerprint("data/convert", *ours)


def cheap_scores(wildcards):
    """The counts of rule score, for the audit, unless scoring needs the model's weights."""
    return {} if looked_up(wildcards) else {"scores": f"results/{wildcards.run}/curriculum/score.json"}
