"""advise → heed_advice: whether training is worth it, before it starts."""


include: "inputs/advise.smk"


rule advise:
    """Say from what the cheap alternatives reach on validation rows whether training is worth it."""
    input:
        unpack(task_file),
        unpack(baseline_choice),
        template=local("scripts/contenders/advice.html.j2"),
        metrics=evaluated("metrics.json", measured_early(), ["valid"]),
        details=evaluated("details.json", measured_early(), ["valid"]),
        train="results/{run}/curriculum/train.jsonl",
        valid="results/{run}/curriculum/valid.jsonl",
        linked="results/{run}/data/deduplicated.jsonl",
    output:
        advice="results/{run}/advice.json",
        page=report(
            "results/{run}/advice.html",
            caption="captions/advice.rst",
            category="Report",
            labels={"page": "advice before training"},
        ),
    log:
        "results/{run}/logs/advise.log",
    benchmark:
        "results/{run}/benchmarks/advise.tsv"
    priority: 20  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1500),
    params:
        run=config["run"],
        models=[model.describe() for model in measured_early()],
        task=config["data"]["task"],
        headline=config["evaluate"]["headline"],
        rows=config["advise"]["rows"],
        baseline=baseline(),
        by=config["deduplicate"]["by"],
        code=code_fingerprint("contenders/advise"),
    message:
        "Advising whether to train"
    script:
        "../scripts/contenders/advise.py"


rule heed_advice:
    """Stop the run before training unless the advice is to go on."""
    input:
        advice="results/{run}/advice.json",
    output:
        passed="results/{run}/advice.passed",
    log:
        "results/{run}/logs/heed_advice.log",
    retries: 0  # it would fail again
    localrule: True  # it reads a file
    conda:
        "../envs/gradus.yaml"
    params:
        code=code_fingerprint("contenders/heed_advice"),
    message:
        "Heeding the advice"
    script:
        "../scripts/contenders/heed_advice.py"
