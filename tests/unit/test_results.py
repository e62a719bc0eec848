"""The figures that `make results` puts into pages, and those of a run that is not finished."""

import json
import re
from pathlib import Path

import pytest

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.report.measured import SECTIONS, busy, difficulty, forgetting, made
from scripts.report.results import BLOCK, EXPERIMENT, fill, keep_experiment

MODELS = {"base": {}, "tuned": {"trained": {"arm": "curriculum", "seed": 1}}, "nearest": {"nearest": {}}}
VALUES = {"base": 0.0, "tuned": 0.5, "nearest": 0.25}
PAGE = """# Page
<!-- results: summary one -->

old figures

<!-- /results -->
by hand
<!-- results: overview two one -->

| run | old |
|---|---|
| two | of before |

<!-- /results -->
<!-- results: models two -->
<!-- /results -->
"""


def pair(name):
    lead = VALUES["tuned"] - VALUES[name]
    return {
        "n": 40,
        "value": 0.5,
        "interval": [0.4, 0.6],
        "first_value": VALUES[name],
        "difference": lead,
        "difference_interval": [lead - 0.1, lead + 0.1],
        "p": 0.001,
        "p_holm": 0.002,
    }


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "one"
    (folder / "evaluate").mkdir(parents=True)
    files = {
        "metrics.json": {name: {"test": {"exact": {"value": v, "n": 40}}} for name, v in VALUES.items()},
        "comparison.json": {
            "headline": "exact",
            "first": "base",
            "intervals": {name: {"test": {"exact": [max(0, v - 0.1), v + 0.1]}} for name, v in VALUES.items()},
            "served": {
                "model": "tuned",
                "strongest": "nearest",
                "models": {name: {"test": {"exact": pair(name)}} for name in ("base", "nearest")},
            },
            "over_seeds": [
                {
                    "split": "test",
                    "metric": "exact",
                    "arm": "dpo-curriculum",
                    "control": "sft-curriculum",
                    "seeds": 3,
                    "items": 40,
                    "value": 0.5,
                    "control_value": 0.4,
                    "difference": 0.1,
                    "interval": [-0.05, 0.25],
                    "p": 0.12,
                }
            ],
        },
        "verdict.json": {
            "verdict": "worth it",
            "served": "tuned",
            "primary_metric": "exact",
            "split": "test",
            "best_contender": "nearest",
            "difference": 0.25,
            "interval": [0.15, 0.35],
            "n": 40,
            "sentence": "Worth it: tuned beats nearest.",
            "reasons": ["One seed."],
        },
        "config.yaml": {"models": MODELS},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_the_figures_stand_between_the_comments_and_nothing_else_changes(run):
    text, missing = fill(PAGE, {"one": run})
    assert "old figures" not in text
    assert "| **tuned** | trained: curriculum, seed 1 | 50.0% | 40.0 to 60.0 |" in text
    assert text.index("| **tuned**") < text.index("| nearest |") < text.index("| base |")  # the best first
    assert "**Worth it: tuned beats nearest.**" in text
    assert BLOCK.sub("", text) == BLOCK.sub("", PAGE)
    again = fill(text, {"one": run})
    assert again == (text, missing)


def test_models_that_were_asked_fewer_rows_are_compared_on_these(run):
    """With `evaluate.untrained_rows` the trained model answers 200 rows and the others the first 40."""
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["tuned"]["test"]["exact"] = {"value": 0.7, "n": 200}  # 0.5 on the 40
    (run / "metrics.json").write_text(json.dumps(metrics))
    text, _ = fill(PAGE, {"one": run})
    assert "| test, 40 to 200 rows | what it is | exact | 95% interval | n |" in text
    assert "| **tuned** | trained: curriculum, seed 1 | 70.0% | 40.0 to 60.0 | 200 |" in text
    assert (
        "| tuned 50.0% (40.0 to 60.0); of all 200 rows 70.0% (40.0 to 60.0) | nearest 25.0% (15.0 to 35.0) | +25.0 ("
        in text
    )


def test_ways_of_training_are_said_with_seeds_and_rows(run):
    text, _ = fill("<!-- results: models one -->\n<!-- /results -->\n", {"one": run})
    assert (
        "- test, exact, 3 seeds × 40 rows: dpo-curriculum 50.0% against sft-curriculum 40.0%, difference +10.0 points "
        "(95% interval -5.0 to +25.0), p = 0.12"
    ) in text


def test_an_experiments_comparisons_and_figures_are_kept(tmp_path):
    folder = tmp_path / "order/experiment"
    folder.mkdir(parents=True)
    (folder / "experiment.md").write_text("**Does it?**\n\n| arm |\n")
    for name in EXPERIMENT:
        (tmp_path / "order" / name).write_text(f"{name}\n")
    (folder / "spent.csv").write_text(
        "variant,arm,seed,seconds,steps_seconds,cpu\nmain,a,1,90,80,X\nmain,b,1,60,50,X\n"
    )
    page = "<!-- results: experiment order -->\nold\n<!-- /results -->\n"
    text, missing = fill(page, {"order": tmp_path / "order"})
    assert "**Does it?**" in text and "took 2 minutes, added up, on: X." in text and "old" not in text
    assert missing == []
    keep_experiment(tmp_path / "order", tmp_path / "docs")
    assert sorted(file.name for file in (tmp_path / "docs/results/order").iterdir()) == sorted(
        Path(name).name for name in EXPERIMENT
    )
    keep_experiment(tmp_path, tmp_path / "docs")  # a run without an experiment has nothing to keep


def test_a_run_that_is_not_there_keeps_its_figures_and_is_named(run):
    text, missing = fill(PAGE, {"one": run})
    rows = re.findall(r"^\| (?:one|two) \|.*$", text, re.MULTILINE)
    assert rows == [
        "| two | of before |",
        "| one | exact, test | tuned 50.0% (40.0 to 60.0) | nearest 25.0% (15.0 to 35.0) "
        "| +25.0 (+15.0 to +35.0), n = 40 | worth it |",
    ]
    assert "*No figures yet: `make RUN=two`, then `make results`.*" in text
    assert missing == ["overview of two: results/two is missing", "models of two: results/two is missing"]


def test_every_section_of_a_run_that_has_just_begun_says_what_is_missing(tmp_path):
    for name, what in SECTIONS.items():
        if name == "resources":  # what has run so far
            continue
        with pytest.raises(GradusError, match=str(tmp_path)):
            made(what, tmp_path)


def test_a_run_of_another_version_is_named(run):
    comparison = json.loads((run / "comparison.json").read_text())
    del comparison["intervals"]
    (run / "comparison.json").write_text(json.dumps(comparison))
    with pytest.raises(GradusError, match="another version of Gradus: it has no 'intervals'"):
        made(SECTIONS["summary"], run)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- results: summary one -->\nno end\n", "has no end"),
        ("<!-- results: summary one -->\n<!-- results: models one -->\n<!-- /results -->\n", "has no end"),
        ("<!-- results: sumary one -->\n<!-- /results -->\n", "no such section; there are overview, summary"),
    ],
)
def test_a_block_that_cannot_be_filled_is_an_error(run, page, message):
    with pytest.raises(GradusError, match=message):
        fill(page, {"one": run})


