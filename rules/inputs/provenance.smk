"""Input functions of the manifest, for ../provenance.smk. No rules."""

from scripts.common.packages import LOCK


def recorded():
    """The inputs of the manifest; every file of the run is one of them or an ancestor."""
    data = ["data/dataset.jsonl", "data/rejected.jsonl", "data/audit.json"]
    results = ["metrics.json", "report.html", "fidelity.json", "ollama", "hf"]
    return [
        *(f"results/{{run}}/{name}" for name in data + results),
        "results/{run}/curves.csv",
        *training_files("trained", [*TRAININGS, *PREFERRED]),
        *(model_folder(model) for model in MODELS.values() if model.trained),
        *(f"results/{{run}}/export/{SERVED.name}/{quant}.gguf" for quant in quants()),
        *answered(),
        *evaluated("grades.jsonl"),
        *rating_files(),
    ]
