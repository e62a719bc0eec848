"""Sum up what the judge said, and how far people agree with it.

In: the judge's answers.jsonl, pairs.jsonl and asked.json; people's ratings, if there are some. Out: judge.json: each
model's faithfulness and pass rate, each pair's win rate, what could not be read, the preference for a place, the
agreement with people, and warnings.

A judgment that could not be read counts in no mean and no rate; its share stands beside each figure.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from scripts.common.io import read_json, read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.statistics import mcnemar, mean_interval, rounded, three_digits, wilson, with_holm
from scripts.judge.agreement import share, with_marks, with_ratings

MANY = 0.1  # share of unreadable judgments beyond which a figure gets a warning
Row = Mapping[str, Any]


def grouped(rows: Iterable[Row], *fields: str) -> dict[tuple[str, ...], list[Row]]:
    """Return the rows by the values of these fields, in the order of the rows."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[field] for field in fields), []).append(row)
    return groups


def failures(replies: Sequence[Row]) -> dict[str, Any]:
    """Return {asked, asked_again, unreadable, unreadable_at_first}, the latter two by kind of failure."""
    first = Counter(reply["failures"][0] for reply in replies if reply["failures"])
    last = Counter(reply["failures"][-1] for reply in replies if reply["reply"] is not None)
    return {
        "asked": len(replies),
        "asked_again": first.total(),
        "unreadable_at_first": dict(sorted(first.items())),
        "unreadable": dict(sorted(last.items())),
    }


def single(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of one model's answers to one split: mean faithfulness with its bootstrap interval, how often
    each point was given, pass rate with its Wilson interval.
    """
    read = [row for row in rows if row["faithfulness"] is not None]
    points = [row["faithfulness"] for row in read]
    return {
        "n": len(read),
        "faithfulness": round(sum(points) / len(points), 4) if points else None,
        "faithfulness_interval": rounded(mean_interval(points)),
        "points": {str(point): points.count(point) for point in range(1, 6)},
        "pass": share(sum(row["pass"] for row in read), len(read)),
        **failures(rows),
    }


def double(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of one pair of models on one split. The win rate is that of `a`; a tie is half a win.

    Its interval is Wilson's if there are no ties, else the bootstrap's; `p`: the sign test, exact, on the pairs that
    are no ties. `inconsistent`: ties in which the judge preferred the same place in both orders.
    """
    winners = Counter(row["winner"] for row in rows if row["winner"])
    wins, ties, losses = (winners[name] for name in ("a", "tie", "b"))
    values = [1.0] * wins + [0.5] * ties + [0.0] * losses
    n = len(values)
    bounds = mean_interval(values) if ties else wilson(wins, n) if n else None
    return {
        "n": n,
        "wins": wins,
        "ties": ties,
        "losses": losses,
        "same": sum(row["same"] for row in rows),
        "inconsistent": sum(prefers_place(row) is not None for row in rows),
        "win_rate": round(sum(values) / n, 6) if n else None,
        "interval": rounded(bounds),
        "p": three_digits(mcnemar(losses, wins)) if n else None,
        "left_out": len(rows) - n,
        **failures([order for row in rows for order in row["orders"]]),
    }


def prefers_place(row: Row) -> str | None:
    """Return `first` or `second` if the judge preferred that place in both orders of a pair, whichever answer was
    there; else None.
    """
    better = [order["better"] for order in row["orders"]]
    return {("a", "b"): "first", ("b", "a"): "second"}.get((better[0], better[1])) if better else None


def places(rows: Sequence[Row]) -> dict[str, Any]:
    """Return how much the judge's preference depends on the place: the share of its decisions for what it read first,
    0.5 without a preference; the pairs in which it preferred one place in both orders, and p of the exact sign test on
    these.
    """
    decisions = [
        better == place
        for row in rows
        for order, place in zip(row["orders"], "ab", strict=False)
        if (better := order["better"]) in ("a", "b")
    ]
    kinds = Counter(map(prefers_place, rows))
    first, second = kinds["first"], kinds["second"]
    return {
        "decisions": len(decisions),
        "first_share": round(sum(decisions) / len(decisions), 6) if decisions else None,
        "first_twice": first,
        "second_twice": second,
        "p": three_digits(mcnemar(first, second)),
    }


def sum_up(
    judged: Sequence[Row], compared: Sequence[Row], about: Row, ratings: Row | None, itself: Sequence[str]
) -> dict[str, Any]:
    """Return judge.json. `judged`, `compared`, `about`: answers.jsonl, pairs.jsonl, asked.json; `ratings`: what people
    said, {pairs, marks}; `itself`: models that are the same as the judge.
    """
    models = [
        {"model": model, "split": split, **single(rows)}
        for (model, split), rows in grouped(judged, "model", "split").items()
    ]
    pairs = [
        {"a": a, "b": b, "split": split, **double(rows)}
        for (a, b, split), rows in grouped(compared, "a", "b", "split").items()
    ]
    people = ratings or {}
    found = {
        "judge": {name: value for name, value in about.items() if name != "kept"},
        "models": models,
        "pairs": with_holm(pairs),
        "places": places(compared),
        "people": {
            "marks": with_marks(judged, people.get("marks", [])),
            "pairs": with_ratings(compared, people.get("pairs", [])),
        },
    }
    return {**found, "warnings": list(warnings(found, itself))}


def warnings(found: Row, itself: Sequence[str]) -> Iterator[str]:
    """Yield what makes the judge's figures doubtful."""
    for row in [*found["models"], *found["pairs"]]:
        unread = sum(row["unreadable"].values())
        if unread > MANY * row["asked"]:
            name = row["model"] if "model" in row else f"{row['a']} and {row['b']}"
            kinds = ", ".join(f"{kind} {count}" for kind, count in row["unreadable"].items())
            yield (
                f"{name}, {row['split']}: {unread} of {row['asked']} judgments could not be read ({kinds}). The "
                "figures are of the others, which may be the easier ones. Take a judge that keeps to the form, or "
                "demand it with judge.endpoint.request (docs/judges.md)."
            )
    place = found["places"]
    if place["p"] < 0.05:
        where = "first" if place["first_twice"] > place["second_twice"] else "second"
        yield (
            f"The judge prefers the answer that it reads {where}, whichever it is (p = {place['p']}). Such pairs count "
            "as ties, so differences between models look smaller than they are."
        )
    compared = {name for pair in found["pairs"] for name in (pair["a"], pair["b"])}
    for name in sorted(compared.union(row["model"] for row in found["models"]) & set(itself)):
        yield f"{name} is the judge itself. Models tend to prefer their own answers."
    if not any(found["people"].values()):
        yield "Nobody has compared this judge with people. Rate some of the same answers before you believe it."


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_json(
            job.output.judge,
            sum_up(
                list(read_jsonl(job.input.answers)),
                list(read_jsonl(job.input.pairs)),
                read_json(job.input.asked),
                read_json(job.input.ratings) if job.input.get("ratings") else None,
                job.params.itself,
            ),
        )
