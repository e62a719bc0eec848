"""The report's first lines: is the served model better than the strongest cheap alternative, was the advice before
training right, what is gained over the model that all are compared with, and what was forgotten. Model card and
Ollama's README begin with the first of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common.html import percent, points
from scripts.common.io import read_json
from scripts.common.records import SPLITS

Models = Sequence[Mapping[str, Any]]  # each what Model.describe() in scripts/common/models.py returns
Metrics = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]  # metrics.json

LIMIT = 0.05  # of p
GO_ON = "go on"  # the advice that expects training to pay

SIMPLER = {
    "linear": "a linear model",
    "nearest": "copying the answer of the nearest training row",
    "majority": "always giving the commonest label",
    "gguf": "your own GGUF",
    "endpoint": "a model behind an API",
}


def row_count(values: Mapping[str, Mapping[str, Any]]) -> int:
    """Return how many rows of a split were asked, given its metrics: {metric: {value, n}}."""
    return max((metric["n"] for metric in values.values()), default=0)


def row_counts(metrics: Metrics, split: str) -> str:
    """Return how many rows of a split the models answered, as a text: one number, or the smallest and the largest."""
    counts = sorted({count for values in metrics.values() if (count := row_count(values.get(split, {})))})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}" if counts else "0"


def asked_splits(metrics: Metrics, splits: Sequence[str]) -> list[str]:
    """Return those of `splits` of which any row was asked."""
    return [split for split in splits if any(row_count(values.get(split, {})) for values in metrics.values())]


def phrase(model: Mapping[str, Any]) -> str:
    """Return what a model is, for a sentence: "the untuned base with examples in its prompt"."""
    options = model["options"]
    parts = [
        SIMPLER.get(model["kind"]) or ("a tuned model" if model["trained"] else "the untuned base"),
        "with examples in its prompt" if "examples" in options else "",
        "with a system prompt of its own" if "system_prompt" in options else "",
        "under a grammar" if "constrained" in options else "",
    ]
    return " ".join(part for part in parts if part)


def judge(pair: Mapping[str, Any], p: str = "p") -> str:
    """Return whether the served model is `better`, `worse` or `even`, of its comparison with another one.

    It is better or worse if the 95 % interval of the difference excludes 0 and p is below 0.05.
    """
    if pair["n"] == 0 or pair["difference_interval"] is None or pair[p] is None or pair[p] >= LIMIT:
        return "even"
    low, high = pair["difference_interval"]
    return "better" if low > 0 else "worse" if high < 0 else "even"


def decide(models: Models, metrics: Metrics, comparison: Mapping[str, Any], splits: Sequence[str]) -> dict[str, Any]:
    """Return {split, outcome, opponent, corrected}, of the headline metric on the first split that was asked.

    `outcome`: `nothing` was asked; `alone`: no cheap alternative was, but the untuned base; `open`: no validation row
    says which is the strongest; `better`, `worse` or `even`: the served model against the strongest one. If another is
    better than the served model after Holm's correction (`corrected`), that one is the opponent.
    """
    split = next(iter(asked_splits(metrics, splits)), None)
    facts: dict[str, Any] = {"split": split, "opponent": None, "corrected": False}
    if split is None:
        return {**facts, "outcome": "nothing"}
    served = comparison["served"]
    cheap = [model for model in models if not model["trained"] and model["kind"] != "endpoint"]
    if not any(model["kind"] != "base" or model["options"] for model in cheap):
        return {**facts, "outcome": "alone"}
    pairs = {model["name"]: served["models"][model["name"]][split][comparison["headline"]] for model in cheap}
    outcome = judge(pairs[served["strongest"]]) if served["strongest"] else "open"
    ahead = [name for name, pair in pairs.items() if judge(pair, "p_holm") == "worse"]
    if ahead and outcome != "worse":
        best = max(ahead, key=lambda name: pairs[name]["first_value"])
        return {**facts, "outcome": "worse", "opponent": best, "corrected": True}
    return {**facts, "outcome": outcome, "opponent": served["strongest"]}


def verdict(models: Models, metrics: Metrics, comparison: Mapping[str, Any], splits: Sequence[str]) -> str:
    """Return the verdict alone."""
    return sentence(decide(models, metrics, comparison, splits), models, comparison)


def sentence(found: Mapping[str, Any], models: Models, comparison: Mapping[str, Any]) -> str:
    """Return the verdict, of what `decide` found."""
    served, opponent, outcome = comparison["served"]["model"], found["opponent"], found["outcome"]
    if outcome == "nothing":
        return "No model was asked: none of the splits has rows."
    if outcome == "alone":
        return (
            f"Whether {served} is worth having is not known: no cheap alternative was asked but the untuned base, and "
            "to beat that proves little. Set contenders: true to ask them the same rows."
        )
    if outcome == "open":
        return (
            f"Whether {served} beats the strongest cheap alternative is not known: no validation row says which one "
            "that is. All of them are compared below."
        )
    pair = comparison["served"]["models"][opponent][found["split"]][comparison["headline"]]
    low, high = pair["difference_interval"] or (None, None)
    p = f"p = {pair['p_holm']} after Holm's correction" if found["corrected"] else f"p = {pair['p']}"
    facts = (
        f"({comparison['headline']} on {pair['n']} rows of {found['split']}; difference {points(pair['difference'])} "
        f"points, 95 % interval {points(low)} to {points(high)}, {p})"
    )
    what = phrase(next(model for model in models if model["name"] == opponent))
    mine, other = percent(pair["value"]), percent(pair["first_value"])
    strongest = "" if found["corrected"] else ", the strongest cheap alternative"
    if outcome == "better":
        return f"{served} beats {opponent} ({what}){strongest}: {mine} against {other} {facts}."
    if outcome == "worse":
        return f"Use {opponent} instead: {what} does better here than {served}, {other} against {mine} {facts}."
    return f"{served} cannot be told from {opponent} ({what}){strongest}: {mine} against {other} {facts}."


def afterwards(advice: Mapping[str, Any], outcome: str) -> str:
    """Return what was advised before training, and whether that was right: to go on is right if the tuned model is then
    better than the strongest contender; any other advice is right if it is not.
    """
    because = advice["because"].replace("`", "")
    said = f"Before training, the advice was “{advice['advice']}”: {because}"
    if outcome not in ("better", "worse", "even"):
        return f"{said} Whether that was right cannot be said."
    if (advice["advice"] == GO_ON) == (outcome == "better"):
        return f"{said} That was right."
    if outcome == "better":
        return f"{said} That was wrong: training paid."
    return f"{said} That was wrong: training did not pay{' measurably' if outcome == 'even' else ''}."


def endpoints(models: Models, comparison: Mapping[str, Any], split: str) -> list[str]:
    """Return a sentence for each endpoint, which is no cheap alternative but shows what could be reached."""
    served, headline = comparison["served"], comparison["headline"]
    said = {"better": "{} is better than", "worse": "{} is not as good as", "even": "{} cannot be told from"}
    lines = []
    for name in (model["name"] for model in models if model["kind"] == "endpoint"):
        pair = served["models"][name][split][headline]
        told = said[judge(pair, "p_holm")].format(served["model"])
        lines.append(
            f"{told} {name} ({SIMPLER['endpoint']}): {percent(pair['value'])} against {percent(pair['first_value'])}."
        )
    return lines


def over_first(models: Models, comparison: Mapping[str, Any], split: str) -> str | None:
    """Return a sentence on the served model and the one that all are compared with; None if they are the same."""
    served, first, headline = comparison["served"]["model"], comparison["first"], comparison["headline"]
    if served == first:
        return None
    pair = comparison["models"][served][split][headline]
    what = phrase(next(model for model in models if model["name"] == first))
    if pair["n"] == 0:
        return None
    if "right" not in pair:
        return f"{first} ({what}) gets {percent(pair['first_value'])}, {served} {percent(pair['value'])} ({headline})."
    low, high = pair["interval"]
    return (
        f"{served} answers {pair['right']} of {pair['n']} held-out requests of {split} correctly ({headline}; "
        f"95 % interval {percent(low)} to {percent(high)}), {first} ({what}) {pair['first_right']} "
        f"(McNemar p = {pair['p']})."
    )


def forgot(found: Mapping[str, Any] | None, served: str) -> list[str]:
    """Return a warning for all that the served model has lost outside the task, of forgetting.json; none if nothing was
    measured, or nothing beyond the thresholds.
    """
    measured = found["models"].get(served) if found else None
    if not found or not measured:
        return []
    lost = []
    if (overall := measured["overall"]) and overall["dropped"]:
        low, high = overall["difference_interval"]
        lost.append(
            f"it answers {percent(overall['value'])} of the questions outside the task correctly, {found['base']} "
            f"{percent(overall['base_value'])} (difference {points(overall['difference'])} points, 95 % interval "
            f"{points(low)} to {points(high)})"
        )
    if shares := [
        f"{kind} ({percent(pair['value'])} against {percent(pair['base_value'])})"
        for kind, pair in measured["kinds"].items()
        if pair["dropped"]
    ]:
        lost.append(f"it is worse at {', '.join(shares)}")
    if (text := measured["perplexity"])["rose"]:
        low, high = text["ratio_interval"]
        lost.append(
            f"its perplexity on general text is {text['value']:.1f} instead of {text['base_value']:.1f} (times "
            f"{text['ratio']:.2f}, 95 % interval {low:.2f} to {high:.2f})"
        )
    return [f"⚠ {served} has forgotten: {'; '.join(lost)}."] if lost else []


def read_first_lines(folder: Path, models: Models) -> dict[str, Any]:
    """Return the first lines of a finished run's report; `folder`: results/<run>."""
    metrics, comparison, advice = (read_json(folder / f"{name}.json") for name in ("metrics", "comparison", "advice"))
    made = read_json(folder / "manifest.json")["artifacts"]  # a probe of before it was switched off does not count
    probed = f"results/{folder.name}/forgetting.json" in made
    forgetting = read_json(folder / "forgetting.json") if probed else None
    return first_lines(models, metrics, comparison, advice, SPLITS, forgetting)


def first_lines(
    models: Models,
    metrics: Metrics,
    comparison: Mapping[str, Any],
    advice: Mapping[str, Any],
    splits: Sequence[str],
    forgetting: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return {outcome, split, verdict, warnings, more: further sentences}. `forgetting`: forgetting.json, if any."""
    found = decide(models, metrics, comparison, splits)
    split, more = found["split"], [afterwards(advice, found["outcome"])]
    if split and found["opponent"] != comparison["first"]:
        more.append(over_first(models, comparison, split) or "")
    if split:
        more += endpoints(models, comparison, split)
    return {
        "outcome": found["outcome"],
        "split": split,
        "verdict": sentence(found, models, comparison),
        "warnings": forgot(forgetting, comparison["served"]["model"]),
        "more": [line for line in more if line],
    }
