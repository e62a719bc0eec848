"""neighbors: training rows as examples in prompts. nearest, majority, linear: contenders that need no model."""


include: "inputs/contenders.smk"


rule neighbors:
    """Find the training rows that are most like each row of a split."""
    input:
        train="results/{run}/curriculum/train.jsonl",
        records="results/{run}/curriculum/{split}.jsonl",
    output:
        neighbors="results/{run}/contenders/neighbors/{split}.jsonl",
    log:
        "results/{run}/logs/neighbors/{split}.log",
    benchmark:
        "results/{run}/benchmarks/neighbors-{split}.tsv"
    priority: 10  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1000, 5, "train"),
        runtime=minutes(60, OF_ROWS, "train"),
    params:
        code=code_fingerprint("contenders/neighbors"),
    message:
        "Finding training rows like those of {wildcards.split}"
    script:
        "../scripts/contenders/neighbors.py"


rule nearest:
    """Answer all splits with the response of the nearest training row."""
    input:
        unpack(task_file),
        train="results/{run}/curriculum/train.jsonl",
        records=contended("curriculum/{split}.jsonl"),
    output:
        answers=contended("evaluate/{{model}}/nearest/{split}.answers.jsonl"),
        speed=contended("evaluate/{{model}}/nearest/{split}.speed.json"),
        choice="results/{run}/evaluate/{model}/nearest/choice.json",
    log:
        "results/{run}/logs/nearest/{model}.log",
    benchmark:
        "results/{run}/benchmarks/nearest-{model}.tsv"
    priority: 10  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(2000, 30, "train"),  # each row has hundreds of n-grams
        runtime=minutes(60, 5 * OF_ROWS, "train"),  # it tries several ways
    params:
        max_rows=[max_rows(split) for split in CONTENDED],
        by=config["split"]["by"],
        task=config["data"]["task"],
        headline=config["evaluate"]["headline"],
        code=code_fingerprint("contenders/nearest"),
    message:
        "{wildcards.model} answers with the nearest training row"
    script:
        "../scripts/contenders/nearest.py"


rule majority:
    """Answer all splits with the commonest label."""
    input:
        train="results/{run}/curriculum/train.jsonl",
        records=contended("curriculum/{split}.jsonl"),
    output:
        answers=contended("evaluate/{{model}}/majority/{split}.answers.jsonl"),
        speed=contended("evaluate/{{model}}/majority/{split}.speed.json"),
    log:
        "results/{run}/logs/majority/{model}.log",
    priority: 10  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1000, 5, "train"),
        runtime=minutes(60, OF_ROWS, "train"),
    params:
        max_rows=[max_rows(split) for split in CONTENDED],
        code=code_fingerprint("contenders/majority"),
    message:
        "{wildcards.model} answers with the commonest label"
    script:
        "../scripts/contenders/majority.py"


rule linear:
    """Answer all splits with a linear model: TF-IDF and logistic regression."""
    input:
        train="results/{run}/curriculum/train.jsonl",
        records=contended("curriculum/{split}.jsonl"),
    output:
        answers=contended("evaluate/{{model}}/linear/{split}.answers.jsonl"),
        speed=contended("evaluate/{{model}}/linear/{split}.speed.json"),
        choice="results/{run}/evaluate/{model}/linear/choice.json",
    log:
        "results/{run}/logs/linear/{model}.log",
    benchmark:
        "results/{run}/benchmarks/linear-{model}.tsv"
    priority: 10  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(2000, 30, "train"),  # each row has hundreds of n-grams
        runtime=minutes(60, 5 * OF_ROWS, "train"),  # it tries several ways
    params:
        max_rows=[max_rows(split) for split in CONTENDED],
        by=config["split"]["by"],
        code=code_fingerprint("contenders/linear"),
    message:
        "{wildcards.model} answers with a linear model"
    script:
        "../scripts/contenders/linear.py"
