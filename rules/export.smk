"""merge → convert_gguf → quantize → ollama."""


rule merge:
    """Merge the last phase's adapter into the unquantised bf16 base."""
    input:
        base="results/{run}/base",
        last=last_phase,
    output:
        merged=directory("results/{run}/export/{model}/merged"),
    log:
        "results/{run}/logs/merge/{model}.log",
    benchmark:
        "results/{run}/benchmarks/merge-{model}.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=4000,
    params:
        threads=config["train"]["threads"],
        code=code_fingerprint("export/merge"),
    message:
        "Merging {wildcards.model} into the bf16 base"
    script:
        "../scripts/export/merge.py"


rule convert_gguf:
    """Turn a checkpoint into a bf16 GGUF."""
    input:
        model=model_folder,
        contract="results/{run}/data/chat_contract.json",
    output:
        gguf="results/{run}/export/{model}/bf16.gguf",
    log:
        "results/{run}/logs/convert_gguf/{model}.log",
    benchmark:
        "results/{run}/benchmarks/convert_gguf-{model}.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=3000,
    params:
        name=lambda w: f"{w.run} {w.model}",
        code=code_fingerprint("export/convert_gguf"),
    message:
        "Converting {wildcards.model} to GGUF"
    script:
        "../scripts/export/convert_gguf.py"


rule quantize:
    """Quantize a GGUF through llama.cpp."""
    input:
        gguf="results/{run}/export/{model}/bf16.gguf",
        contract="results/{run}/data/chat_contract.json",
    output:
        gguf="results/{run}/export/{model}/{quant}.gguf",
    log:
        "results/{run}/logs/quantize/{model}-{quant}.log",
    benchmark:
        "results/{run}/benchmarks/quantize-{model}-{quant}.tsv"
    wildcard_constraints:
        quant="(?!bf16)[A-Z0-9_]+",
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=2000,
    params:
        threads=config["train"]["threads"],
        code=code_fingerprint("export/quantize"),
    message:
        "Quantizing {wildcards.model} to {wildcards.quant}"
    script:
        "../scripts/export/quantize.py"


rule ollama:
    """Make the folder for `ollama create`: GGUF and Modelfile."""
    input:
        gguf=served_gguf,
        contract="results/{run}/data/chat_contract.json",
    output:
        folder=directory("results/{run}/ollama"),
    log:
        "results/{run}/logs/ollama.log",
    conda:
        "../envs/gradus.yaml"
    params:
        context=config["train"]["max_length"],
        code=code_fingerprint("export/ollama"),
    message:
        "Writing the Modelfile"
    script:
        "../scripts/export/ollama.py"
