"""How far a judge agrees with people, on what both have judged."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sklearn.metrics import cohen_kappa_score

from scripts.common.statistics import rounded, wilson

OTHER = {"a": "b", "b": "a", "tie": "tie"}


def share(hits: int, n: int) -> dict[str, Any]:
    """Return {value, interval, hits, n} of a share, with its Wilson interval; nulls if n is 0."""
    return {
        "value": round(hits / n, 6) if n else None,
        "interval": rounded(wilson(hits, n)) if n else None,
        "hits": hits,
        "n": n,
    }


def kappa(people: Sequence[Any], judge: Sequence[Any]) -> float | None:
    """Return Cohen's kappa (Cohen 1960): agreement beyond what both would have by chance, 1 at most. None if there is
    nothing to compare, or both always say the same one thing.
    """
    if len({*people, *judge}) < 2:
        return None
    return round(float(cohen_kappa_score([str(value) for value in people], [str(value) for value in judge])), 4)


def majority(votes: Iterable[Any], otherwise: Any) -> Any:
    """Return what most raters say; `otherwise` if two opinions are equally frequent."""
    (first, most), *rest = Counter(votes).most_common(2)
    return otherwise if rest and rest[0][1] == most else first


def with_marks(judged: Iterable[Mapping[str, Any]], marks: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return how often the judge passes what people pass (true positives) and fails what they fail (true negatives).

    `judged`: lines of answers.jsonl; `marks`: {id, model, pass, rater}, one of each rater for an answer. Of several
    raters, the majority counts; answers that divide them evenly are left out. None if no judged answer has a mark.
    """
    votes: dict[tuple[str, str], list[bool]] = {}
    for mark in marks:
        votes.setdefault((mark["model"], mark["id"]), []).append(mark["pass"])
    common = [(votes[key], row["pass"]) for row in judged if (key := (row["model"], row["id"])) in votes]
    if not common:
        return None
    decided = [(opinion, said) for given, said in common if (opinion := majority(given, None)) is not None]
    both = [(opinion, said) for opinion, said in decided if said is not None]
    passed, failed = ([said for opinion, said in both if opinion is wanted] for wanted in (True, False))
    return {
        "answers": len(common),
        "divided": len(common) - len(decided),
        "unreadable": len(decided) - len(both),
        "true_positive": share(passed.count(True), len(passed)),
        "true_negative": share(failed.count(False), len(failed)),
        "kappa": kappa([opinion for opinion, _ in both], [said for _, said in both]),
    }


def with_ratings(compared: Iterable[Mapping[str, Any]], ratings: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return how often judge and people agree on which of two answers is better, or that neither is.

    `compared`: lines of pairs.jsonl; `ratings`: {id, a, b, ratings: [{rater, winner}]}. Of several raters, the majority
    counts; without one it is a tie. None if no compared pair is rated.
    """
    people: dict[tuple[str, str, str], list[str]] = {}
    for pair in ratings:
        winners = [rating["winner"] for rating in pair["ratings"]]
        people.setdefault((pair["id"], pair["a"], pair["b"]), []).extend(winners)
        people.setdefault((pair["id"], pair["b"], pair["a"]), []).extend(OTHER[winner] for winner in winners)
    common = [
        (majority(votes, "tie"), row["winner"])
        for row in compared
        if (votes := people.get((row["id"], row["a"], row["b"])))
    ]
    if not common:
        return None
    both = [(opinion, said) for opinion, said in common if said is not None]
    table = Counter(both)
    return {
        "pairs": len(common),
        "unreadable": len(common) - len(both),
        "agreement": share(sum(opinion == said for opinion, said in both), len(both)),
        "kappa": kappa([opinion for opinion, _ in both], [said for _, said in both]),
        # {what people say: {what the judge says: pairs}}
        "table": {opinion: {said: table[opinion, said] for said in OTHER} for opinion in OTHER},
    }
