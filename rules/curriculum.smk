"""score → phase."""


include: "inputs/curriculum.smk"


rule score:
    """Score each record's difficulty."""
    input:
        unpack(looked_up),
        records="results/{run}/data/dataset.jsonl",
        given="results/{run}/data/split.given.json",
    output:
        train="results/{run}/curriculum/train.jsonl",
        valid="results/{run}/curriculum/valid.jsonl",
        test="results/{run}/curriculum/test.jsonl",
        eval_hard="results/{run}/curriculum/eval-hard.jsonl",
        eval_unseen="results/{run}/curriculum/eval-unseen.jsonl",
        eval_own="results/{run}/curriculum/eval-own.jsonl",
        rejected="results/{run}/curriculum/rejected.jsonl",
        scores="results/{run}/curriculum/scores.jsonl",
        counts="results/{run}/curriculum/score.json",
    log:
        "results/{run}/logs/score.log",
    benchmark:
        "results/{run}/benchmarks/score.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: 2
    resources:
        mem_mb=memory(1000, 2, "records"),
        runtime=minutes(60, OF_ROWS, "records"),
    params:
        score=lambda w: config["score"],
        curriculum=curriculum("name", "levels"),
        sample=sample_sizes(),
        evaluated=SPLITS[0],
        code=code_fingerprint("curriculum/score"),
    message:
        "Scoring difficulty"
    script:
        "../scripts/curriculum/score.py"


# This is a checkpoint although the phases are known in advance: after a checkpoint, Snakemake compares inputs
# again, so a phase whose rows did not change is not retrained. See docs/architecture.md.
checkpoint phase:
    """Select the rows that an arm trains on in each phase, step by step."""
    input:
        unpack(heeded),
        unpack(checked_pairs),
        records="results/{run}/curriculum/train.jsonl",
        scores="results/{run}/curriculum/scores.jsonl",
        tokenizer="results/{run}/tokenizer",
        contract="results/{run}/data/chat_contract.json",
        estimate="results/{run}/train/estimate.json",
        audit="results/{run}/data/audit.json",
    output:
        phases=expand("results/{{run}}/curriculum/{{arm}}/seed{{seed}}/{phase}.jsonl", phase=PHASES),
        schedule="results/{run}/curriculum/{arm}/seed{seed}/schedule.json",
        ledger="results/{run}/curriculum/{arm}/seed{seed}/ledger.json",
    log:
        "results/{run}/logs/phase/{arm}-{seed}.log",
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1000, 8, "records"),  # it keeps all rows
        runtime=minutes(60, OF_ROWS, "records"),
    params:
        arm=lambda w: config["curriculum"]["definitions"][w.arm],
        curriculum=curriculum("name", "levels", "rows", "epochs"),
        batch_size=config["train"]["batch_size"],
        code=code_fingerprint("curriculum/phase"),
    message:
        "Selecting the rows of each phase: {wildcards.arm}, seed {wildcards.seed}"
    script:
        "../scripts/curriculum/phase.py"
