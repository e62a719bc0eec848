"""bench_training, bench_levers: how fast training is, side by side. Never part of `rule all`; `make bench` asks for them."""


def bench_input():
    """What benchmarks measure on: the served model's last phase, which has rows of every kind."""
    results = f"results/{config['run']}"
    return {
        "rows": f"{results}/curriculum/{SERVED.training.folder}/{PHASES[-1]}.jsonl",
        "valid": f"{results}/curriculum/valid.jsonl",
        "base": f"{results}/base",
        "rounded": f"{results}/base-nf4",
        "contract": f"{results}/data/chat_contract.json",
    }


rule bench_training:
    """Train the same rows as the tutorials do, as Gradus does, and by LLaMA-Factory."""
    input:
        **bench_input(),
    output:
        measured="results/bench/training.json",
        compared="results/bench/training.compared.json",
    log:
        "results/bench/logs/training.log",
    conda:
        "../envs/gradus.yaml"
    threads: workflow.cores or 1
    resources:
        training=1,
    params:
        train=lambda w: config["train"],
        rows=200,
        environment=".work/bench/llamafactory",
        template="smollm2",
        code=code_fingerprint("bench/training"),
    message:
        "Training the same rows in every way"
    script:
        "../scripts/bench/training.py"


rule bench_levers:
    """Take single steps with one lever moved, in turn."""
    input:
        **bench_input(),
    output:
        measured="results/bench/levers.json",
    log:
        "results/bench/logs/levers.log",
    conda:
        "../envs/gradus.yaml"
    threads: workflow.cores or 1
    resources:
        training=1,
    params:
        train=lambda w: config["train"],
        steps=5,
        code=code_fingerprint("bench/levers"),
    message:
        "Moving one lever at a time"
    script:
        "../scripts/bench/levers.py"
