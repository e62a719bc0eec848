"""A judge beside a finished run: it is asked after the gates, its opinion goes into the report, and its key nowhere."""

import json

import yaml

from tests.api import Api, judging

REPORT, CONFIGS = "results/tiny/report.html", ("tiny.yaml", "own.yaml")


def test_a_judge_is_added_to_a_finished_run(project, tmp_path, monkeypatch):
    canary = "canary-31c9ee"
    copy = project.copy_to(tmp_path / "copy")
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with Api() as api:
        api.usual = judging
        judge = {"endpoint": {"url": api.url, "model": "big", "key_env": "JUDGE_KEY"}, "rubric": "mine.md"}
        (copy.folder / "own.yaml").write_text(yaml.safe_dump({"judge": judge}))
        (copy.folder / "mine.md").write_text("Right is right.")
        jobs = {"ask_judge": 1, "judge": 1, "cost": 1, "report": 1}
        assert copy.planned(REPORT, configs=CONFIGS) == jobs, "it retrains and answers nothing"
        code, text = copy.snakemake(REPORT, configs=CONFIGS)
        assert code != 0
        assert "takes a key from $JUDGE_KEY (endpoint.key_env), which is not set" in text
        monkeypatch.setenv("JUDGE_KEY", canary)
        code, text = copy.snakemake(REPORT, configs=CONFIGS)
        assert code == 0, text
        asked = len(api.requests)
        assert api.headers[0]["Authorization"] == f"Bearer {canary}"
        found = json.loads((copy.results / "judge.json").read_text())
        assert [(row["model"], row["n"]) for row in found["models"]] == [("tuned", 4), ("base", 4)]
        assert [(pair["a"], pair["b"], pair["n"]) for pair in found["pairs"]] == [("tuned", "base", 4)]
        assert asked <= 4 * (2 + 2)
        page = (copy.folder / REPORT).read_text()
        assert "This is an opinion, not a measurement." in page
        assert "Right is right." in page
        before = (copy.results / "judge.json").read_bytes()
        code, more = copy.snakemake(REPORT, "--forcerun", "ask_judge", configs=CONFIGS)
        assert code == 0, more
        assert len(api.requests) == asked, "replies are kept"
        assert (copy.results / "judge.json").read_bytes() == before
        (copy.folder / "mine.md").write_text("Short is right.")
        assert copy.planned(REPORT, configs=CONFIGS) == jobs
        code, last = copy.snakemake("results/tiny/judge/asked.json", configs=CONFIGS)
        assert code == 0, last
        assert len(api.requests) == 2 * asked, "another rubric asks again"
    assert canary not in text + more + last
    assert not [file for file in copy.folder.rglob("*") if file.is_file() and canary.encode() in file.read_bytes()]
