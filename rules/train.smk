"""prepare_tokenizer, prepare_base, base_loss → round_base → check_labels, estimate → train_phase, reference_losses.

train_phase makes one adapter per arm, seed and phase.
"""


include: "inputs/train.smk"


rule prepare_tokenizer:
    """Extract the base's tokenizer and chat template, for stages that need no weights."""
    input:
        source=lambda w: located(config["base_model"]["source"]),
    output:
        tokenizer=directory("results/{run}/tokenizer"),
    log:
        "results/{run}/logs/prepare_tokenizer.log",
    benchmark:
        "results/{run}/benchmarks/prepare_tokenizer.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1000),
    params:
        source=lambda w: config["base_model"]["source"],
        sha256=sources.fetched_sha256(config["base_model"]),
        gguf=lambda w: config["base_model"]["gguf"],
        pad_token=lambda w: config["base_model"]["pad_token"],
        date=lambda w: config["chat"]["date"],
        code=code_fingerprint("train/prepare_tokenizer"),
    message:
        "Importing the tokenizer of {params.source}"
    script:
        "../scripts/train/prepare_tokenizer.py"


rule prepare_base:
    """Convert the base model to a checked bf16 safetensors checkpoint."""
    input:
        source=lambda w: located(config["base_model"]["source"]),
        tokenizer="results/{run}/tokenizer",
    output:
        base=directory("results/{run}/base"),
    log:
        "results/{run}/logs/prepare_base.log",
    benchmark:
        "results/{run}/benchmarks/prepare_base.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(2500, 2.5, "source"),
        runtime=minutes(60, OF_WEIGHTS, "source"),
    params:
        source=lambda w: config["base_model"]["source"],
        sha256=sources.fetched_sha256(config["base_model"]),
        gguf=lambda w: config["base_model"]["gguf"],
        code=code_fingerprint("train/prepare_base"),
    message:
        "Importing the base model {params.source}"
    script:
        "../scripts/train/prepare_base.py"


rule base_loss:
    """Measure the untuned base's loss on every row, for the scorers that need it."""
    input:
        dataset="results/{run}/data/dataset.jsonl",
        base="results/{run}/base",
        contract="results/{run}/data/chat_contract.json",
    output:
        losses="results/{run}/train/base_loss.jsonl",
    log:
        "results/{run}/logs/base_loss.log",
    benchmark:
        "results/{run}/benchmarks/base_loss.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=memory(2500 + CUDA_MB, 2.4, "base"),  # in fp32 twice its file
        runtime=minutes(60, SLOWNESS, "base", "dataset"),
        training=1,
        gpu=TRAINING_GPU,
    params:
        threads=config["train"]["threads"],
        code=code_fingerprint("train/base_loss"),
    message:
        "Measuring the base's loss on every row"
    script:
        "../scripts/train/base_loss.py"


rule round_base:
    """Round the base's linear layers to NF4, once for all phases."""
    input:
        base="results/{run}/base",
    output:
        rounded=directory("results/{run}/base-nf4"),
    log:
        "results/{run}/logs/round_base.log",
    benchmark:
        "results/{run}/benchmarks/round_base.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(2000 + CUDA_MB),
        runtime=minutes(60, OF_WEIGHTS, "base"),
        gpu=TRAINING_GPU,
    params:
        threads=config["train"]["threads"],
        code=code_fingerprint("train/round_base"),
    message:
        "Rounding the base to NF4"
    script:
        "../scripts/train/round_base.py"


