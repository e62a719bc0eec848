"""What the report and the model card say, of plain data: no run, no weights."""

import json
import re
from pathlib import Path

import pytest
from jinja2 import Environment, meta

from scripts.common.comparison import asked_splits, row_counts
from scripts.common.hashing import ROOT
from scripts.common.html import write_page
from scripts.common.io import write_jsonl
from scripts.common.models import resolve
from scripts.export.card import describe_seeds, figures, training_figures, write_card
from scripts.report.charts import write_figure
from scripts.report.curves import write_curves
from scripts.report.figures import (
    bands,
    curves_of,
    differences,
    draw_curves,
    draw_exposures,
    draw_forest,
    draw_loss,
    draw_metrics,
    exposed,
    lines_of,
)
from scripts.report.layout import in_groups, in_order, shown_metrics, shown_models
from scripts.report.measured import quality
from scripts.report.sections.data import difficulty, went_in
from scripts.report.sections.evaluation import details_of, lead, side_by_side
from scripts.report.sections.fidelity import fallbacks, gates, stopping
from scripts.report.sections.provenance import origin
from scripts.report.sections.speed import answering, apis, fewer_examples, sizes
from scripts.report.sections.training import arms, training

SPLITS = ["test", "eval-hard", "eval-unseen"]
LEVELS = ["low", "high"]
ONE = {"base": {}, "tuned": {"trained": {"arm": "curriculum", "seed": 1}}}
CONTENDERS = {
    **ONE,
    "few-shot": {"examples": {"count": 4, "choose": "nearest"}},
    "linear": {"linear": {}},
    "tuned-schema": {"trained": {"arm": "curriculum", "seed": 1}, "constrained": "schema"},
    "base-schema": {"constrained": "schema"},
    "larger": {"endpoint": {"url": "http://localhost", "model": "m"}},
}
MANY = {**ONE, "order": {"trained": {"arms": [f"arm{n}" for n in range(8)], "seeds": [1, 2, 3, 4, 5]}}}


def models_of(entries):
    return [model.describe() for model in resolve(entries).values()]


def metrics_of(models, empty=("eval-unseen",)):
    def split(name, number):
        n = 0 if name in empty else 10
        return {"exact": {"n": n, "value": number % 10 / 10 if n else None}}

    return {model["name"]: {name: split(name, number) for name in SPLITS} for number, model in enumerate(models)}


def pair_of(first=0.1, value=0.3, low=0.05, high=0.35, n=10):
    """A comparison of the served model (`value`) with another one (`first`)."""
    if not n:
        names = ("first_value", "value", "interval", "difference", "difference_interval", "p", "p_holm")
        return {**dict.fromkeys(names), "n": 0}
    difference = {"difference": round(value - first, 6), "difference_interval": [low, high], "p": 0.01, "p_holm": 0.01}
    counts = {"first_right": round(first * n), "right": round(value * n), "only_first": 0, "only_other": 2}
    return {"n": n, "first_value": first, "value": value, "interval": [0.1, 0.6], **difference, **counts}


def comparison_of(models, empty=("eval-unseen",), strongest=None, pairs=None):
    def table(names):
        return {
            name: {
                split: {"exact": (pairs or {}).get(name) or pair_of(n=0 if split in empty else 10)} for split in SPLITS
            }
            for name in names
        }

    names = [model["name"] for model in models]
    return {
        "first": "base",
        "headline": "exact",
        "binary": True,
        "intervals": {n: {s: {"exact": None if s in empty else [0.1, 0.6]} for s in SPLITS} for n in names},
        "models": table(name for name in names if name != "base"),
        "served": {
            "model": "tuned",
            "strongest": strongest,
            "models": table(name for name in names if name != "tuned"),
        },
        "over_seeds": [],
    }


