"""bench_training, bench_levers: compare training speeds. Not part of `rule all`; `make bench` runs them."""


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
    params:
        train=lambda w: config["train"],
        steps=5,
        code=code_fingerprint("bench/levers"),
    message:
        "Changing one setting at a time"
    script:
        "../scripts/bench/levers.py"
