"""merge → convert_gguf → importance → quantize → modelfile → ollama, hf; deploy and publish only on request."""


include: "inputs/export.smk"


rule merge:
    """Merge the last phase's adapter into the unquantized base."""
    input:
        base=lambda w: merge_base(MODELS[w.model]),
        last=lambda w: last_phase(MODELS[w.model]),
    output:
        merged=directory("results/{run}/export/{model}/merged"),
    log:
        "results/{run}/logs/merge/{model}.log",
    benchmark:
        "results/{run}/benchmarks/merge-{model}.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60, OF_WEIGHTS, "base"),
    params:
        threads=config["train"]["threads"],
        code=code_fingerprint("export/merge"),
    message:
        "Merging {wildcards.model} into {input.base}"
    script:
        "../scripts/export/merge.py"


rule convert_gguf:
    """Convert a checkpoint to a bf16 GGUF."""
    input:
        unpack(trained_rows),
        model=lambda w: model_folder(MODELS[w.model]),
        contract="results/{run}/data/chat_contract.json",
    output:
        gguf="results/{run}/export/{model}/bf16.gguf",
    log:
        "results/{run}/logs/convert_gguf/{model}.log",
    benchmark:
        "results/{run}/benchmarks/convert_gguf-{model}.tsv"
    priority: 10  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(3000),
        runtime=minutes(60, OF_WEIGHTS, "model"),
    params:
        origin=lambda w: describe_origin(config, MODELS[w.model]),
        code=code_fingerprint("export/convert_gguf", "convert_hf_to_gguf"),
    message:
        "Converting {wildcards.model} to GGUF"
    script:
        "../scripts/export/convert_gguf.py"


rule importance:
    """Measure the importance matrix of a model on training rows, for the quantizer."""
    input:
        model=lambda w: model_folder(MODELS[w.model]),
        gguf="results/{run}/export/{model}/bf16.gguf",
        rows="results/{run}/curriculum/train.jsonl",
        contract="results/{run}/data/chat_contract.json",
    output:
        imatrix="results/{run}/export/{model}/importance.gguf",
    log:
        "results/{run}/logs/importance/{model}.log",
    benchmark:
        "results/{run}/benchmarks/importance-{model}.tsv"
    priority: 10  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=memory(2000 + CUDA_MB, 0.1, "model"),
        runtime=minutes(60, IMPORTANCE * config["export"]["imatrix"]["tokens"], "model"),
        training=1,
        gpu=TRAINING_GPU,
    params:
        threads=config["train"]["threads"],
        tokens=config["export"]["imatrix"]["tokens"],
        code=code_fingerprint("export/importance"),
    message:
        "Measuring the importance matrix of {wildcards.model}"
    script:
        "../scripts/export/importance.py"


rule quantize:
    """Quantize a GGUF with llama.cpp."""
    input:
        unpack(importance_matrix),
        gguf="results/{run}/export/{model}/bf16.gguf",
        contract="results/{run}/data/chat_contract.json",
    output:
        gguf="results/{run}/export/{model}/{quant}.gguf",
    log:
        "results/{run}/logs/quantize/{model}-{quant}.log",
    benchmark:
        "results/{run}/benchmarks/quantize-{model}-{quant}.tsv"
    wildcard_constraints:
        quant="(?!bf16)[A-Z0-9_]+(-no-imatrix)?",
    priority: 10  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1500, 0.5, "gguf"),
        runtime=minutes(60, OF_WEIGHTS, "gguf"),
    params:
        code=code_fingerprint("export/quantize"),
    message:
        "Quantizing {wildcards.model} to {wildcards.quant}"
    script:
        "../scripts/export/quantize.py"


