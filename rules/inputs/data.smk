"""Input functions of data stages, for ../data.smk. No rules."""


def given_rows(wildcards):
    """The rows of data.files, or what the converter made of the package, as {path, role, sha256}."""
    converter = config["data"]["package"]["converter"]
    made = f"results/{wildcards.run}/data/converted/{converter}.jsonl"
    return sources.own_files(config) or [{"path": made, "role": "all", "sha256": None}]


def row_files(wildcards):
    """The files and folders of these rows, and the schema of their answers."""
    rows = [sources.location(file["path"]) for file in given_rows(wildcards)]
    return {"rows": rows, **answer_schema(wildcards)}


def answer_schema(wildcards):
    """The JSON schema of extracted objects, if there is one."""
    return {"schema": config["data"]["schema"]} if config["data"]["schema"] else {}


def cheap_scores(wildcards):
    """What the score rule counted, for the audit; not if that takes the model's weights."""
    return {} if base_losses(wildcards) else {"scores": f"results/{wildcards.run}/curriculum/score.json"}