SCORE = {
    "mix": {"train": {"low": 5}, "test": {"low": 10}, "eval-hard": {"high": 10}},
    "rows_whose_group_is_trained": {"test": 2},
    "weights": {"rules": 1},
}
LEDGER = {
    phase: {"steps": 2, "tokens": tokens, "rows": 9, "distinct_rows": 7, "by_difficulty": {"low": 6, "high": 1}}
    for phase, tokens in (("one", 100), ("all", 200))
}
SUMMARY = {
    "phase": "one",
    "rows": 9,
    "steps": 2,
    "tokens": 100,
    "heldout_loss": 1.5,
    "heldout_rows": 4,
    "seconds": {"all": 7.0, "steps": 5.0},
    "tokens_per_s": 20.0,
    "device": "cpu",
}


def test_a_split_without_rows_stands_in_no_table_and_is_explained_once():
    models = models_of(ONE)
    page = side_by_side(models, metrics_of(models), comparison_of(models), {}, {}, SCORE, SPLITS, LEVELS)
    assert [table["split"] for table in page["splits"]] == ["test", "eval-hard"]
    (empty,) = page["empty"]
    assert empty["split"] == "eval-unseen"
    assert "split.unseen_share" in empty["reason"]
    assert page["hardest"] == "high"
    page = side_by_side(
        models, metrics_of(models, SPLITS[1:]), comparison_of(models, SPLITS[1:]), {}, {}, SCORE, SPLITS, LEVELS
    )
    assert [empty["reason"] for empty in page["empty"]][0] == "no row of test has the hardest level (high)"
    assert page["hardest"] is None


TOLD = {
    "verdict": "worth it",
    "primary_metric": "exact",
    "split": "test",
    "sentence": "Worth it: tuned beats linear.",
    "reasons": ["⚠ tuned has forgotten: facts.", "The lead is <more> than the margin."],
    "order": {"reason": "The order of the rows: not shown."},
}


def test_the_printed_tables_leave_it_out_too_and_have_a_row_for_each_model(tmp_path):
    models = models_of(CONTENDERS)
    (tmp_path / "metrics.json").write_text(json.dumps(metrics_of(models)))
    (tmp_path / "comparison.json").write_text(json.dumps(comparison_of(models, strongest="linear")))
    (tmp_path / "verdict.json").write_text(json.dumps(TOLD))
    text = "\n".join(quality(tmp_path, models))
    assert text.startswith("\n\n".join([TOLD["sentence"], *TOLD["reasons"], TOLD["order"]["reason"]]))
    assert "| test (10) | what it is | exact |" in text
    assert "| few-shot | base, 4 nearest examples | 20.0% (10.0–60.0%) |" in text
    assert (
        "- test, exact: tuned 30.0% against linear 10.0%, difference +20.0 points (95% interval +5.0 to +35.0), "
        "right alone 2 to 0, p = 0.01, 0.01 after Holm's correction"
    ) in text
    assert "eval-unseen" not in text


def test_a_model_under_a_grammar_stands_beside_the_free_one_and_says_so():
    models = models_of(CONTENDERS)
    page = side_by_side(
        models,
        metrics_of(models),
        comparison_of(models, strongest="linear"),
        {("base", "test"): {"reference_points": {"exact": {"chance": None, "constant": 0.2, "ceiling": 1.0}}}},
        {"few-shot": {"count": 2, "choose": "fixed", "tried": [{"count": 2, "choose": "fixed", "value": 0.5, "n": 9}]}},
        SCORE,
        SPLITS,
        LEVELS,
    )
    test = page["splits"][0]
    assert [(row["model"], row["what"]) for row in test["blocks"][0]["rows"]] == [
        ("base", "base"),
        ("base-schema", "base, constrained: schema"),
        ("tuned", "trained: curriculum, seed 1"),
        ("tuned-schema", "trained: curriculum, seed 1, constrained: schema"),
        ("few-shot", "base, 2 fixed examples (chosen on validation rows)"),
        ("linear", "TF-IDF, logistic regression"),
        ("larger", "behind an API"),
    ]
    assert test["points"] == [
        {"label": "the best constant answer", "values": [0.2]},
        {"label": "the references themselves", "values": [1.0]},
    ]
    assert [row["model"] for row in test["against"][0]["rows"]][:2] == ["base", "base-schema"]
    assert page["splits"][1]["points"] == []
    assert page["choices"] == [
        {"model": "few-shot", "tried": [{"count": 2, "choose": "fixed", "value": 0.5, "n": 9}]},
    ]