rule modelfile:
    """Write the served model's Modelfile."""
    input:
        gguf=served("results/{run}/export/{model}/{quant}.gguf"),
        contract="results/{run}/data/chat_contract.json",
    output:
        modelfile="results/{run}/export/Modelfile",
    log:
        "results/{run}/logs/modelfile.log",
    conda:
        "../envs/gradus.yaml"
    params:
        context=config["train"]["max_length"],
        max_tokens=config["evaluate"]["max_tokens"],
        license=lambda w: describe_license(config),
        code=code_fingerprint("export/modelfile"),
    message:
        "Writing the Modelfile"
    script:
        "../scripts/export/modelfile.py"


rule ollama:
    """Make the folder for `ollama create`: GGUF, Modelfile, README."""
    input:
        unpack(answer_schema),
        gguf=served("results/{run}/export/{model}/{quant}.gguf"),
        modelfile="results/{run}/export/Modelfile",
        verdict="results/{run}/verdict.json",
        passed=passed(),
    output:
        folder=directory("results/{run}/ollama"),
    log:
        "results/{run}/logs/ollama.log",
    conda:
        "../envs/gradus.yaml"
    params:
        about=lambda w: describe_served(config, SERVED),
        key_order=config["data"]["key_order"],
        code=code_fingerprint("export/ollama"),
    message:
        "Preparing the folder for Ollama"
    script:
        "../scripts/export/ollama.py"


rule hf:
    """Make the folder for transformers, vLLM and the Hub: checkpoint, tokenizer, adapter, model card."""
    input:
        template=local("scripts/export/model_card.md.j2"),
        merged=served("results/{run}/export/{model}/merged"),
        last=last_phase(SERVED),
        base=merge_base(SERVED),
        contract="results/{run}/data/chat_contract.json",
        summaries=training_files("summary.json", [SERVED.training]),
        ledger=ledger(SERVED.training),
        metrics="results/{run}/metrics.json",
        comparison="results/{run}/comparison.json",
        verdict="results/{run}/verdict.json",
        quantization=served("results/{run}/fidelity/{model}/quantization.json"),
        passed=passed(),
    output:
        folder=directory("results/{run}/hf"),
    log:
        "results/{run}/logs/hf.log",
    benchmark:
        "results/{run}/benchmarks/hf.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(2000, 0.1, "merged"),
        runtime=minutes(60, OF_WEIGHTS, "merged"),
    params:
        model=SERVED.name,
        about=lambda w: {
            **describe_served(config, SERVED),
            "seeds": resolved.seeds_of(SERVED, MODELS),
            "first_trained": COMPARED_WITH.trained,
        },
        threads=config["train"]["threads"],
        code=code_fingerprint("export/hf"),
    message:
        "Preparing the folder for transformers and the Hub"
    script:
        "../scripts/export/hf.py"


rule deploy:
    """Create the model in a running Ollama and ask it held-out rows. Only on request: snakemake --cores 1 deploy."""
    input:
        folder=f"results/{config['run']}/ollama",
        answers=evaluated("answers.jsonl", [SERVED], SPLITS[:1])[0].format(run=config["run"]),
        records=held_out_rows().format(run=config["run"]),
        contract=f"results/{config['run']}/data/chat_contract.json",
    output:
        deployed=f"results/{config['run']}/deployed.json",
    log:
        f"results/{config['run']}/logs/deploy.log",
    localrule: True  # Ollama runs there
    conda:
        "../envs/gradus.yaml"
    params:
        name=config["run"],
        asked=config["fidelity"]["served_rows"],
        code=code_fingerprint("export/deploy"),
    message:
        "Creating {params.name} in Ollama"
    script:
        "../scripts/export/deploy.py"


rule publish:
    """Publish the folder on the Hugging Face Hub. Only on request: snakemake --cores 1 publish."""
    input:
        folder=f"results/{config['run']}/hf",
    output:
        published=f"results/{config['run']}/published.json",
    log:
        f"results/{config['run']}/logs/publish.log",
    localrule: True  # it uses the network
    conda:
        "../envs/gradus.yaml"
    params:
        repository=config["hub"]["repo"],
        private=config["hub"]["private"],
        code=code_fingerprint("export/publish"),
    message:
        "Publishing to {params.repository}"
    script:
        "../scripts/export/publish.py"
