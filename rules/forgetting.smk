"""questions, passages → probe → forgetting: what the models still know outside the task."""


include: "inputs/forgetting.smk"


rule questions:
    """Make the questions outside the task, once for the run."""
    input:
        factbook=factbook(),
    output:
        questions="results/{run}/forgetting/questions.jsonl",
    log:
        "results/{run}/logs/questions.log",
    benchmark:
        "results/{run}/benchmarks/questions.tsv"
    priority: 10  # before training
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(500),
    params:
        each=config["forgetting"]["questions"],
        seed=config["forgetting"]["seed"],
        sha256=config["forgetting"]["factbook"]["sha256"],
        code=code_fingerprint("forgetting/questions"),
    message:
        "Making questions outside the task"
    script:
        "../scripts/forgetting/questions.py"


rule passages:
    """Choose the passages of general text, and look for them in the training rows."""
    input:
        unpack(own_text),
        rows="results/{run}/curriculum/train.jsonl",
    output:
        passages="results/{run}/forgetting/passages.jsonl",
        counts="results/{run}/forgetting/passages.json",
    log:
        "results/{run}/logs/passages.log",
    benchmark:
        "results/{run}/benchmarks/passages.tsv"
    priority: 10  # before training, which a text that training has seen would make pointless
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(500),
        runtime=minutes(60, OF_ROWS, "rows"),
    params:
        words=config["forgetting"]["words"],
        name=lambda w: config["forgetting"]["factbook"]["source"],
        sha256=config["forgetting"]["factbook"]["sha256"],
        decontaminate={key: config["decontaminate"][key] for key in ("found", "max_share")},
        code=code_fingerprint("forgetting/passages"),
    message:
        "Choosing passages of general text"
    script:
        "../scripts/forgetting/passages.py"


rule probe:
    """Ask one model the questions outside the task, and measure its loss on general text."""
    input:
        gguf=lambda w: f"results/{w.run}/export/{w.model}/{QUANT}.gguf",
        questions="results/{run}/forgetting/questions.jsonl",
        passages="results/{run}/forgetting/passages.jsonl",
        contract="results/{run}/data/chat_contract.json",
    output:
        answers="results/{run}/forgetting/{model}/answers.jsonl",
        losses="results/{run}/forgetting/{model}/losses.jsonl",
    log:
        "results/{run}/logs/probe/{model}.log",
    benchmark:
        "results/{run}/benchmarks/probe-{model}.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: config["evaluate"]["threads"]
    resources:
        mem_mb=memory(1200, 1, "gguf"),
        runtime=minutes(60, 0.1, "gguf"),
        gpu=ANSWERING_GPU,
    params:
        answer={
            "max_tokens": config["forgetting"]["max_tokens"],
            **{key: config["evaluate"][key] for key in ("sequences", "threads", "gpu_layers")},
        },
        code=code_fingerprint("forgetting/probe"),
    message:
        "Asking {wildcards.model} what is outside the task"
    script:
        "../scripts/forgetting/probe.py"


rule forgetting:
    """Compare what the models still know outside the task with what the base knows."""
    input:
        questions="results/{run}/forgetting/questions.jsonl",
        counts="results/{run}/forgetting/passages.json",
        answers=probed("answers.jsonl"),
        losses=probed("losses.jsonl"),
    output:
        forgetting="results/{run}/forgetting.json",
    log:
        "results/{run}/logs/forgetting.log",
    conda:
        "../envs/gradus.yaml"
    params:
        models=PROBED,
        max_drop=config["forgetting"]["max_drop"],
        max_rise=config["forgetting"]["max_rise"],
        code=code_fingerprint("forgetting/forgetting"),
    message:
        "Comparing what the models know outside the task"
    script:
        "../scripts/forgetting/forgetting.py"
