"""check_… → gate, fidelity: every hand-over between formats is measured, and a bad one stops the run.

A check writes what it measured, and `gate` holds it against the thresholds. Both have priority over all other jobs, so a
failed gate ends the run as soon as there is something to measure; the folders for Ollama and the Hub wait for every gate.
"""


include: "inputs/fidelity.smk"


rule check_merge:
    """Compare a merged model with its base under the live adapter."""
    input:
        base=lambda w: merge_base(MODELS[w.model]),
        trained_on=rounded_base(),
        last=lambda w: last_phase(MODELS[w.model]),
        merged="results/{run}/export/{model}/merged",
        records="results/{run}/curriculum/valid.jsonl",
        instead="results/{run}/curriculum/train.jsonl",
        contract="results/{run}/data/chat_contract.json",
    output:
        facts="results/{run}/fidelity/{model}/merge.json",
    log:
        "results/{run}/logs/check_merge/{model}.log",
    benchmark:
        "results/{run}/benchmarks/check_merge-{model}.tsv"
    priority: 50
    conda:
        "../envs/gradus.yaml"
    threads: config["evaluate"]["threads"]
    resources:
        mem_mb=3000,
    params:
        threads=config["evaluate"]["threads"],
        tokens=config["fidelity"]["probe_tokens"],
        code=code_fingerprint("fidelity/check_merge"),
    message:
        "Comparing {wildcards.model} merged with its live adapter"
    script:
        "../scripts/fidelity/check_merge.py"


rule check_gguf:
    """Compare a bf16 GGUF with the checkpoint that it was made of."""
    input:
        model=lambda w: model_folder(MODELS[w.model]),
        gguf="results/{run}/export/{model}/bf16.gguf",
        records="results/{run}/curriculum/valid.jsonl",
        instead="results/{run}/curriculum/train.jsonl",
        contract="results/{run}/data/chat_contract.json",
    output:
        facts="results/{run}/fidelity/{model}/gguf.json",
    log:
        "results/{run}/logs/check_gguf/{model}.log",
    benchmark:
        "results/{run}/benchmarks/check_gguf-{model}.tsv"
    priority: 50
    conda:
        "../envs/gradus.yaml"
    threads: config["evaluate"]["threads"]
    resources:
        mem_mb=3000,
    params:
        threads=config["evaluate"]["threads"],
        tokens=config["fidelity"]["probe_tokens"],
        trained=lambda w: MODELS[w.model].trained,
        code=code_fingerprint("fidelity/check_gguf"),
    message:
        "Comparing the GGUF of {wildcards.model} with its checkpoint"
    script:
        "../scripts/fidelity/check_gguf.py"


rule quant_loss:
    """Measure what a quantization loses against bf16."""
    input:
        reference="results/{run}/export/{model}/bf16.gguf",
        gguf="results/{run}/export/{model}/{quant}.gguf",
        tokenizer="results/{run}/tokenizer",
        records=held_out_rows(),
        contract="results/{run}/data/chat_contract.json",
    output:
        loss="results/{run}/fidelity/{model}/{quant}.loss.json",
    log:
        "results/{run}/logs/quant_loss/{model}-{quant}.log",
    benchmark:
        "results/{run}/benchmarks/quant_loss-{model}-{quant}.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: config["evaluate"]["threads"]
    resources:
        mem_mb=2000,
    params:
        threads=config["evaluate"]["threads"],
        tokens=config["fidelity"]["probe_tokens"],
        code=code_fingerprint("fidelity/quant_loss"),
    message:
        "Measuring what {wildcards.quant} loses of {wildcards.model}"
    script:
        "../scripts/fidelity/quant_loss.py"


rule quantization:
    """Put the quants of the served model side by side."""
    input:
        unpack(task_file),
        losses=expand("results/{{run}}/fidelity/{{model}}/{quant}.loss.json", quant=quants()),
        grades=quant_files("grades.jsonl"),
    output:
        facts="results/{run}/fidelity/{model}/quantization.json",
    log:
        "results/{run}/logs/quantization/{model}.log",
    wildcard_constraints:
        model=re.escape(SERVED.name),
    priority: 50
    conda:
        "../envs/gradus.yaml"
    params:
        quants=quants(),
        served=QUANT,
        task=config["data"]["task"],
        split=SPLITS[0],
        code=code_fingerprint("fidelity/quantization"),
    message:
        "Putting the quants of {wildcards.model} side by side"
    script:
        "../scripts/fidelity/quantization.py"


