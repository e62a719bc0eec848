"""check_pairs; sample_answers → make_pairs → reference_losses (train.smk) → order_pairs: the pairs of preference tuning.

What only the supervised phase before it decides is in its folder, for all preference phases after it.
"""


include: "inputs/preference.smk"


rule check_pairs:
    """Check the pairs of the user's own, and the settings, before anything is trained."""
    input:
        unpack(task_file),
        rejected="results/{run}/curriculum/rejected.jsonl",
        held_out=held_out_files(),
        tokenizer="results/{run}/tokenizer",
        contract="results/{run}/data/chat_contract.json",
    output:
        checked="results/{run}/preference/checked.json",
    log:
        "results/{run}/logs/check_pairs.log",
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1000),
    params:
        preference={key: config["preference"][key] for key in ("rows", "metric", "min_pairs")},
        task=config["data"]["task"],
        headline=config["evaluate"]["headline"],
        max_length=config["train"]["max_length"],
        max_tokens=config["evaluate"]["max_tokens"],
        code=code_fingerprint("preference/check_pairs"),
    message:
        "Checking the rejected answers of the rows"
    script:
        "../scripts/preference/check_pairs.py"


rule sample_answers:
    """Let the model after a supervised phase answer training rows several times, at a temperature."""
    input:
        gguf=asked_model,
        train="results/{run}/curriculum/train.jsonl",
        contract="results/{run}/data/chat_contract.json",
    output:
        samples="results/{run}/preference/{arm}/seed{seed}/{after}/samples.jsonl",
        speed="results/{run}/preference/{arm}/seed{seed}/{after}/samples.speed.json",
    log:
        "results/{run}/logs/sample_answers/{arm}-{seed}-{after}.log",
    benchmark:
        "results/{run}/benchmarks/sample_answers-{arm}-{seed}-{after}.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: config["evaluate"]["threads"]
    resources:
        mem_mb=memory(1200, 1, "gguf"),
        runtime=minutes(120, 0.0002 * samples_asked(), "gguf"),
        gpu=ANSWERING_GPU,
    params:
        answer={key: config["evaluate"][key] for key in ("max_tokens", "sequences", "threads", "gpu_layers")},
        rows=config["preference"]["rows"],
        samples=config["preference"]["samples"],
        temperature=config["preference"]["temperature"],
        code=code_fingerprint("preference/sample_answers"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}, answers training rows after {wildcards.after}"
    script:
        "../scripts/preference/sample_answers.py"


rule make_pairs:
    """Make pairs of a right and a wrong answer, of the user's own and of the model's."""
    input:
        unpack(samples),
        unpack(answer_schema),
        unpack(task_file),
        train="results/{run}/curriculum/train.jsonl",
        rejected="results/{run}/curriculum/rejected.jsonl",
        held_out=held_out_files(),
    output:
        pairs="results/{run}/preference/{arm}/seed{seed}/{after}/pairs.jsonl",
        counts="results/{run}/preference/{arm}/seed{seed}/{after}/pairs.json",
    log:
        "results/{run}/logs/make_pairs/{arm}-{seed}-{after}.log",
    benchmark:
        "results/{run}/benchmarks/make_pairs-{arm}-{seed}-{after}.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1000),
    params:
        task=config["data"]["task"],
        headline=config["evaluate"]["headline"],
        metric=config["preference"]["metric"],
        gap=config["preference"]["gap"],
        min_pairs=config["preference"]["min_pairs"],
        max_length=config["train"]["max_length"],
        near=config["deduplicate"]["threshold"],
        code=code_fingerprint("preference/make_pairs"),
    message:
        "Making pairs of answers: {wildcards.arm}, seed {wildcards.seed}, after {wildcards.after}"
    script:
        "../scripts/preference/make_pairs.py"


rule order_pairs:
    """Order the pairs of a phase by difficulty, and cut them into steps."""
    input:
        pairs=pairs_file("pairs.jsonl"),
        reference=pairs_file("reference.jsonl"),
    output:
        steps="results/{run}/preference/{arm}/seed{seed}/{phase}/steps.jsonl",
        schedule="results/{run}/preference/{arm}/seed{seed}/{phase}/schedule.json",
        ledger="results/{run}/preference/{arm}/seed{seed}/{phase}/ledger.json",
    log:
        "results/{run}/logs/order_pairs/{arm}-{seed}-{phase}.log",
    benchmark:
        "results/{run}/benchmarks/order_pairs-{arm}-{seed}-{phase}.tsv"
    wildcard_constraints:
        phase=PREFERENCE_NAMES,
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1000),
    params:
        phase=lambda w: {
            key: getattr(PREFERENCE[w.phase], key) for key in ("order", "max_difficulty", "epochs")
        },
        batch_size=config["train"]["batch_size"],
        code=code_fingerprint("preference/order_pairs"),
    message:
        "Ordering pairs: {wildcards.arm}, seed {wildcards.seed}, {wildcards.phase}"
    script:
        "../scripts/preference/order_pairs.py"
