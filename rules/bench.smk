"""bench_training, bench_levers, bench_answering: compare speeds. Not part of `rule all`; `make bench` runs them."""


include: "inputs/bench.smk"


rule bench_training:
    """Train the same rows as the tutorials do, as Gradus does, and with LLaMA-Factory."""
    input:
        **bench_input(),
    output:
        measured="results/bench/training.json",
        compared="results/bench/training.compared.json",
    log:
        "results/bench/logs/training.log",
    conda:
        "../envs/gradus.yaml"
    threads: all_cores(workflow)
    resources:
        training=1,
        gpu=TRAINING_GPU,
    params:
        train=lambda w: config["train"],
        rows=200,
        environment=".work/bench/llamafactory",
        template="smollm2",
        code=code_fingerprint("bench/training", "bench/ours.py", "bench/tutorial.py", "bench/llamafactory.py"),
    message:
        "Training the same rows with each method"
    script:
        "../scripts/bench/training.py"


rule bench_levers:
    """Time single steps with one setting changed at a time."""
    input:
        **bench_input(),
    output:
        measured="results/bench/levers.json",
    log:
        "results/bench/logs/levers.log",
    conda:
        "../envs/gradus.yaml"
    threads: all_cores(workflow)
    resources:
        training=1,
        gpu=TRAINING_GPU,
    params:
        train=lambda w: config["train"],
        steps=5,
        code=code_fingerprint("bench/levers"),
    message:
        "Changing one setting at a time"
    script:
        "../scripts/bench/levers.py"


rule bench_answering:
    """Answer the same rows one by one, as Gradus does, and compare with llama.cpp's own benchmark."""
    input:
        gguf=f"results/{config['run']}/export/{SERVED.weights}/{QUANT}.gguf",
        records=f"results/{config['run']}/curriculum/{SPLITS[0]}.jsonl",
        contract=f"results/{config['run']}/data/chat_contract.json",
    output:
        measured="results/bench/answering.json",
    log:
        "results/bench/logs/answering.log",
    conda:
        "../envs/gradus.yaml"
    threads: all_cores(workflow)
    resources:
        gpu=ANSWERING_GPU,
    params:
        rows=64,
        rounds=3,
        tried=[16, 32, 48],
        threads=min(2, all_cores(workflow)),
        max_tokens=config["evaluate"]["max_tokens"],
        sequences=config["evaluate"]["sequences"],
        gpu_layers=config["evaluate"]["gpu_layers"],
        code=code_fingerprint("bench/answering"),
    message:
        "Answering the same rows in each way"
    script:
        "../scripts/bench/answering.py"
