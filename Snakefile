"""Gradus: raw rows in, a fine-tuned model that runs in Ollama out, with the evidence that it works.

`snakemake --cores all` runs what config/config.yaml describes and reruns exactly what changed.
The plan of the house is docs/architecture.md.
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


include: "rules/common.smk"


config = checked(config)
take_over()


onstart:
    take_folder()


wildcard_constraints:
    run="|".join(map(re.escape, [config["run"]])),
    arm="|".join(config["curriculum"]["arms"]),
    seed=r"\d+",
    phase="easy|medium|hard",
    model=r"base|[a-z][a-z0-9-]*-\d+(-bf16|-nf4)?",
    converter=re.escape(config["data"]["package"]["converter"]),
    quant=r"[A-Z0-9_]+(-plain)?|bf16",
    split="test|eval-hard|eval-unseen",
    check="|".join(map(re.escape, checks())),


include: "rules/data.smk"
include: "rules/curriculum.smk"
include: "rules/train.smk"
include: "rules/export.smk"
include: "rules/evaluate.smk"
include: "rules/fidelity.smk"
include: "rules/report.smk"
include: "rules/version.smk"
include: "rules/bench.smk"


rule all:
    """Everything: metrics, gates, report, the folders for Ollama and Hugging Face, and where all of it comes from."""
    default_target: True
    input:
        everything(),
