"""verdict; figures, curves, cost → report."""


include: "inputs/report.smk"


rule verdict:
    """Say whether training was worth it, and whether the order of the rows mattered."""
    input:
        metrics="results/{run}/metrics.json",
        comparison="results/{run}/comparison.json",
        advice="results/{run}/advice.json",
        fidelity="results/{run}/fidelity.json",
        forgetting=forgotten(),
        effects="results/{run}/experiment/effects.json" if EXPERIMENT else [],
    output:
        verdict="results/{run}/verdict.json",
    log:
        "results/{run}/logs/verdict.log",
    conda:
        "../envs/gradus.yaml"
    params:
        models=[model.describe() for model in MODELS.values()],
        splits=SPLITS,
        margin=config["evaluate"]["margin"],
        code=code_fingerprint("report/verdict"),
    message:
        "Reaching the verdict"
    script:
        "../scripts/report/verdict.py"


rule figures:
    """Draw the figures of the report."""
    input:
        score="results/{run}/curriculum/score.json",
        histories=training_files("history.jsonl"),
        ledgers=ledgers(),
        metrics="results/{run}/metrics.json",
        comparison="results/{run}/comparison.json",
        quantization=served("results/{run}/fidelity/{model}/quantization.json"),
        forgetting=forgotten(),
        experiment=experiment_files("curves.csv", "exposures.csv"),
    output:
        figures=drawn(),
        charts=figures("json"),
    log:
        "results/{run}/logs/figures.log",
    conda:
        "../envs/gradus.yaml"
    params:
        levels=config["curriculum"]["levels"],
        phases=PHASES,
        models=[model.describe() for model in MODELS.values()],
        code=code_fingerprint("report/figures"),
    message:
        "Drawing the figures"
    script:
        "../scripts/report/figures.py"


rule curves:
    """Write the learning curves of all trainings as a table."""
    input:
        histories=training_files("history.jsonl"),
    output:
        curves="results/{run}/curves.csv",
    log:
        "results/{run}/logs/curves.log",
    conda:
        "../envs/gradus.yaml"
    params:
        code=code_fingerprint("report/curves"),
    message:
        "Writing the learning curves"
    script:
        "../scripts/report/curves.py"


rule cost:
    """List what each job took that the report needed."""
    input:
        **measured(),
    output:
        cost="results/{run}/cost.json",
        timeline=report(
            "results/{run}/figures/timeline.svg",
            caption="captions/timeline.rst",
            category="Figures",
            labels={"figure": "when the stages were at work"},
        ),
        chart="results/{run}/figures/timeline.json",
    log:
        "results/{run}/logs/cost.log",
    conda:
        "../envs/gradus.yaml"
    params:
        stages=STAGES,
        energy=config["report"]["energy_country"],
        code=code_fingerprint("report/cost"),
    message:
        "Adding up what the run cost"
    script:
        "../scripts/report/cost.py"


rule report:
    """Write the report, one HTML file that needs no network, and its tables as CSV and LaTeX."""
    input:
        **pair_files(),
        template=local("scripts/report/templates/report.html.j2"),
        templates=local(templates()),
        figures=[*figures("svg"), "results/{run}/figures/timeline.svg"],
        charts=[*figures("json"), "results/{run}/figures/timeline.json"],
        cost=rules.cost.output.cost,
        converted=(
            [] if config["data"]["files"] else f"results/{{run}}/data/converted/{CONVERTER}.counts.json"
        ),
        ingest="results/{run}/data/ingest.json",
        split="results/{run}/data/split.json",
        score="results/{run}/curriculum/score.json",
        audit="results/{run}/data/audit.json",
        validity="results/{run}/validity.json",
        ledgers=ledgers(),
        fidelity="results/{run}/fidelity.json",
        checked=check_files(),
        speed="results/{run}/fidelity/speed.json",
        summaries=training_files("summary.json"),
        details=evaluated("details.json"),
        metrics="results/{run}/metrics.json",
        comparison="results/{run}/comparison.json",
        verdict="results/{run}/verdict.json",
        ratings="results/{run}/rating/ratings.json" if config["rating"]["files"] else [],
        chosen=[
            f"results/{{run}}/evaluate/{model.name}/examples.json"
            for model in MODELS.values()
            if model.chooses
        ],
        forgetting=forgotten(),
        speeds=evaluated("speed.json"),
        answers=evaluated("answers.jsonl"),
        grades=evaluated("grades.jsonl"),
        records=[f"results/{{run}}/curriculum/{split}.jsonl" for split in SPLITS],
        experiment=experiment_files("effects.json"),
        judge="results/{run}/judge.json" if config["judge"] else [],
        ggufs=[
            f"results/{{run}}/export/{model.name}/{quant}.gguf"
            for model in MODELS.values()
            if model.exported and model.weights == model.name
            for quant in ("bf16", QUANT)
        ],
        base="results/{run}/base",
        contract="results/{run}/data/chat_contract.json",
        own=located(config["data"]["own"]) if config["data"]["own"] else [],
    output:
        report=report(
            "results/{run}/report.html",
            caption="captions/report.rst",
            category="Report",
            labels={"page": "report"},
        ),
        tables=report(
            directory("results/{run}/tables"),
            patterns=["{name}.csv"],
            caption="captions/tables.rst",
            category="Tables",
            labels={"table": "{name}"},
        ),
    log:
        "results/{run}/logs/report.log",
    conda:
        "../envs/gradus.yaml"
    params:
        config=lambda w: {
            **{key: config[key] for key in ("run", "seed", "report", "evaluate")},
            "curriculum": {"levels": config["curriculum"]["levels"], "phases": PHASES},
            "base_model": {"license": config["base_model"]["license"]},
            "data": {
                "package": {key: config["data"]["package"][key] for key in ("source", "sha256", "license")},
                "own": config["data"]["own"],
                "files": [
                    given["path"] if isinstance(given, dict) else given for given in config["data"]["files"]
                ],
            },
            "export": {"quant": config["export"]["quant"]},
            "fidelity": {"probe_tokens": config["fidelity"]["probe_tokens"]},
        },
        checks=check_names(),
        models=[model.describe() for model in MODELS.values()],
        served=SERVED.name,
        preference=preferred(),
        merge_pairs=[
            [plain.name, rounded.name] for plain, rounded in resolved.merge_pairs(list(MODELS.values()))
        ],
        code=code_fingerprint("report/report"),
    message:
        "Writing the report"
    script:
        "../scripts/report/report.py"