def test_two_ggufs_of_the_user_s_own_under_a_grammar_are_listed_once():
    files = {"one": {"gguf": "one.gguf"}, "two": {"gguf": "two.gguf"}}
    held = {f"{name}-schema": {**entry, "constrained": "schema"} for name, entry in files.items()}
    names = [model["name"] for model in in_order(models_of({**ONE, **files, **held}))]
    assert names == ["base", "tuned", "one", "one-schema", "two", "two-schema"]
    # nor do two free models of the same weights double the one under a grammar
    models = models_of({"base": {}, "base-2": {}, **held, "held": {"constrained": "schema"}})
    names = [model["name"] for model in in_order(models)]
    assert names == ["base", "held", "base-2", "one-schema", "two-schema"]


def test_rows_that_were_shown_fewer_examples_are_told():
    asked, fewer = {"model": "few-shot", "split": "test", "rows": 9}, {"count": 4, "rows_with_fewer": 2, "fewest": 1}
    whole = {**asked, "split": "eval-hard", "examples": {"count": 4, "rows_with_fewer": 0, "fewest": 4}}
    assert fewer_examples([{**asked, "examples": fewer}, whole, {**asked, "model": "base"}]) == [{**asked, **fewer}]


def test_a_group_leads_with_the_range_of_each_arm_s_seeds():
    models = models_of(MANY)
    (group,) = lead(TOLD, models, metrics_of(models))["groups"]
    assert lead({**TOLD, "split": None}, models, metrics_of(models, SPLITS))["groups"] == []
    assert (group["group"], group["count"], len(group["arms"])) == ("order", 40, 8)
    assert group["arms"][0] == {"arm": "arm0", "seeds": 5, "low": 0.2, "high": 0.6}


def test_rows_are_grouped_in_the_order_of_the_models():
    models = models_of({"base": {}, "a": {"trained": {"arms": ["x"], "seeds": [1]}}, "tuned": ONE["tuned"]})
    blocks = in_groups([{"model": name} for name in ("a-x-1", "tuned", "base")], models)
    assert [(block["group"], [row["model"] for row in block["rows"]]) for block in blocks] == [
        (None, ["tuned", "base"]),
        ("a", ["a-x-1"]),
    ]


def test_gates_that_a_whole_group_passes_share_a_row_with_the_worst_value():
    models = models_of({**ONE, "order": {"trained": {"arms": ["x"], "seeds": [1, 2, 3]}}})
    listed = [
        {"name": "merge.mean_kl", "check": f"order-x-{n}/merge", "bound": "at most", "value": n / 10, "passed": n < 3}
        for n in (1, 2, 3)
    ]
    listed.append({"name": "labels.x", "check": "labels", "bound": "at most", "value": None, "passed": None})
    found = gates(listed, models)
    assert [(row["model"], row["value"], row["passed"]) for row in found["rows"]] == [
        ("order (2 models)", 0.2, True),
        ("order-x-3", 0.3, False),
        (None, None, None),
    ]
    assert (found["count"], found["passed"], found["failed"], found["skipped"]) == (4, 2, 1, 1)


def test_what_arms_were_shown_and_how_far_they_are_apart():
    more = {**LEDGER, "all": {**LEDGER["all"], "tokens": 201}}
    alone = arms({("curriculum", "1"): LEDGER}, LEVELS, ["one"])
    assert alone["spread"] is None
    assert alone["trainings"][0]["phases"][0]["levels"] == [6, 1]
    both = arms({("curriculum", "1"): LEDGER, ("shuffled", "1"): more}, LEVELS, ["one"])
    assert both["spread"]["percent"] == pytest.approx(0.5)
    assert not both["fold"]


def test_a_training_is_summed_over_its_phases():
    last = {**SUMMARY, "phase": "two", "heldout_loss": None}
    found = training({("curriculum", "1"): [SUMMARY, last]})
    total = found["trainings"][0]["total"]
    assert (total["rows"], total["tokens"], total["seconds"], total["tokens_per_s"]) == (18, 200, 14.0, 20.0)
    assert total["heldout_loss"] is None
    assert found["devices"] == ["cpu"]


