"""Write verdict.json: was training worth it, and did the order of the rows matter? Report, model card, Ollama's README
and the end of a run read it, and so does `make verdict`.

In: metrics and comparison of the models, the advice before training, the gates, what was forgotten, the effects of the
experiment, if there is one. Out: one JSON object, `Verdict` in scripts/common/verdict.py. This script collects the
facts; that module judges them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.comparison import SIMPLER, Metrics, Models, asked_splits, phrase, tell_apart
from scripts.common.html import percent, points
from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.verdict import NO_EXPERIMENT, Facts, Rival, Trial, judge, of_arms, of_models

NO_PRIMARY = "the experiment has no primary comparison, since fewer than two rows of its split were measured."


def collect(
    models: Models,
    metrics: Metrics,
    comparison: Mapping[str, Any],
    advice: Mapping[str, Any],
    fidelity: Mapping[str, Any],
    splits: Sequence[str],
    margin: float,
    forgetting: Mapping[str, Any] | None = None,
    effects: Mapping[str, Any] | None = None,
) -> Facts:
    """Return the facts that the verdict is judged by, on the first split that was asked. The mappings are the files of
    the same names; None: the run has none.

    A contender is a cheap alternative: an untrained model, other than one behind an API.
    """
    served, strongest = comparison["served"]["model"], comparison["served"]["strongest"]
    split = next(iter(asked_splits(metrics, splits)), None)
    cheap = [model for model in models if not model["trained"] and model["kind"] != "endpoint"]
    contended = any(model["kind"] != "base" or model["options"] for model in cheap)
    found = [compare(comparison, model, split) for model in cheap] if split else []
    rivals = {rival.name: rival for rival in found if rival}
    return Facts(
        served=served,
        metric=comparison["headline"],
        best=rivals.get(strongest),
        split=split,
        others=[rival for name, rival in rivals.items() if name != strongest] if contended else [],
        missing=missing(split, contended, strongest),
        contended=contended,
        advice=advice["advice"],
        because=advice["because"].replace("`", ""),
        forgotten=lost(forgetting, served),
        failed_gates=[f"{gate['name']} ({gate['check']})" for gate in fidelity["gates"] if gate["passed"] is False],
        order=primary(effects),
        no_order=NO_PRIMARY if effects else NO_EXPERIMENT,
        context={
            **over_all(metrics, comparison, split, rivals.get(strongest)),
            **over_first(models, comparison, split),
            **endpoints(models, comparison, split),
        }
        if split
        else {},
        margin=margin,
    )


def compare(comparison: Mapping[str, Any], model: Mapping[str, Any], split: str) -> Rival | None:
    """Return a model as the served one's rival on a split; None if no row counts for both."""
    pair = comparison["served"]["models"][model["name"]][split][comparison["headline"]]
    return of_models(model["name"], pair, phrase(model))


def missing(split: str | None, contended: bool, strongest: str | None) -> str:
    """Return why there is no strongest alternative to compare with."""
    if split is None:
        return "no model was asked, since none of the splits has rows."
    if not contended:
        return "no cheap alternative was compared. Set contenders: true to ask them the same rows."
    if strongest is None:
        return (
            "no validation row says which cheap alternative is the strongest. All of them are compared in the report."
        )
    return f"no row counts for both the served model and {strongest}, the strongest cheap alternative."


def primary(effects: Mapping[str, Any] | None) -> Trial | None:
    """Return the primary comparison of the experiment, of its effects.json; None if there is none."""
    found = effects and effects["primary"]
    return Trial(found["arm"], found["metric"], found["split"], of_arms(found), found["margin"]) if found else None


