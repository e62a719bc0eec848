"""figures → report."""


include: "inputs/report.smk"


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
        figures=figures("svg"),
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


rule report:
    """Write the report: one HTML file that needs no network."""
    input:
        template="scripts/report/templates/report.html.j2",
        templates=templates(),
        figures=figures("svg"),
        charts=figures("json"),
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
        advice="results/{run}/advice.json",
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
    output:
        report="results/{run}/report.html",
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
        merge_pairs=[
            [plain.name, rounded.name] for plain, rounded in resolved.merge_pairs(list(MODELS.values()))
        ],
        code=code_fingerprint("report/report"),
    message:
        "Writing the report"
    script:
        "../scripts/report/report.py"