def test_difficulty_has_a_column_for_a_group_from_lowest_to_highest():
    models = models_of({**ONE, "order": {"trained": {"arms": ["x"], "seeds": [1, 2]}}})
    rho = {"rho": 0.2, "low": 0.1, "high": 0.3}
    failures = {"base": None, "tuned": rho, "order-x-1": rho, "order-x-2": {**rho, "rho": -0.1}}
    validity = {
        "rows": 30,
        "scorers": {"length": {"failures": failures, "length": None}},
        "agreement": {"length": {"facts": 0.5}, "facts": {"length": 0.5}},
        "warnings": [],
    }
    found = difficulty(SCORE, validity, models)
    assert found["columns"] == ["base", "tuned", "order (2 models)"]
    assert found["scorers"][0]["failures"] == ["–", "0.2 (0.1 to 0.3)", "-0.1 to 0.2"]
    assert found["agreement"][0]["cells"] == ["·", "0.5"]


def test_details_of_empty_splits_are_left_out():
    models = models_of(ONE)
    matrix, fields = {"labels": ["a"], "matrix": [[3, 1]]}, {"zip": {"wanted": 4, "right": 3, "invented": 0}}
    details = {
        ("base", "test"): matrix,
        ("tuned", "test"): {"fields": fields, "unknown_fields_invented": 2},
        ("tuned", "eval-unseen"): {"labels": [], "matrix": []},
    }
    rows = details_of(["base", "tuned"], metrics_of(models), details)
    assert [row["kind"] for row in rows] == ["matrix", "fields"]
    assert rows[1]["fields"][0]["share"] == 0.75
    assert [row["model"] for row in details_of(["tuned"], metrics_of(models), details)] == ["tuned"]


def test_stopping_and_speed_leave_out_what_was_not_asked():
    models = models_of(ONE)
    shares = [{"model": "base", "quant": "Q8_0-no-imatrix", "split": "test", "n": n, "share": None} for n in (0, 2)]
    (block,) = stopping({"stopping": {"shares": shares}}, models)
    assert [(row["n"], row["quant"]) for row in block["rows"]] == [(2, "Q8_0 without imatrix")]


def test_how_fast_models_without_tokens_answered():
    models = models_of(CONTENDERS)
    speed = {"rows": 3, "prompt_tokens": None, "tokens": None, "seconds": 0.6, "tokens_per_s": None}
    kept = {**speed, "model": "larger", "cached": 2, "cost": 0.01}
    found = answering([{**speed, "model": "tuned", "rows": 0}, {**speed, "model": "linear"}, kept], models)
    (block,) = found["blocks"]
    assert [(row["model"], row["seconds_per_row"], row["cost"]) for row in block["rows"]] == [
        ("linear", pytest.approx(0.2), None),
        ("larger", None, 0.01),  # kept answers took no time
    ]
    assert found["cost"]


def test_a_model_behind_an_api_is_named_with_all_that_is_known_of_it():
    server = {"url": "https://host/v1", "model": "big", "parameters": {"temperature": 0, "seed": 0}}
    server |= {"reported_models": ["big-2026"], "system_fingerprints": ["fp_1"]}
    asked = {"model": "far", "split": "test", "cached": 1, "cost": 0.5, "server": server}
    (row,) = apis([{"model": "base", "split": "test", "rows": 3}, {**asked, "rows": 3}, {**asked, "rows": 0}])
    assert (row["asked_for"], row["reported"]) == ("big", "big-2026, fp_1")
    assert row["parameters"] == "temperature 0, seed 0"


