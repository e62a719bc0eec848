"""answer → grade → compare, validity. They apply to all models; a baseline is an entry in the config's `models`."""


rule choose_examples:
    """Let the validation rows decide about the examples that a model is shown."""
    input:
        unpack(needed_to_choose),
        unpack(task_file),
        gguf=gguf_file,
        records="results/{run}/curriculum/valid.jsonl",
        contract="results/{run}/data/chat_contract.json",
    output:
        examples="results/{run}/evaluate/{model}/examples.json",
    log:
        "results/{run}/logs/choose_examples/{model}.log",
    benchmark:
        "results/{run}/benchmarks/choose_examples-{model}.tsv"
    wildcard_constraints:
        model="|".join(re.escape(model.name) for model in MODELS.values() if model.gguf),
    priority: 10  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    threads: config["evaluate"]["threads"]
    resources:
        mem_mb=memory(1200, 1, "gguf"),
        runtime=minutes(60, 0.1, "gguf"),
        gpu=ANSWERING_GPU,
    params:
        answer={
            "max_rows": max_rows("valid"),
            **{key: config["evaluate"][key] for key in ("max_tokens", "sequences", "threads", "gpu_layers")},
        },
        options=lambda w: dict(MODELS[w.model].options),
        own_template=lambda w: not MODELS[w.model].exported,
        task=config["data"]["task"],
        headline=config["evaluate"]["headline"],
        code=code_fingerprint("evaluate/choose_examples"),
    message:
        "Choosing examples for {wildcards.model}"
    script:
        "../scripts/evaluate/choose_examples.py"


rule answer:
    """Answer one split with one model, greedily, with llama.cpp."""
    input:
        unpack(needed),
        gguf=gguf_file,
        records="results/{run}/curriculum/{split}.jsonl",
        contract="results/{run}/data/chat_contract.json",
    output:
        answers="results/{run}/evaluate/{model}/{quant}/{split}.answers.jsonl",
        speed="results/{run}/evaluate/{model}/{quant}/{split}.speed.json",
    log:
        "results/{run}/logs/answer/{model}-{quant}-{split}.log",
    benchmark:
        "results/{run}/benchmarks/answer-{model}-{quant}-{split}.tsv"
    wildcard_constraints:
        quant=f"{QUANTS}|gguf",  # kinds without a GGUF have rules of their own, which write <model>/<kind>/<split>
    priority: 10  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    threads: config["evaluate"]["threads"]
    resources:
        mem_mb=memory(1200, 1, "gguf"),
        runtime=minutes(60, 0.1, "gguf"),
        gpu=ANSWERING_GPU,
    params:
        answer=lambda w: {
            "max_rows": max_rows(w.split, MODELS[w.model]),
            **{key: config["evaluate"][key] for key in ("max_tokens", "sequences", "threads", "gpu_layers")},
        },
        options=lambda w: dict(MODELS[w.model].options),
        own_template=lambda w: not MODELS[w.model].exported,
        at_most=lambda w: resolved.was_added(config, MODELS[w.model]),
        code=code_fingerprint("evaluate/answer"),
    message:
        "{wildcards.model} ({wildcards.quant}) answers {wildcards.split}"
    script:
        "../scripts/evaluate/answer.py"


rule ask_endpoint:
    """Answer one split with a model behind an OpenAI-compatible API. Like `ask_judge`, it uses the network."""
    input:
        unpack(needed),
        records="results/{run}/curriculum/{split}.jsonl",
        contract="results/{run}/data/chat_contract.json",
    output:
        answers="results/{run}/evaluate/{model}/endpoint/{split}.answers.jsonl",
        speed="results/{run}/evaluate/{model}/endpoint/{split}.speed.json",
    log:
        "results/{run}/logs/ask_endpoint/{model}-{split}.log",
    benchmark:
        "results/{run}/benchmarks/ask_endpoint-{model}-{split}.tsv"
    priority: 20  # before training: a wrong address or key is known at once
    localrule: True  # it uses the network
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(500),
        runtime=minutes(120),
        endpoint=1,  # one job at a time (profiles/default), so that its concurrency is that of the run
    params:
        max_rows=lambda w: max_rows(w.split, MODELS[w.model]),
        max_tokens=config["evaluate"]["max_tokens"],
        endpoint=lambda w: shapes_answers(MODELS[w.model].given),
        options=lambda w: dict(MODELS[w.model].options),
        code=code_fingerprint("evaluate/ask_endpoint"),
    message:
        "{wildcards.model} answers {wildcards.split} behind its API"
    script:
        "../scripts/evaluate/ask_endpoint.py"


rule grade:
    """Grade one model's answers to one split."""
    input:
        unpack(answer_schema),
        unpack(task_file),
        answers="results/{run}/evaluate/{model}/{quant}/{split}.answers.jsonl",
        records="results/{run}/curriculum/{split}.jsonl",
        trained="results/{run}/curriculum/train.jsonl",
    output:
        grades="results/{run}/evaluate/{model}/{quant}/{split}.grades.jsonl",
        metrics="results/{run}/evaluate/{model}/{quant}/{split}.metrics.json",
        details="results/{run}/evaluate/{model}/{quant}/{split}.details.json",
    log:
        "results/{run}/logs/grade/{model}-{quant}-{split}.log",
    priority: 10  # before training, so that the advice comes first
    conda:
        "../envs/gradus.yaml"
    resources:
        mem_mb=memory(1000),
    params:
        task=config["data"]["task"],
        code=code_fingerprint("evaluate/grade"),
    message:
        "Grading {wildcards.model} ({wildcards.quant}) on {wildcards.split}"
    script:
        "../scripts/evaluate/grade.py"


rule compare:
    """Compare the models."""
    input:
        unpack(task_file),
        metrics=evaluated("metrics.json"),
        grades=evaluated("grades.jsonl"),
        answers=evaluated("answers.jsonl"),
        records=[f"results/{{run}}/curriculum/{split}.jsonl" for split in SPLITS],
        advice="results/{run}/advice.json",
    output:
        metrics=report(
            "results/{run}/metrics.json",
            caption="captions/all_metrics.rst",
            category="Metrics",
            labels={"file": "metrics of each model"},
        ),
        comparison=report(
            "results/{run}/comparison.json",
            caption="captions/comparison.rst",
            category="Metrics",
            labels={"file": "comparison of the models"},
        ),
    log:
        "results/{run}/logs/compare.log",
    conda:
        "../envs/gradus.yaml"
    params:
        models=[model.describe() for model in MODELS.values()],
        first=COMPARED_WITH.name,
        served=SERVED.name,
        splits=SPLITS,
        task=config["data"]["task"],
        headline=config["evaluate"]["headline"],
        code=code_fingerprint("evaluate/compare"),
    message:
        "Comparing the models"
    script:
        "../scripts/evaluate/compare.py"


rule validity:
    """Test whether difficulty correlates with models' errors."""
    input:
        scores="results/{run}/curriculum/scores.jsonl",
        grades=evaluated("grades.jsonl"),
        advice="results/{run}/advice.json",
    output:
        validity="results/{run}/validity.json",
    log:
        "results/{run}/logs/validity.log",
    conda:
        "../envs/gradus.yaml"
    params:
        models={model.name: model.group for model in MODELS.values()},
        first=COMPARED_WITH.name,
        served=SERVED.name,
        splits=SPLITS,
        code=code_fingerprint("evaluate/validity"),
    message:
        "Correlating difficulty with errors"
    script:
        "../scripts/evaluate/validity.py"