rule estimate:
    """Estimate how much memory and disk space training needs, and stop if there is not enough.

    `phase` depends on it, not train_phase, which would otherwise retrain whenever the estimate is made again.
    """
    input:
        unpack(checked_pairs),
        rows="results/{run}/curriculum/train.jsonl",
        valid="results/{run}/curriculum/valid.jsonl",
        base="results/{run}/base",
        contract="results/{run}/data/chat_contract.json",
    output:
        estimate="results/{run}/train/estimate.json",
    log:
        "results/{run}/logs/estimate.log",
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(3500, 1.5, "base"),  # as training: a cluster then takes the same kind of machine
        runtime=minutes(60, OF_ROWS, "rows"),
        gpu=TRAINING_GPU,  # it reads what is free there
    params:
        # the script reads the rest itself (memory, models, quants): it shapes no result of training
        train=lambda w: {
            key: config["train"][key]
            for key in (
                "lora",
                "micro_batch_tokens",
                "base_weights",
                "attention",
                "device",
                "optimizer",
                "processes",
            )
        },
        code=code_fingerprint("train/estimate"),
    message:
        "Estimating what training needs"
    script:
        "../scripts/train/estimate.py"


rule check_labels:
    """Check which tokens contribute to the loss, on every training row."""
    input:
        records="results/{run}/curriculum/train.jsonl",
        tokenizer="results/{run}/tokenizer",
        contract="results/{run}/data/chat_contract.json",
    output:
        facts="results/{run}/fidelity/labels.json",
    log:
        "results/{run}/logs/check_labels.log",
    benchmark:
        "results/{run}/benchmarks/check_labels.tsv"
    priority: 50
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1500),
        runtime=minutes(60, OF_ROWS, "records"),
    params:
        max_length=config["train"]["max_length"],
        code=code_fingerprint("train/check_labels"),
    message:
        "Checking which tokens are trained"
    script:
        "../scripts/train/check_labels.py"


rule train_phase:
    """Fine-tune one phase, starting from the previous phase's adapter."""
    input:
        unpack(phase_files),
        valid="results/{run}/curriculum/valid.jsonl",
        base=training_base,
        contract="results/{run}/data/chat_contract.json",
        previous=previous_phase,
        # decides about gradient checkpointing, which changes no bit
        estimate=ancient("results/{run}/train/estimate.json"),
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
    threads: config["train"]["threads"] * PROCESSES
    resources:
        mem_mb=training_memory,
        runtime=minutes(60, SLOWNESS, "base", "rows"),
        training=1,
        gpu=TRAINING_GPUS,
    params:
        train=train_settings,
        phases=scheduled,
        method=method,
        options=method_options,
        max_growth=max_growth,
        # checkpoints; not an output, because Snakemake deletes outputs of failed jobs
        work=".work/train/{run}/{arm}-{seed}-{phase}",
        code=lambda w: code_fingerprint("train/train_phase", *code_of(method(w))),
    message:
        "Training {wildcards.arm}, seed {wildcards.seed}: {wildcards.phase}"
    script:
        "../scripts/train/train_phase.py"


rule reference_losses:
    """Compute the log-probabilities of pairs of answers under the model after a supervised phase."""
    input:
        pairs="results/{run}/preference/{arm}/seed{seed}/{after}/pairs.jsonl",
        base=training_base,
        contract="results/{run}/data/chat_contract.json",
        previous="results/{run}/train/{arm}/seed{seed}/{after}/trained",
    output:
        losses="results/{run}/preference/{arm}/seed{seed}/{after}/reference.jsonl",
        reference="results/{run}/preference/{arm}/seed{seed}/{after}/reference.json",
    log:
        "results/{run}/logs/reference_losses/{arm}-{seed}-{after}.log",
    benchmark:
        "results/{run}/benchmarks/reference_losses-{arm}-{seed}-{after}.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=memory(3500, 2.5, "base"),  # in fp32 the base is twice its file
        runtime=minutes(60, SLOWNESS, "base", "pairs"),
        training=1,
        gpu=TRAINING_GPU,
    params:
        train=lambda w: shaping(config["train"]),
        others=lambda w: any(
            phase.method in WITH_OTHERS for phase in PREFERENCE.values() if phase.after == w.after
        ),
        code=code_fingerprint("train/reference_losses"),
    message:
        "Measuring pairs under their reference: {wildcards.arm}, seed {wildcards.seed}"
    script:
        "../scripts/train/reference_losses.py"