def test_files_fallbacks_and_rows_are_counted():
    gguf = {"model": "base", "path": "x", "bytes": 1, "bits_per_weight": 4, "parameters_by_type": {"F32": 1, "Q8_0": 3}}
    (block,) = sizes([gguf], models_of(ONE))
    assert [kind["share"] for kind in block["rows"][0]["types"]] == [0.25, 0.75]
    assert fallbacks({"a": "Q8_0", "b": "Q5_0", "c": "Q8_0"})["by_type"] == [
        {"type": "Q5_0", "count": 1},
        {"type": "Q8_0", "count": 2},
    ]
    assert fallbacks({}) is None
    audit = {
        "masked": {"touched": 1},
        "duplicates": {"left_out": {"same": 2}},
        "contamination": {"left_out": 3},
        "findings": [{"what": "few"}],
    }
    found = went_in(None, {"records": 9, "reasons": {}}, audit, {"left_out": 4}, {})
    assert {"label": "left out: same", "value": 2} in found["rows"]
    assert found["findings"] == ["few"] and found["lost"] == 9
    assert not any("augmented" in row["label"] for row in found["rows"])
    more = {**audit, "augmented": 7, "contamination": {"left_out": 3, "augmented_left_out": 20}}
    converted = {"read": "9 pages", "rows": 9, "left_out": {}, "variants": 40}
    package = {"source": "x", "license": "MIT"}
    split = {"left_out": 4, "augmented_left_out": 10}
    found = went_in(converted, {"records": 9, "reasons": {}}, more, split, package)
    assert [row["value"] for row in found["rows"] if "augmented" in row["label"]] == [40, 10, 20, 7]
    assert found["lost"] == 39


def test_provenance_names_the_own_questions_by_their_hash():
    config = {"run": "r", "seed": 1, "data": {"files": ["rows.csv"], "own": "asked.jsonl"}}
    base, contract = {"source": "hf:a", "sha256": "b"}, {"hash": "c"}
    told = {row["label"]: row["value"] for row in origin(config, base, contract, "d" * 64)["rows"]}
    assert told["your own questions"] == "asked.jsonl" and told["sha256 of your own questions"] == "d" * 64
    config["data"]["own"] = None
    assert not any("own" in row["label"] for row in origin(config, base, contract)["rows"])


def test_the_models_in_detail_are_the_first_the_served_and_the_strongest():
    comparison = comparison_of(models_of(CONTENDERS), strongest="linear")
    assert shown_models(comparison) == ["base", "tuned", "linear"]
    assert shown_models(comparison_of(models_of(ONE), strongest="base")) == ["base", "tuned"]


def values_of(spec):
    """Return the rows that a chart draws."""
    return [row for rows in spec["datasets"].values() for row in rows]


def test_a_split_that_models_answered_in_part_has_a_range_of_rows():
    metrics = {"base": {"test": {"exact": {"value": 0, "n": 40}}}, "tuned": {"test": {"exact": {"value": 1, "n": 147}}}}
    assert row_counts(metrics, "test") == "40 to 147"
    assert row_counts({"tuned": metrics["tuned"]}, "test") == "147"
    assert row_counts(metrics, "eval-unseen") == "0"


@pytest.mark.parametrize("entries", [ONE, CONTENDERS, MANY])
def test_figures_can_be_drawn_of_two_models_and_of_forty(entries):
    models = models_of(entries)
    metrics, comparison = metrics_of(models), comparison_of(models)
    drawn = lines_of(models, metrics, comparison)
    assert len(drawn) == {2: 2, 7: 7, 42: 10}[len(models)]
    assert [line["values"]["test", "exact"] for line in drawn if line["label"] == "tuned"] == [(0.1, 0.1, 0.6)]
    if entries is MANY:
        assert drawn[2]["values"]["test", "exact"] == (pytest.approx(0.4), 0.2, 0.6)  # seeds 0.2, 0.3, … 0.6
        assert drawn[2]["label"] == "order arm0 (5 seeds)"
    assert ("eval-unseen", "exact") not in drawn[0]["values"]
    spec = draw_metrics(models, metrics, comparison).to_dict()
    assert {row["panel"] for row in values_of(spec)} == {"exact, test (n = 10)", "exact, eval-hard (n = 10)"}
    assert {row["model"] for row in values_of(spec)} == {line["label"] for line in drawn}
    lines = [{"loss": 2.0}, {"loss": 1.0, "heldout_loss": 1.5}]
    trainings = {(m["training"]["arm"], str(m["training"]["seed"])): [("one", lines)] for m in models if m["trained"]}
    curves, held_out = curves_of(trainings)
    assert [point["loss"] for point in curves[:2]] == [2.0, 1.5]
    assert {point["loss"] for point in held_out} == {1.5}
    names = list(dict.fromkeys(point["line"] for point in curves))
    assert names[:2] == (["curriculum", "arm0 (5 seeds)"] if entries is MANY else ["one"])
    assert len(held_out) == len(trainings)
    assert draw_loss(trainings).to_dict()["layer"][0]["encoding"]["color"]["title"] == (
        "arm" if entries is MANY else "phase"
    )


