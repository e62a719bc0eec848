"""figures, cost → report."""


include: "inputs/report.smk"


rule figures:
    """Draw the figures of the report."""
    input:
        score="results/{run}/curriculum/score.json",
        histories=training_files("history.jsonl"),
        metrics="results/{run}/metrics.json",
        comparison="results/{run}/comparison.json",
        quantization=served("results/{run}/fidelity/{model}/quantization.json"),
    output:
        difficulty=report(
            "results/{run}/figures/difficulty.svg",
            caption="captions/difficulty.rst",
            category="Figures",
            labels={"figure": "rows of each level"},
        ),
        loss=report(
            "results/{run}/figures/loss.svg",
            caption="captions/loss.rst",
            category="Figures",
            labels={"figure": "loss over the steps of training"},
        ),
        metrics=report(
            "results/{run}/figures/metrics.svg",
            caption="captions/metrics.rst",
            category="Figures",
            labels={"figure": "the models' metrics with intervals"},
        ),
        quants=report(
            "results/{run}/figures/quants.svg",
            caption="captions/quants.rst",
            category="Figures",
            labels={"figure": "size and loss of quantizations"},
        ),
    log:
        "results/{run}/logs/figures.log",
    conda:
        "../envs/gradus.yaml"
    params:
        levels=config["curriculum"]["levels"],
        models=[model.describe() for model in MODELS.values()],
        code=code_fingerprint("report/figures"),
    message:
        "Drawing the figures"
    script:
        "../scripts/report/figures.py"


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
        template="scripts/report/report.html.j2",
        parts=["scripts/report/cost.html.j2"],
        figures=rules.figures.output,
        cost=rules.cost.output.cost,
        timeline=rules.cost.output.timeline,
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
        effects=effects(),
        speeds=evaluated("speed.json"),
        answers=evaluated("answers.jsonl", splits=SPLITS[:1]),
        grades=evaluated("grades.jsonl", splits=SPLITS[:1]),
        records=held_out_rows(),
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
            **{key: config[key] for key in ("run", "report", "evaluate")},
            "curriculum": {"levels": config["curriculum"]["levels"], "phases": PHASES},
            "base_model": {"license": config["base_model"]["license"]},
            "data": {"package": {key: config["data"]["package"][key] for key in ("source", "license")}},
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
