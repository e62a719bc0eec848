"""manifest → crate, sbom: where everything comes from; version and archive, on demand only."""


include: "inputs/version.smk"


rule manifest:
    """Say of every file of the run what it is, what made it of what, and on what machine."""
    input:
        recorded(),
        contract="results/{run}/data/chat_contract.json",
    output:
        manifest="results/{run}/manifest.json",
        config="results/{run}/config.yaml",
    log:
        "results/{run}/logs/manifest.log",
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=1000,
    params:
        # hub and archive are of what is done with a finished run
        config=lambda w: {key: part for key, part in config.items() if key not in ("hub", "archive")},
        lock=sha256_file(LOCK),
        code=code_fingerprint("version/manifest"),
    message:
        "Recording what was made of what"
    script:
        "../scripts/version/manifest.py"


rule crate:
    """Write the manifest as a Workflow Run RO-Crate, with the workflow as it ran."""
    input:
        manifest="results/{run}/manifest.json",
    output:
        crate="results/{run}/ro-crate-metadata.json",
        workflow=directory("results/{run}/workflow"),
    log:
        "results/{run}/logs/crate.log",
    conda:
        "../envs/gradus.yaml"
    params:
        code=code_fingerprint("version/crate"),
    message:
        "Writing the RO-Crate"
    script:
        "../scripts/version/crate.py"


rule sbom:
    """List the environment's packages as a CycloneDX SBOM."""
    output:
        sbom="results/{run}/sbom.cdx.json",
    log:
        "results/{run}/logs/sbom.log",
    conda:
        "../envs/gradus.yaml"
    params:
        lock=sha256_file(LOCK),
        code=code_fingerprint("version/sbom"),
    message:
        "Listing the environment's packages"
    script:
        "../scripts/version/sbom.py"


rule version:
    """Record the finished run for DVC and git. Only on demand: snakemake --cores all version."""
    input:
        everything(),
    output:
        records=f"results/{config['run']}/records.json",
    log:
        f"data/logs/version/{config['run']}.log",
    conda:
        "../envs/gradus.yaml"
    params:
        run=config["run"],
        served={
            "gguf": f"results/{config['run']}/ollama/model.gguf",
            "merged": f"results/{config['run']}/hf",
            "adapter": f"{last_phase(SERVED).format(run=config['run'])}/adapter",
        },
        figures=[
            f"results/{config['run']}/figures/{name}.svg"
            for name in ("difficulty", "loss", "metrics", "quants")
        ],
        code=code_fingerprint("version/version"),
    message:
        "Recording {params.run} for DVC"
    script:
        "../scripts/version/version.py"


rule archive:
    """Pack one tar that a reviewer unpacks and reruns offline. Only on demand: snakemake --cores all archive."""
    input:
        everything(),
    output:
        archive=f"results/archives/{config['run']}.tar",
    log:
        f"results/{config['run']}/logs/archive.log",
    conda:
        "../envs/gradus.yaml"
    params:
        run=config["run"],
        given=given_files(),
        wheels=config["archive"]["wheels"],
        code=code_fingerprint("version/archive"),
    message:
        "Packing {params.run}"
    script:
        "../scripts/version/archive.py"