def test_the_forest_plot_has_the_difference_to_each_other_model():
    models = models_of(CONTENDERS)
    pairs = {"linear": pair_of(0.5, 0.3, -0.35, -0.05)}
    rows = differences(models, comparison_of(models, strongest="linear", pairs=pairs), ["test"])
    assert [row["model"] for row in rows] == ["base", "base-schema", "tuned-schema", "few-shot", "linear *", "larger"]
    worse = rows[4]
    assert (worse["difference"], worse["low"], worse["high"]) == pytest.approx((-20, -35, -5))
    models = models_of(MANY)
    pairs = {f"order-arm0-{seed}": pair_of(0.1 * seed, 0.6) for seed in range(1, 6)}
    (arm,) = [
        row for row in differences(models, comparison_of(models, pairs=pairs), ["test"]) if "arm0" in row["model"]
    ]
    assert (arm["difference"], arm["low"], arm["high"]) == pytest.approx((30, 10, 50))  # of its seeds
    assert arm["range"] == "lowest to highest of 5 seeds"


def test_each_split_of_the_forest_plot_has_a_color_of_its_own():
    models, splits = models_of(ONE), [*SPLITS, "eval-own"]
    metrics = {model["name"]: {split: {"exact": {"n": 10, "value": 0.5}} for split in splits} for model in models}
    comparison = comparison_of(models, ())
    comparison["served"]["models"]["base"]["eval-own"] = {"exact": pair_of()}
    spec = draw_forest(models, metrics, comparison).to_dict()
    colors = [layer["encoding"]["color"] for layer in spec["layer"] if "color" in layer["encoding"]]
    assert all(color["sort"] == splits for color in colors)
    assert all(len(set(color["scale"]["range"])) == len(splits) for color in colors)


def test_a_figure_is_the_same_bytes_each_time_and_needs_nothing_else(tmp_path):
    models = models_of(CONTENDERS)
    for folder in ("one", "two"):
        write_figure(draw_forest(models, metrics_of(models), comparison_of(models)), tmp_path / folder, "forest")
    for kind in ("svg", "json"):
        text = (tmp_path / f"one/forest.{kind}").read_text()
        assert text == (tmp_path / f"two/forest.{kind}").read_text()
        assert "few-shot" in text
        assert "href" not in text
        assert '"url"' not in text


def test_curves_of_an_experiment_have_a_band_over_the_seeds(tmp_path):
    curves = [
        {"variant": variant, "arm": "uniform", "seed": seed, "step": "10", "tokens": "5", "heldout_loss": loss}
        for variant in ("main", "constant")
        for seed, loss in (("1", "2.0"), ("2", "1.0"))
    ]
    point = {"arm": "uniform", "step": 10, "seeds": 2, "loss": 1.5, "low": 1.0, "high": 2.0}
    assert bands(curves) == [{"variant": "constant", **point}, {"variant": "main", **point}]
    write_figure(draw_curves(curves), tmp_path, "two")
    write_figure(draw_curves(curves[:2]), tmp_path, "one")
    assert "constant" in (tmp_path / "two.svg").read_text()
    assert "constant" not in (tmp_path / "one.svg").read_text()