rule speed:
    """Time the quants of the served model, one after the other with nothing else running."""
    input:
        ggufs=[f"results/{{run}}/export/{SERVED.name}/{quant}.gguf" for quant in quants()],
        tokenizer="results/{run}/tokenizer",
        records=held_out_rows(),
        contract="results/{run}/data/chat_contract.json",
    output:
        speed="results/{run}/fidelity/speed.json",
    log:
        "results/{run}/logs/speed.log",
    benchmark:
        "results/{run}/benchmarks/speed.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: all_cores(workflow)
    resources:
        mem_mb=1500,
    params:
        quants=quants(),
        threads=config["evaluate"]["threads"],
        code=code_fingerprint("fidelity/speed"),
    message:
        "Timing the quants"
    script:
        "../scripts/fidelity/speed.py"


rule check_template:
    """Compare the prompts of transformers, llama.cpp and the Modelfile."""
    input:
        tokenizer=served("results/{run}/export/{model}/merged"),
        gguf=served("results/{run}/export/{model}/{quant}.gguf"),
        modelfile="results/{run}/export/Modelfile",
        records=held_out_rows(),
        contract="results/{run}/data/chat_contract.json",
    output:
        facts="results/{run}/fidelity/template.json",
    log:
        "results/{run}/logs/check_template.log",
    priority: 50
    conda:
        "../envs/gradus.yaml"
    params:
        cache=".work/go",
        go=shutil.which("go") is not None,
        code=code_fingerprint("fidelity/check_template", "fidelity/render.go"),
    message:
        "Comparing the prompts of transformers, llama.cpp and Ollama"
    script:
        "../scripts/fidelity/check_template.py"


rule check_stopping:
    """Count which answers ended by themselves."""
    input:
        answers=answered(),
    output:
        facts="results/{run}/fidelity/stopping.json",
    log:
        "results/{run}/logs/check_stopping.log",
    priority: 50
    conda:
        "../envs/gradus.yaml"
    params:
        models=[model.name for model in MODELS.values() if model.trained],
        served=QUANT,
        split=SPLITS[0],
        code=code_fingerprint("fidelity/check_stopping"),
    message:
        "Counting which answers ended by themselves"
    script:
        "../scripts/fidelity/check_stopping.py"


rule check_serving:
    """Serve the GGUF by an OpenAI-compatible server and compare its answers with the evaluation's."""
    input:
        gguf=served("results/{run}/export/{model}/{quant}.gguf"),
        answers=served_answers(),
        records=held_out_rows(),
        contract="results/{run}/data/chat_contract.json",
    output:
        facts="results/{run}/fidelity/serving.json",
    log:
        "results/{run}/logs/check_serving.log",
    benchmark:
        "results/{run}/benchmarks/check_serving.tsv"
    priority: 50
    conda:
        "../envs/gradus.yaml"
    threads: config["evaluate"]["threads"]
    resources:
        mem_mb=1500,
    params:
        asked=config["fidelity"]["served_rows"],
        max_tokens=config["evaluate"]["max_tokens"],
        threads=config["evaluate"]["threads"],
        code=code_fingerprint("fidelity/check_serving"),
    message:
        "Asking an OpenAI-compatible server"
    script:
        "../scripts/fidelity/check_serving.py"


rule gate:
    """Stop the run if a check's gates fail."""
    input:
        facts="results/{run}/fidelity/{check}.json",
    output:
        passed="results/{run}/fidelity/{check}.passed",
    log:
        "results/{run}/logs/gate/{check}.log",
    priority: 50
    conda:
        "../envs/gradus.yaml"
    params:
        folder=lambda w: f"results/{w.run}/fidelity",
        checks=check_names(),
        thresholds=config["fidelity"],
        code=code_fingerprint("fidelity/gate"),
    message:
        "Gates of {wildcards.check}"
    script:
        "../scripts/fidelity/gate.py"


rule fidelity:
    """List every gate: value, threshold, passed or not."""
    input:
        facts=check_files(),
    output:
        fidelity="results/{run}/fidelity.json",
    log:
        "results/{run}/logs/fidelity.log",
    priority: 100  # before the last gate may stop the run
    conda:
        "../envs/gradus.yaml"
    params:
        checks=check_names(),
        thresholds=config["fidelity"],
        code=code_fingerprint("fidelity/fidelity"),
    message:
        "Listing the gates"
    script:
        "../scripts/fidelity/fidelity.py"
