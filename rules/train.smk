"""prepare_base → train_phase."""


rule prepare_base:
    """Bring the base model into one form: a checked bf16 safetensors checkpoint."""
    input:
        source=lambda w: source_folder(config["base_model"]["source"]),
    output:
        base=directory("results/{run}/base"),
    log:
        "results/{run}/logs/prepare_base.log",
    benchmark:
        "results/{run}/benchmarks/prepare_base.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=3000,
    params:
        source=lambda w: config["base_model"]["source"],
        gguf=lambda w: config["base_model"]["gguf"],
        pad_token=lambda w: config["base_model"]["pad_token"],
        code=code_fingerprint("train/prepare_base"),
    message:
        "Importing the base model {params.source}"
    script:
        "../scripts/train/prepare_base.py"


rule train_phase:
    """Fine-tune one phase, starting from the previous phase's adapter."""
    input:
        rows="results/{run}/curriculum/{arm}/seed{seed}/{phase}.jsonl",
        schedule="results/{run}/curriculum/{arm}/seed{seed}/schedule.json",
        valid="results/{run}/curriculum/valid.jsonl",
        base="results/{run}/base",
        contract="results/{run}/data/chat_contract.json",
        previous=previous_phase,
    output:
        folder=directory("results/{run}/train/{arm}/seed{seed}/{phase}/trained"),
        history="results/{run}/train/{arm}/seed{seed}/{phase}/history.jsonl",
        summary="results/{run}/train/{arm}/seed{seed}/{phase}/summary.json",
    log:
        "results/{run}/logs/train_phase/{arm}-{seed}-{phase}.log",
    benchmark:
        "results/{run}/benchmarks/train_phase-{arm}-{seed}-{phase}.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=6000,
        runtime=600,
    params:
        train=lambda w: config["train"],
        code=code_fingerprint("train/train_phase"),
    message:
        "Training {wildcards.arm}, seed {wildcards.seed}: {wildcards.phase}"
    script:
        "../scripts/train/train_phase.py"
