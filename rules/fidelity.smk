"""check_… → gate, fidelity: every conversion between formats is measured, and a bad one stops the run.

A check writes its measurements, and `gate` compares them with the thresholds. Both have priority over other jobs, so
a failed gate stops the run as early as possible. The folders for Ollama and the Hub wait for all gates.
"""


include: "inputs/fidelity.smk"


rule check_merge:
    """Compare a merged model with its base plus the unmerged adapter."""
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
        mem_mb=memory(2500 + CUDA_MB, 0.1, "base"),
        runtime=minutes(60, COMPARING * config["fidelity"]["probe_tokens"], "base"),
        gpu=TRAINING_GPU,
    params:
        threads=config["evaluate"]["threads"],
        tokens=config["fidelity"]["probe_tokens"],
        code=code_fingerprint("fidelity/check_merge"),
    message:
        "Comparing merged {wildcards.model} with its unmerged adapter"
    script:
        "../scripts/fidelity/check_merge.py"


rule check_gguf:
    """Compare a bf16 GGUF with the checkpoint that it was converted from."""
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
        mem_mb=memory(2500 + CUDA_MB, 1.1, "model"),
        runtime=minutes(60, COMPARING * config["fidelity"]["probe_tokens"], "model"),
        gpu=max(ANSWERING_GPU, TRAINING_GPU),
    params:
        threads=config["evaluate"]["threads"],
        gpu_layers=config["evaluate"]["gpu_layers"],
        tokens=config["fidelity"]["probe_tokens"],
        trained=lambda w: MODELS[w.model].trained,
        code=code_fingerprint("fidelity/check_gguf"),
    message:
        "Comparing the GGUF of {wildcards.model} with its checkpoint"
    script:
        "../scripts/fidelity/check_gguf.py"


rule reference_logits:
    """Compute the logits of the served model's bf16 GGUF, which its quants are compared with."""
    input:
        gguf="results/{run}/export/{model}/bf16.gguf",
        tokenizer="results/{run}/tokenizer",
        records=held_out_rows(),
        contract="results/{run}/data/chat_contract.json",
    output:
        logits=temp("results/{run}/fidelity/{model}/bf16.logits.npy"),
    log:
        "results/{run}/logs/reference_logits/{model}.log",
    benchmark:
        "results/{run}/benchmarks/reference_logits-{model}.tsv"
    conda:
        "../envs/gradus.yaml"
    threads: config["evaluate"]["threads"]
    resources:
        mem_mb=memory(1500, 1, "gguf"),
        runtime=minutes(60, COMPARING * config["fidelity"]["probe_tokens"], "gguf"),
        gpu=ANSWERING_GPU,
    params:
        threads=config["evaluate"]["threads"],
        gpu_layers=config["evaluate"]["gpu_layers"],
        tokens=config["fidelity"]["probe_tokens"],
        code=code_fingerprint("fidelity/reference_logits"),
    message:
        "Computing what the quants of {wildcards.model} are compared with"
    script:
        "../scripts/fidelity/reference_logits.py"


rule quant_loss:
    """Measure the loss of a quantization compared with bf16."""
    input:
        reference="results/{run}/fidelity/{model}/bf16.logits.npy",
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
        mem_mb=memory(1500, 1, "gguf"),
        runtime=minutes(60, COMPARING * config["fidelity"]["probe_tokens"], "gguf"),
        gpu=ANSWERING_GPU,
    params:
        threads=config["evaluate"]["threads"],
        gpu_layers=config["evaluate"]["gpu_layers"],
        tokens=config["fidelity"]["probe_tokens"],
        code=code_fingerprint("fidelity/quant_loss"),
    message:
        "Measuring the loss of {wildcards.model} by {wildcards.quant}"
    script:
        "../scripts/fidelity/quant_loss.py"


rule quantization:
    """Compare the quants of the served model."""
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
        headline=config["evaluate"]["headline"],
        split=SPLITS[0],
        code=code_fingerprint("fidelity/quantization"),
    message:
        "Comparing the quants of {wildcards.model}"
    script:
        "../scripts/fidelity/quantization.py"


rule speed:
    """Time the quants of the served model, one at a time, with nothing else running."""
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
        mem_mb=memory(1200, 1, "ggufs"),
        runtime=minutes(60, 0.1, "ggufs"),
        gpu=ANSWERING_GPU,
    params:
        quants=quants(),
        threads=config["evaluate"]["threads"],
        gpu_layers=config["evaluate"]["gpu_layers"],
        code=code_fingerprint("fidelity/speed"),
    message:
        "Timing the quants"
    script:
        "../scripts/fidelity/speed.py"


rule check_template:
    """Compare the prompts that transformers, llama.cpp and the Modelfile produce."""
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
    """Count the answers that ended with an end-of-turn token."""
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
        models=[model.name for model in MODELS.values() if model.trained and model.plain],
        served=QUANT,
        split=SPLITS[0],
        code=code_fingerprint("fidelity/check_stopping"),
    message:
        "Counting the answers that ended with an end-of-turn token"
    script:
        "../scripts/fidelity/check_stopping.py"


rule check_serving:
    """Serve the GGUF with an OpenAI-compatible server and compare its answers with those of the evaluation."""
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
        mem_mb=memory(1200, 1, "gguf"),
        runtime=minutes(60, 0.1, "gguf"),
        gpu=ANSWERING_GPU,
    params:
        asked=config["fidelity"]["served_rows"],
        max_tokens=config["evaluate"]["max_tokens"],
        threads=config["evaluate"]["threads"],
        gpu_layers=config["evaluate"]["gpu_layers"],
        code=code_fingerprint("fidelity/check_serving"),
    message:
        "Checking the answers of an OpenAI-compatible server"
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
    retries: 0  # it would fail again
    localrule: True  # it compares a few numbers
    conda:
        "../envs/gradus.yaml"
    params:
        checks=check_names(),
        thresholds=config["fidelity"],
        code=code_fingerprint("fidelity/gate"),
    message:
        "Checking the gates of {wildcards.check}"
    script:
        "../scripts/fidelity/gate.py"


rule fidelity:
    """List all gates: value, threshold, passed or failed."""
    input:
        facts=check_files(),
    output:
        fidelity="results/{run}/fidelity.json",
    log:
        "results/{run}/logs/fidelity.log",
    priority: 100  # must run before the last gate can stop the run
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