def over_all(metrics: Metrics, comparison: Mapping[str, Any], split: str, best: Rival | None) -> dict[str, str]:
    """Return {the served model: a sentence} on all its rows, if its best contender was asked fewer; else nothing."""
    served, headline = comparison["served"]["model"], comparison["headline"]
    whole = metrics[served][split][headline]
    if best is None or best.rows >= whole["n"]:
        return {}
    bounds = comparison["intervals"][served][split][headline]
    interval = f"; 95% interval {percent(bounds[0])} to {percent(bounds[1])}" if bounds else ""
    return {
        served: f"On all {whole['n']} rows of {split}, {served} gets {percent(whole['value'])} ({headline}{interval}). "
        f"{best.name} was asked {best.rows} of them."
    }


def over_first(models: Models, comparison: Mapping[str, Any], split: str) -> dict[str, str]:
    """Return {model: a sentence on the served model and this one, with which all are compared}; nothing if they are the
    same, or no row counts.
    """
    served, first, headline = comparison["served"]["model"], comparison["first"], comparison["headline"]
    if served == first or not (pair := comparison["models"][served][split][headline])["n"]:
        return {}
    what = phrase(next(model for model in models if model["name"] == first))
    if "right" not in pair:
        said = f"{first} ({what}) gets {percent(pair['first_value'])}, {served} {percent(pair['value'])} ({headline})."
        return {first: said}
    low, high = pair["interval"]
    return {
        first: f"{served} answers {pair['right']} of {pair['n']} held-out requests of {split} correctly ({headline}; "
        f"95% interval {percent(low)} to {percent(high)}), {first} ({what}) {pair['first_right']} "
        f"({'' if 'units' in pair else 'McNemar '}p = {pair['p']})."
    }


def endpoints(models: Models, comparison: Mapping[str, Any], split: str) -> dict[str, str]:
    """Return {endpoint: a sentence}: no cheap alternative, but it shows what could be reached."""
    served, headline = comparison["served"], comparison["headline"]
    said = {"better": "{} is better than", "worse": "{} is not as good as", "even": "{} cannot be told from"}
    lines = {}
    for name in (model["name"] for model in models if model["kind"] == "endpoint"):
        pair = served["models"][name][split][headline]
        told = said[tell_apart(pair, "p_holm")].format(served["model"])
        values = f"{percent(pair['value'])} against {percent(pair['first_value'])}"
        lines[name] = f"{told} {name} ({SIMPLER['endpoint']}): {values}."
    return lines


def lost(found: Mapping[str, Any] | None, served: str) -> dict[str, str] | None:
    """Return {what: its figures} of all that the served model has lost outside the task, of forgetting.json: a kind of
    questions, `overall`, `perplexity`; None if it was not measured.
    """
    measured = found["models"].get(served) if found else None
    if not measured:
        return None
    dropped = {
        kind: f"{kind} {percent(pair['value'])} instead of {percent(pair['base_value'])}"
        for kind, pair in measured["kinds"].items()
        if pair["dropped"]
    }
    if (overall := measured["overall"]) and overall["dropped"]:
        low, high = overall["difference_interval"]
        dropped["overall"] = (
            f"of all questions outside the task {percent(overall['value'])} instead of "
            f"{percent(overall['base_value'])} (difference {points(overall['difference'])} points, 95% interval "
            f"{points(low)} to {points(high)})"
        )
    if (text := measured["perplexity"])["rose"]:
        low, high = text["ratio_interval"]
        dropped["perplexity"] = (
            f"perplexity on general text {text['value']:.1f} instead of {text['base_value']:.1f} (times "
            f"{text['ratio']:.2f}, 95% interval {low:.2f} to {high:.2f})"
        )
    return dropped


if job := find_job(globals()):
    with logging_to(job.log[0]):
        metrics, comparison, advice, fidelity = (
            read_json(job.input[name]) for name in ("metrics", "comparison", "advice", "fidelity")
        )
        forgetting, effects = (
            read_json(job.input[name]) if job.input.get(name) else None for name in ("forgetting", "effects")
        )
        models, splits, margin = job.params.models, job.params.splits, job.params.margin
        facts = collect(models, metrics, comparison, advice, fidelity, splits, margin, forgetting, effects)
        write_json(job.output.verdict, judge(facts).to_dict())
