"""What the audit's figures mean, and what to do about each."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from scripts.common.curriculum import wanted_quantiles, wanted_shares

FEW_ROWS = 500
MANY_LABELS = 200  # so many different answers are no labels


def finding(level: str, what: str, todo: str) -> dict[str, str]:
    """Return a finding: `ok`, `note` or `warning`, what was found, and what to do about it."""
    return {"level": level, "what": what, "do": todo}


def find(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the findings that the figures of audit.json give, the gravest first."""
    made = []
    rows, train = facts["rows"], facts["splits"].get("train", 0)
    if train < FEW_ROWS:
        made.append(
            finding(
                "warning",
                f"{train} training rows are few",
                f"From {FEW_ROWS} on results get steady; below, expect wide intervals, and format learnt before skill.",
            )
        )
    if facts["too_long"]:
        made.append(
            finding(
                "warning",
                f"{facts['too_long']} rows are longer than train.max_length ({facts['max_length']} tokens); "
                f"the longest has {facts['tokens']['both']['max']} ({facts['longest']})",
                "Training will refuse them, as nothing is ever cut: raise train.max_length, or take them out.",
            )
        )
    ingest, duplicates, leaks = facts["ingest"], facts["duplicates"], facts["contamination"]
    if ingest["rejected"]:
        made.append(
            finding(
                "note",
                f"{ingest['rejected']} of {ingest['rows']} rows were rejected",
                "Read data/rejected.jsonl; it names file, line, field and reason.",
            )
        )
    if facts["masked"]["values"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(facts["masked"]["values"].items()))
        made.append(
            finding(
                "note",
                f"masked in {facts['masked']['touched']} rows: {kinds}",
                "If the model must repeat such values, allow them in mask.allow; data/masked.jsonl names the rows.",
            )
        )
    elif not facts["masked"]["enabled"]:
        made.append(
            finding(
                "warning",
                "masking is off",
                "Personal data and keys in the rows are trained in. Set mask.enabled: true.",
            )
        )
    if share := duplicates["left_out"].get("exact duplicate", 0):
        made.append(
            finding(
                "note",
                f"{share} exact duplicates were left out",
                "Nothing to do; data/deduplicate.left_out.jsonl lists them.",
            )
        )
    if duplicates["contradictions"]:
        made.append(
            finding(
                "warning",
                f"rows that ask what another asks and answer otherwise: {duplicates['contradictions']}",
                "A model cannot learn both: read data/contradictions.jsonl, keep the right one.",
            )
        )
    if duplicates["rows_with_near_copies"] > 0.3 * rows:
        made.append(
            finding(
                "warning",
                f"{duplicates['rows_with_near_copies']} of {rows} rows have near-copies, "
                f"{duplicates['largest_cluster']} in the largest cluster",
                "They share a split, so nothing leaks, but they are worth less than they seem: "
                "deduplicate.near: thin keeps one of each.",
            )
        )
    if leaks["found"]:
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(leaks["found"].items()))
        done = (
            f"{leaks['left_out']} were left out of the evaluation."
            if leaks["left_out"]
            else "They are still evaluated."
        )
        made.append(
            finding(
                "note",
                f"held-out rows that ask nearly what a training row asks: {found}",
                f"{done} data/contamination.jsonl lists the pairs.",
            )
        )
    formats = facts["formats"]
    if len(formats) == 2 and min(formats.values()) > 0.01 * rows:
        made.append(
            finding(
                "warning",
                f"{formats['json']} responses are JSON, {formats['text']} are not",
                "The model will mix them up: bring all into one format, or make two runs of them.",
            )
        )
    made += find_labels(facts)
    made += find_mix(facts["difficulty"]["mix"])
    order = ["warning", "note", "ok"]
    return sorted(made, key=lambda item: order.index(item["level"])) or [
        finding("ok", "nothing that stands out", "Go on.")
    ]


def find_mix(mix: Mapping[str, int]) -> list[dict[str, str]]:
    """Return the finding on training rows of each level, {level: rows} for all levels; none if they are as advised."""
    if not sum(mix.values()):
        return []
    wanted = wanted_shares(len(mix))
    shares = [count / sum(mix.values()) for count in mix.values()]
    if all(abs(share - want) <= 0.2 for share, want in zip(shares, wanted, strict=True)):
        return []
    told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in zip(mix, shares, strict=True))
    advised = "/".join(f"{100 * want:.0f}" for want in wanted)
    return [
        finding(
            "warning",
            f"the training rows' difficulty is {told}, far from {advised}",
            f"Change score.thresholds, or give score.quantiles: {wanted_quantiles(len(mix))}, which divides them so.",
        )
    ]


def find_labels(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the findings on labels of a classification, and on fields of an extraction."""
    made = []
    labels = facts["labels"]
    if facts["task"] == "classify" and len(labels) > MANY_LABELS:
        made.append(
            finding(
                "warning",
                f"more than {MANY_LABELS} different labels",
                "Is this a classification? Set data.task: qa if not.",
            )
        )
    elif labels:
        once = [name for name, where in labels.items() if sum(where.values()) == 1]
        untrained = [name for name, where in labels.items() if not where.get("train")]
        alike: dict[str, list[str]] = defaultdict(list)
        for name in labels:
            alike["".join(name.lower().split())].append(name)
        if once:
            made.append(
                finding(
                    "warning",
                    f"labels seen once: {', '.join(map(repr, once[:10]))}",
                    "Nothing can be learned from one row, nor measured: add rows, or merge labels.",
                )
            )
        if untrained:
            made.append(
                finding(
                    "warning",
                    f"labels without a training row: {', '.join(map(repr, untrained[:10]))}",
                    "Add rows for them, or take them out.",
                )
            )
        for names in alike.values():
            if len(names) > 1:
                made.append(
                    finding(
                        "warning",
                        f"labels that differ in case or blanks alone: {', '.join(map(repr, names))}",
                        "Write them one way.",
                    )
                )
        counts = sorted(sum(where.values()) for where in labels.values())
        if counts[-1] > 20 * counts[0]:
            made.append(
                finding(
                    "note",
                    f"the commonest label has {counts[-1]} rows, the rarest {counts[0]}",
                    "Look at macro-F1, not accuracy.",
                )
            )
    json_rows = facts["formats"].get("json", 0)
    rare = [name for name, count in facts["fields"].items() if count < 0.01 * json_rows]
    if rare:
        made.append(
            finding(
                "note",
                f"fields in less than 1 % of the objects: {', '.join(rare[:10])}",
                "Too rare to learn: more rows, or leave the field out.",
            )
        )
    return made
