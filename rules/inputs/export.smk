"""Input functions of export, for ../export.smk. No rules."""

from scripts.common.about import describe_license, describe_origin, describe_served


def trained_rows(wildcards):
    """The rows that a model was trained on, whose hash is stored in its GGUF; nothing for an untrained one."""
    trained = MODELS[wildcards.model].trained
    return {"rows": f"results/{wildcards.run}/curriculum/train.jsonl"} if trained else {}


def importance_matrix(wildcards):
    """The importance matrix of a quant, if it uses one."""
    if not weighted(wildcards.quant):
        return {}
    return {"imatrix": f"results/{wildcards.run}/export/{wildcards.model}/importance.gguf"}
