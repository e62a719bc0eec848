"""Input functions of the report, for ../report.smk. No rules."""


def ledgers():
    """The exposure ledgers of all trainings."""
    return [ledger(training) for training in TRAININGS]


def experiment_files(*names):
    """Files of the run's experiment, if it has one."""
    return [f"results/{{run}}/experiment/{name}" for name in names] if EXPERIMENT else []


def figures(kind):
    """The report's figures: svg, or json for their Vega-Lite specifications."""
    always = ["forest", "metrics", "loss", "exposures", "quants", "difficulty"]
    probed = ["forgetting"] if PROBES else []
    tried = ["experiment", "experiment-exposures"] if EXPERIMENT else []
    return [f"results/{{run}}/figures/{name}.{kind}" for name in (*always, *probed, *tried)]


def drawn():
    """The report's figures for papers, with captions for Snakemake's own report."""
    told = {"caption": "captions/figures.rst", "category": "Figures"}
    return [report(path, labels={"figure": Path(path).stem}, **told) for path in figures("svg")]


def pair_files():
    """What there is of each phase of preference tuning, by the names of the report's inputs."""
    names = {"pair_ledgers": "{phase}/ledger.json", "pair_counts": "{after}/pairs.json"}
    trained = {"pair_summaries": "summary.json", "pair_histories": "history.jsonl"}

    def path(training, name):
        place = name.format(phase=training.phase, after=PREFERENCE[training.phase].after)
        return f"results/{{run}}/preference/{training.folder}/{place}"

    return {
        **{key: [path(training, name) for training in PREFERRED] for key, name in names.items()},
        **{
            key: [training_files(name, [training])[-1] for training in PREFERRED]
            for key, name in trained.items()
        },
    }


def preferred():
    """The phases of preference tuning, as the report names them."""
    return [
        {
            "training": training.describe(),
            "after": PREFERENCE[training.phase].after,
            "method": PREFERENCE[training.phase].method,
        }
        for training in PREFERRED
    ]


def templates():
    """The parts of the page, one for each section, its style and its script."""
    return sorted(map(str, Path("scripts/report/templates").glob("[!.]*")))


def measured():
    """What the report shows of the run, by name: the jobs behind it are what the run costs."""
    return {
        "metrics": "results/{run}/metrics.json",
        "validity": "results/{run}/validity.json",
        "fidelity": "results/{run}/fidelity.json",
        "speed": "results/{run}/fidelity/speed.json",
        "summaries": training_files("summary.json", [*TRAININGS, *PREFERRED]),
        "forgetting": forgotten(),
        "judge": "results/{run}/judge.json" if config["judge"] else [],
        "experiment": experiment_files("effects.json"),
    }