def test_exposures_are_the_mean_over_an_arms_seeds():
    other = {**LEDGER, "one": {**LEDGER["one"], "by_difficulty": {"low": 4, "high": 3}}}
    rows = exposed({("uniform", "1"): LEDGER, ("uniform", "2"): other, ("reversed", "1"): LEDGER}, ["one"])
    drawn = values_of(draw_exposures(rows, LEVELS).to_dict())
    assert {(row["arm"], row["level"]): row["rows"] for row in drawn} == {
        ("uniform", "low"): 5,
        ("uniform", "high"): 2,
        ("reversed", "low"): 6,
        ("reversed", "high"): 1,
    }


def test_no_figure_fails_where_nothing_was_asked(tmp_path):
    models = models_of(ONE)
    metrics, comparison = metrics_of(models, SPLITS), comparison_of(models, SPLITS)
    assert asked_splits(metrics, SPLITS) == []
    write_figure(draw_metrics(models, metrics, comparison), tmp_path, "metrics")
    write_figure(draw_forest(models, metrics, comparison), tmp_path, "forest")


def test_the_card_counts_a_row_once_and_says_what_its_figures_are_of():
    told = training_figures([SUMMARY, {**SUMMARY, "heldout_loss": None}], LEDGER)
    assert (told["rows"], told["phase_count"], told["tokens"]) == (7, 2, 200)
    assert [phase["heldout_loss"] for phase in told["phases"]] == ["1.500", "–"]
    assert "one seed" in describe_seeds(1)
    assert "3 seeds" in describe_seeds(3)
    models = models_of(ONE)
    rows = figures(metrics_of(models), comparison_of(models), "tuned")
    assert [(row["split"], row["interval"]) for row in rows] == [
        ("test", "10.0% to 60.0%"),
        ("eval-hard", "10.0% to 60.0%"),
    ]


def test_a_metric_that_counts_no_row_of_any_model_is_not_shown():
    """`pass`, where no row has checks; a metric that one model alone has is shown."""
    none, some = {"value": None, "n": 0}, {"value": 0.5, "n": 4}
    metrics = {
        "base": {"test": {"pass": none, "chrf": none, "rouge_l": some}, "eval-hard": {"pass": some}},
        "tuned": {"test": {"pass": none, "chrf": some, "rouge_l": some}},
    }
    assert shown_metrics(metrics, ["test"], "rouge_l") == ["rouge_l", "chrf"]
    assert shown_metrics(metrics, ["test", "eval-hard"], "rouge_l") == ["rouge_l", "pass", "chrf"]
    assert shown_metrics(metrics, ["eval-unseen"], "rouge_l") == ["rouge_l"]


def test_templates_compute_nothing():
    forbidden = re.compile(r"\|\s*(sum|map|selectattr|rejectattr|groupby|length|count|format|min|max|round)\b")
    templates = (
        *map(str, Path("scripts/report/templates").glob("*.j2")),
        *("scripts/data/audit.html.j2", "scripts/export/model_card.md.j2"),
        "scripts/rating/rating_page.html.j2",
    )
    for template in templates:
        expressions = re.findall(r"\{[{%].*?[%}]\}", Path(template).read_text())
        assert not [e for e in expressions if forbidden.search(e) or re.search(r" [*/+] ", re.sub('".*?"', "", e))]


def test_every_number_has_its_filter(tmp_path):
    template = tmp_path / "page.j2"
    template.write_text(
        "{{ 0.123 | percent }} {{ 0.5 | percent(0) }} {{ none | percent }} {{ 0.05 | points }} {{ none | points }} "
        "{{ 1.23456 | decimals(2) }} {{ none | decimals(2) }} {{ 0.000012 | general }} {{ 134515008 | millions }}"
    )
    write_page(template, {}, tmp_path / "page")
    assert (tmp_path / "page").read_text() == "12.3% 50% – +5.0 – 1.23 – 1.2e-05 135 M"


