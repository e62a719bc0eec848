"""version (for DVC and git) and archive: keep a finished run. Only on request."""


include: "inputs/version.smk"


rule version:
    """Record the finished run for DVC and git. Only on request: snakemake --cores all version."""
    input:
        everything(),
    output:
        records=f"results/{config['run']}/records.json",
    log:
        f"data/logs/version/{config['run']}.log",
    localrule: True  # git and DVC are there
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
            for name in ("difficulty", "forest", "loss", "metrics", "quants")
        ],
        code=code_fingerprint("version/version"),
    message:
        "Recording {params.run} for DVC"
    script:
        "../scripts/version/version.py"


rule archive:
    """Pack a tar file that can be unpacked and rerun offline. Only on request: snakemake --cores all archive."""
    input:
        everything(),
        asked=asked_behind_apis(),
        judged=[f"results/{config['run']}/judge/asked.json"] if config["judge"] else [],
    output:
        archive=f"results/archives/{config['run']}.tar",
    log:
        f"results/{config['run']}/logs/archive.log",
    localrule: True
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
