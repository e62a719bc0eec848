"""plan → train_arm → answer_arm → effects: arms of training, compared over seeds. Made if the config has `experiment`."""


include: "inputs/experiment.smk"


# A checkpoint, because after a plan that was refused and then restored, inputs must be compared again: else every
# training would be repeated.
checkpoint plan:
    """Fix the plan of the experiment, with its hash, before the first training."""
    input:
        **shared_files(),
        base=experiment_base(),
    output:
        plan="results/{run}/experiment.json",
    log:
        "results/{run}/logs/plan.log",
    conda:
        "../envs/gradus.yaml"
    params:
        plan=planned(),
        folder="results/{run}/experiment",
        code=code_fingerprint("experiment/plan"),
    message:
        "Fixing the plan of the experiment"
    script:
        "../scripts/experiment/plan.py"


rule train_arm:
    """Train one arm with one seed, all phases, and measure its loss on every held-out row."""
    input:
        plan="results/{run}/experiment.json",
        train="results/{run}/curriculum/train.jsonl",
        valid="results/{run}/curriculum/valid.jsonl",
        held_out=[f"results/{{run}}/curriculum/{split}.jsonl" for split in HELD_OUT],
        scores="results/{run}/curriculum/scores.jsonl",
        base=experiment_base(),
        tokenizer="results/{run}/tokenizer",
        contract="results/{run}/data/chat_contract.json",
        losses=measured_losses,
        # they stop the run before training; made again, they repeat none
        audit=ancient("results/{run}/data/audit.json"),
        estimate=ancient("results/{run}/train/estimate.json"),
        labels=ancient("results/{run}/fidelity/labels.passed"),
    output:
        trained=directory("results/{run}/experiment/{variant}/{arm}/seed{seed}/trained"),
        losses="results/{run}/experiment/{variant}/{arm}/seed{seed}/losses.jsonl",
        history="results/{run}/experiment/{variant}/{arm}/seed{seed}/history.jsonl",
        result="results/{run}/experiment/{variant}/{arm}/seed{seed}/result.json",
        spent="results/{run}/experiment/{variant}/{arm}/seed{seed}/spent.json",
    log:
        "results/{run}/logs/train_arm/{variant}+{arm}-{seed}.log",
    benchmark:
        "results/{run}/benchmarks/train_arm-{variant}+{arm}-{seed}.tsv"
    # seed by seed, so that what is there after a stop is pairs
    priority: place_in_order
    conda:
        "../envs/gradus.yaml"
    threads: config["train"]["threads"]
    # no `training`: as many side by side as cores, memory and GPUs allow
    resources:
        mem_mb=training_memory,
        runtime=minutes(60, SLOWNESS * len(PHASES), "base", "train"),
        gpu=TRAINING_GPU,
    params:
        train=trained_with,
        arm=lambda w: config["curriculum"]["definitions"][w.arm],
        difficulty=lambda w: VARIANTS[w.variant]["difficulty"],
        rules=config["score"]["rules"],
        curriculum=curriculum("name", "levels", "rows", "epochs", "method"),
        points=EXPERIMENT["points"] if EXPERIMENT else 0,
        # checkpoints; not an output, because Snakemake deletes outputs of failed jobs
        work=".work/experiment/{run}/{variant}/{arm}/{seed}",
        code=code_fingerprint("experiment/train_arm"),
    message:
        "Training {wildcards.arm}, seed {wildcards.seed} ({wildcards.variant})"
    script:
        "../scripts/experiment/train_arm.py"


rule answer_arm:
    """Let the model of a training answer the held-out rows in the served quant, and grade its answers."""
    input:
        unpack(answer_schema),
        unpack(task_file),
        trained="results/{run}/experiment/{variant}/{arm}/seed{seed}/trained",
        base="results/{run}/base",
        contract="results/{run}/data/chat_contract.json",
        train="results/{run}/curriculum/train.jsonl",
        held_out=[f"results/{{run}}/curriculum/{split}.jsonl" for split in HELD_OUT],
    output:
        answers="results/{run}/experiment/{variant}/{arm}/seed{seed}/answers.jsonl",
        grades="results/{run}/experiment/{variant}/{arm}/seed{seed}/grades.jsonl",
    log:
        "results/{run}/logs/answer_arm/{variant}+{arm}-{seed}.log",
    benchmark:
        "results/{run}/benchmarks/answer_arm-{variant}+{arm}-{seed}.tsv"
    priority: place_in_order
    conda:
        "../envs/gradus.yaml"
    threads: config["evaluate"]["threads"]
    resources:
        mem_mb=memory(2000, 1, "base"),
        runtime=minutes(60, 0.1, "base"),
        gpu=ANSWERING_GPU,
    params:
        quant=QUANT,
        task=config["data"]["task"],
        max_rows={split: max_rows(split, SERVED) for split in HELD_OUT},
        answer={key: config["evaluate"][key] for key in ("max_tokens", "sequences", "threads", "gpu_layers")},
        threads=config["train"]["threads"],
        work=".work/experiment/{run}/answers/{variant}/{arm}/{seed}",
        origin=describe_origin(config, SERVED),
        code=code_fingerprint("experiment/answer_arm", "convert_hf_to_gguf"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}, answers held-out rows"
    script:
        "../scripts/experiment/answer_arm.py"


rule effects:
    """Compare the arms over seeds and held-out rows."""
    input:
        unpack(task_file),
        plan="results/{run}/experiment.json",
        results=of_trainings("result.json"),
        losses=of_trainings("losses.jsonl"),
        histories=of_trainings("history.jsonl"),
        spent=of_trainings("spent.json"),
        grades=of_trainings("grades.jsonl", experiments.answered(EXPERIMENT)),
    output:
        effects="results/{run}/experiment/effects.json",
        curves="results/{run}/experiment/curves.csv",
        exposures="results/{run}/experiment/exposures.csv",
        spent="results/{run}/experiment/spent.csv",
        tables="results/{run}/experiment/experiment.md",
        forest="results/{run}/experiment/forest.svg",
        figure="results/{run}/experiment/curves.svg",
    log:
        "results/{run}/logs/effects.log",
    conda:
        "../envs/gradus.yaml"
    params:
        experiment=EXPERIMENT,
        definitions=config["curriculum"]["definitions"],
        levels=config["curriculum"]["levels"],
        task=config["data"]["task"],
        headline=config["evaluate"]["headline"],
        command=f".venv/bin/snakemake --cores all --configfile {' '.join(os.path.relpath(file) for file in config_files(workflow))} -- experiment",
        code=code_fingerprint("experiment/effects"),
    message:
        "Comparing the arms"
    script:
        "../scripts/experiment/effects.py"
