"""Gradus: turns raw rows into a fine-tuned model that runs in Ollama, with evidence that it works.

`snakemake --cores all` runs config/config.yaml and reruns only what changed. A config given by --configfile stands
alone: config/config.yaml is then not read. The layout is described in docs/architecture.md.
"""

from snakemake.utils import min_version

min_version("9.27")


if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "rules/captions/workflow.rst"  # of `snakemake --report`


include: "rules/startup.smk"


config = checked(config)
require_storage()
know_run()
take_over()


onstart:
    take_folder()
    require_keys()
    require_cluster()
    measure_energy()
    show_progress()


include: "rules/inputs/resources.smk"
include: "rules/inputs/gpus.smk"
include: "rules/inputs/sources.smk"
include: "rules/models.smk"
include: "rules/targets.smk"


wildcard_constraints:
    run=re.escape(config["run"]),
    arm="|".join(sorted({re.escape(training.arm) for training in [*TRAININGS, *EXPERIMENT_TRAININGS]})),
    variant="|".join(map(re.escape, VARIANTS or ["main"])),
    seed=r"\d+",
    phase="|".join(map(re.escape, [*PHASES, *PREFERENCE])),
    after="|".join(map(re.escape, PHASES)),
    model="|".join(map(re.escape, MODELS)),
    quant=FORMS,
    split="valid|test|eval-hard|eval-unseen|eval-own",
    check="|".join(map(re.escape, check_names())),


include: "rules/data.smk"
include: "rules/curriculum.smk"
include: "rules/train.smk"
include: "rules/export.smk"
include: "rules/experiment.smk"
include: "rules/contenders.smk"
include: "rules/preference.smk"
include: "rules/evaluate.smk"
include: "rules/advise.smk"
include: "rules/fidelity.smk"
include: "rules/forgetting.smk"
include: "rules/rating.smk"
include: "rules/judge.smk"
include: "rules/report.smk"
include: "rules/provenance.smk"
include: "rules/version.smk"
include: "rules/bench.smk"


rule all:
    """Make everything: metrics, gates, report, the folders for Ollama and Hugging Face, and provenance records."""
    default_target: True
    input:
        everything(),


rule experiment:
    """Make only the experiment: all of its trainings, and their comparison."""
    input:
        f"results/{config['run']}/experiment/effects.json" if EXPERIMENT else [],
