"""The page for raters of a finished run, and two people's files on their way to its report."""

import json

import yaml


def test_two_raters_reach_the_report_and_nothing_else_is_made_again(reference, tmp_path):
    project = reference.copy_to(tmp_path / "project")
    folder = project.results / "rating"

    def run(*targets, files=()):
        settings = {"pairs": [["tuned", "base"]], "files": list(files)}
        (project.folder / "rating.yaml").write_text(yaml.safe_dump({"rating": settings}))
        wanted = [f"results/tiny/{target}" for target in targets]
        configs = ("tiny.yaml", "rating.yaml")
        planned = project.planned(*wanted, configs=configs)
        code, text = project.snakemake(*wanted, configs=configs)
        assert code == 0, text
        return set(planned) - {"total"}

    assert run("rating/rate.html", "report.html") == {"rating_page"}
    key = json.loads((folder / "key.json").read_text())
    assert 0 < len(key["pairs"]) <= 4
    page = (folder / "rate.html").read_text()
    assert "tuned" not in page
    for name in ("ann", "bo"):
        ratings = [
            {"pair": pair["pair"], "winner": "1" if pair["first"] == "tuned" else "2", "marks": {}}
            for pair in key["pairs"]
        ]
        content = {"page": key["page"], "run": key["run"], "rater": name, "ratings": ratings}
        (project.folder / f"{name}.json").write_text(json.dumps(content))
    assert run("report.html", files=["ann.json", "bo.json"]) == {"ratings", "report"}
    (row,) = json.loads((folder / "ratings.json").read_text())["comparisons"]
    assert (row["a"], row["rated"], row["a_preferred"]) == ("tuned", len(key["pairs"]), len(key["pairs"]))
    assert "What people prefer" in (project.results / "report.html").read_text()