def test_the_projects_own_pages_have_whole_blocks():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        fill(page.read_text(), {})


def test_time_counts_once_where_jobs_run_side_by_side():
    assert busy([(0, 10), (5, 12), (20, 21), (6, 7)]) == 13
    assert busy([]) == 0


def test_correlations_say_of_how_many_rows_they_are(tmp_path):
    pair = {"rho": 0.2, "low": 0.1, "high": 0.3, "n": 221}
    scorers = {"length": {"failures": {"base": None, "few-shot": {**pair, "n": 80}, "tuned": pair}}}
    (tmp_path / "validity.json").write_text(json.dumps({"rows": 221, "scorers": scorers}))
    head, _, line = difficulty(tmp_path)
    assert head == "| rank correlation with failures (221 rows) | base | few-shot (80 rows) | tuned |"
    assert line == "| length | – | 0.20 (0.10 to 0.30) | 0.20 (0.10 to 0.30) |"


def test_what_was_forgotten_has_chance_intervals_and_p(tmp_path):
    kinds = {
        "facts": {"value": 0.5, "chance": 0.04, "counts": True},
        "copying": {"value": 0.1, "chance": 0.08, "counts": False},
    }
    pair = {"n": 50, "base_value": 0.5, "value": 0.3, "difference": -0.2, "difference_interval": [-0.3, -0.1]}
    text = {"base_value": 18.0, "value": 20.0, "ratio": 1.11, "ratio_interval": [1.05, 1.2]}
    model = {
        "kinds": {"facts": {**pair, "p_holm": 0.02}, "copying": {**pair, "difference_interval": None, "p_holm": None}},
        "overall": pair,
        "perplexity": text,
    }
    (tmp_path / "forgetting.json").write_text(json.dumps({"kinds": kinds, "models": {"tuned": model}}))
    artifacts = {f"results/{tmp_path.name}/forgetting.json": {}}
    (tmp_path / "manifest.json").write_text(json.dumps({"artifacts": artifacts}))
    assert forgetting(tmp_path)[2:] == [
        "| facts | 50 | 50.0% | 4.0% | 30.0% | -20.0 (-30.0 to -10.0) | 0.02 |",
        "| copying (left out: the base hardly beats chance) | 50 | 10.0% | 8.0% | 30.0% | -20.0 |  |",
        "| all that count | 50 | 50.0% |  | 30.0% | -20.0 (-30.0 to -10.0) |  |",
        "| perplexity of general text |  | 18.0 |  | 20.0 | times 1.11 (1.05 to 1.20) |  |",
    ]
