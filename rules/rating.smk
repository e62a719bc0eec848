"""rating_page → ratings: people say which of two answers is better, without knowing whose they are."""


include: "inputs/rating.smk"


rule rating_page:
    """Make the page for the raters, and the key that says whose the answers are."""
    input:
        template=local("scripts/rating/rating_page.html.j2"),
        answers=evaluated("answers.jsonl", rated_models(), rated_splits()),
        records=[f"results/{{run}}/curriculum/{split}.jsonl" for split in rated_splits()],
    output:
        page="results/{run}/rating/rate.html",
        key="results/{run}/rating/key.json",
    log:
        "results/{run}/logs/rating_page.log",
    conda:
        "../envs/gradus.yaml"
    params:
        run=config["run"],
        models=[model.name for model in rated_models()],
        pairs=rated_pairs(),
        splits=rated_splits(),
        rows=config["rating"]["rows"],
        seed=config["rating"]["seed"],
        shown={key: config["rating"][key] for key in ("question", "marks", "reference")},
        code=code_fingerprint("rating/rating_page"),
    message:
        "Making the page for raters"
    script:
        "../scripts/rating/rating_page.py"


rule ratings:
    """Read the raters' files back: how often each model was preferred, and how far the raters agree."""
    input:
        key="results/{run}/rating/key.json",
        files=local(config["rating"]["files"]),
    output:
        ratings="results/{run}/rating/ratings.json",
    log:
        "results/{run}/logs/ratings.log",
    conda:
        "../envs/gradus.yaml"
    params:
        code=code_fingerprint("rating/ratings"),
    message:
        "Reading what people rated"
    script:
        "../scripts/rating/ratings.py"