def test_the_card_prints_every_value(tmp_path):
    template = Path("scripts/export/model_card.md.j2")
    models = models_of(ONE)
    about = {
        **{"run": "mine", "title": "Title", "description": "d.", "fidelity": "f", "base_name": "some/base"},
        **{"base_link": None, "base_license": "Apache-2.0", "system_prompt": "Be brief.", "tags": ["gradus"]},
        **{"data_source": "rows.jsonl", "data_license": "CC0-1.0", "split_note": "s.", "max_length": 512},
        **{"max_tokens": 96, "lora": {"rank": 8, "alpha": 16}, "learning_rate": 0.002, "nf4": True},
        **{"merged_into": "bf16", "quant": "Q4_K_M", "seeds": 1, "first_trained": False},
        **training_figures([SUMMARY], LEDGER),
        **{"first": "base", "first_name": "base, which is untuned,", "model": "tuned"},
        **{
            "seeds_note": describe_seeds(1),
            "flips": {"worse": 0, "better": 1, "n": 10, "split": "test", "binary": True},
            "verdict": "Use linear instead.",
        },
    }
    names = meta.find_undeclared_variables(Environment().parse(template.read_text()))
    assert names <= {*about, "results", "card_data"}
    write_card(tmp_path / "README.md", template, about, figures(metrics_of(models), comparison_of(models), "tuned"))
    text = (tmp_path / "README.md").read_text()
    assert "rows.jsonl (CC0-1.0): 7 distinct rows trained on" in text
    assert "1 phase, 2 steps, 100 tokens" in text
    assert "Use linear instead.\n" in text
    assert "0 of 10 answers on test went from right to wrong, 1 the other way" in text
    assert "as Q4_K_M; base, which is untuned, was asked the same way. They are from one training with one seed" in text
    assert "| eval-hard | 10 | exact | 0.0% | 10.0% | 10.0% to 60.0% |" in text
    assert "eval-unseen" not in text
    assert "|\n\n|" not in text  # a blank line would end a table before its rows


def test_learning_curves_count_steps_and_tokens_over_the_phases_of_each_training(tmp_path):
    paths = []
    for arm in ("curriculum", "shuffled"):
        for phase, tokens in (("easy", 100), ("hard", 1000)):
            path = tmp_path / arm / "seed7" / phase / "history.jsonl"
            lines = [{"step": step, "loss": step / 2, "tokens": tokens * step, "seconds": 9.9} for step in (1, 2)]
            lines[-1]["heldout_loss"] = 0.25
            write_jsonl(path, lines)
            paths.append(str(path))
    write_curves(paths, tmp_path / "curves.csv")
    header, *lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert header == "arm,seed,phase,step,tokens,loss,heldout_loss"
    first = ["7,easy,1,100,0.5,", "7,easy,2,200,1.0,0.25", "7,hard,3,1200,0.5,", "7,hard,4,2200,1.0,0.25"]
    assert lines == [f"{arm},{line}" for arm in ("curriculum", "shuffled") for line in first]


def test_ways_of_training_over_seeds_are_a_table_of_the_page(tmp_path):
    models = models_of({"base": {}, "tuned": {"trained": {"arm": "curriculum", "seed": 1}}})
    way = {"split": "test", "metric": "exact", "arm": "dpo-curriculum", "control": "sft-curriculum", "seeds": 3}
    way |= {
        "items": 152,
        "control_value": 0.77,
        "value": 0.75,
        "difference": -0.02,
        "interval": [-0.06, 0.02],
        "p": 0.3,
    }
    flat = {**way, "split": "eval-hard", "interval": None, "p": None}  # no spread
    comparison = {**comparison_of(models), "over_seeds": [way, flat]}
    found = side_by_side(models, metrics_of(models), comparison, {}, {}, SCORE, SPLITS, LEVELS)
    template = ROOT / "scripts/report/templates/models.html.j2"
    config = {"export": {"quant": "Q8_0"}, "evaluate": {"max_tokens": 80}}
    values = {"models": found, "figures": {}, "fewer_examples": [], "config": config, "training": {}}
    write_page(template, values, tmp_path / "page.html")
    text = " ".join((tmp_path / "page.html").read_text().split())
    row = "<td>dpo-curriculum</td><td>sft-curriculum</td><td>3 × 152</td><td>77.0%</td><td>75.0%</td><td>-2.0</td>"
    assert f"{row} <td>-6.0 to +2.0</td><td>0.3</td>" in text
    assert f"{row} <td>–</td><td>–</td>" in text
