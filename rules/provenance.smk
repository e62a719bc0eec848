"""manifest → crate, sbom: the provenance of all files."""


include: "inputs/provenance.smk"


rule manifest:
    """Record for every file of the run what it is, how and from what it was made, and on which machine."""
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
        mem_mb=memory(1000),
    params:
        # hub and archive only affect what is done with a finished run
        config=lambda w: {key: part for key, part in config.items() if key not in ("hub", "archive")},
        lock=sha256_file(LOCK),
        code=code_fingerprint("provenance/manifest"),
    message:
        "Recording provenance"
    script:
        "../scripts/provenance/manifest.py"


rule crate:
    """Write the manifest as a Workflow Run RO-Crate, with a copy of the workflow."""
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
        code=code_fingerprint("provenance/crate"),
    message:
        "Writing the RO-Crate"
    script:
        "../scripts/provenance/crate.py"


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
        code=code_fingerprint("provenance/sbom"),
    message:
        "Listing the environment's packages"
    script:
        "../scripts/provenance/sbom.py"
