"""ask_judge → judge: a language model's opinion of the answers, if the config names one."""

if config["judge"]:

    include: "inputs/judge.smk"

    rule ask_judge:
        """Let a model behind an API judge answers by a rubric. Like `ask_endpoint`, it uses the network."""
        input:
            passed(),
            answers=evaluated("answers.jsonl", judged_models(), judged_splits()),
            records=[f"results/{{run}}/curriculum/{split}.jsonl" for split in judged_splits()],
            contract="results/{run}/data/chat_contract.json",
            rubric=local(config["judge"]["rubric"] or "scripts/judge/rubric.md"),
            advice=[] if config["judge"]["models"] else "results/{run}/advice.json",
        output:
            answers="results/{run}/judge/answers.jsonl",
            pairs="results/{run}/judge/pairs.jsonl",
            asked="results/{run}/judge/asked.json",
        log:
            "results/{run}/logs/ask_judge.log",
        benchmark:
            "results/{run}/benchmarks/ask_judge.tsv"
        localrule: True  # it uses the network
        conda:
            "../envs/gradus.yaml"
        resources:
            mem_mb=memory(500),
            runtime=minutes(240),
            endpoint=1,  # one job at a time (profiles/default), so that its concurrency is that of the run
        params:
            judge=shapes_answers(config["judge"]["endpoint"]),
            models=config["judge"]["models"],
            pairs=config["judge"]["pairs"],
            shown=[SERVED.name, COMPARED_WITH.name],
            answered=[[model.name, split] for model in judged_models() for split in judged_splits()],
            splits=judged_splits(),
            max_rows=config["judge"]["max_rows"],
            code=code_fingerprint("judge/ask_judge"),
        message:
            "A language model judges the answers"
        script:
            "../scripts/judge/ask_judge.py"

    rule judge:
        """Sum up what the judge said, and compare it with what people said."""
        input:
            answers="results/{run}/judge/answers.jsonl",
            pairs="results/{run}/judge/pairs.jsonl",
            asked="results/{run}/judge/asked.json",
            ratings=human_ratings(),
        output:
            judge="results/{run}/judge.json",
        log:
            "results/{run}/logs/judge.log",
        conda:
            "../envs/gradus.yaml"
        resources:
            mem_mb=memory(1000),
        params:
            itself=[model.name for model in judged_models() if is_judge(model)],
            code=code_fingerprint("judge/judge"),
        message:
            "Summing up what the judge said"
        script:
            "../scripts/judge/judge.py"
