"""Findings of the audit: what its statistics mean, and what to do about them."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from scripts.common.curriculum import wanted_quantiles, wanted_shares

FEW_ROWS = 500
LOPSIDED, FEW_PAIRS = 0.7, 50  # the share of pairs in which the longer answer is the same; with fewer, it is chance
MANY_LABELS = 200  # with more different answers, they are probably not labels


def finding(level: str, what: str, todo: str) -> dict[str, str]:
    """Return a finding: its level (`ok`, `note` or `warning`), what was found, and what to do about it."""
    return {"level": level, "what": what, "do": todo}


def counted(count: int, one: str, several: str) -> str:
    """Return a count before the words for one thing, or for several: 1 row is, 2 rows are."""
    return f"{count} {one if count == 1 else several}"


def find(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the findings from the facts in audit.json, the most severe first."""
    findings = []
    augmented = facts.get("augmented", 0)  # they repeat what the others teach
    rows, train = facts["rows"], facts["splits"].get("train", 0) - augmented
    if train < FEW_ROWS:
        findings.append(
            finding(
                "warning",
                f"only {counted(train, 'training row', 'training rows')}"
                + (f", not counting {counted(augmented, 'augmented one', 'augmented ones')}" if augmented else ""),
                f"Results become stable with about {FEW_ROWS} rows. With fewer, expect wide confidence intervals, and "
                "a model that learns the format rather than the task.",
            )
        )
    if facts["too_long"]:
        findings.append(
            finding(
                "warning",
                f"{counted(facts['too_long'], 'row is', 'rows are')} longer than train.max_length "
                f"({facts['max_length']} tokens); the longest has {facts['tokens']['both']['max']} "
                f"({facts['longest']})",
                "Training stops at them, since rows are never truncated: raise train.max_length, or remove them.",
            )
        )
    if facts.get("not_nfc"):
        findings.append(
            finding(
                "warning",
                f"{counted(facts['not_nfc'], 'row is', 'rows are')} not in Unicode's NFC; the first is "
                f"{facts['first_not_nfc']}",
                "This base's tokenizer composes accents, and llama.cpp does not: the served model reads other tokens "
                'than in training. Convert the rows (Python: unicodedata.normalize("NFC", text)); send requests so.',
            )
        )
    ingest, duplicates, leaks = facts["ingest"], facts["duplicates"], facts["contamination"]
    if ingest["rejected"]:
        findings.append(
            finding(
                "note",
                f"{ingest['rejected']} of {counted(ingest['rows'], 'row', 'rows')} "
                f"{'was' if ingest['rejected'] == 1 else 'were'} rejected",
                "See data/rejected.jsonl for file, line, field and reason.",
            )
        )
    if facts["masked"]["values"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(facts["masked"]["values"].items()))
        findings.append(
            finding(
                "note",
                f"masked in {counted(facts['masked']['touched'], 'row', 'rows')}: {kinds}",
                "If the model must reproduce such values, list them in mask.allow; data/masked.jsonl lists the rows.",
            )
        )
    elif not facts["masked"]["enabled"]:
        findings.append(
            finding(
                "warning",
                "masking is off",
                "The model is trained on personal data and keys in the rows. Set mask.enabled: true.",
            )
        )
    if share := duplicates["left_out"].get("exact duplicate", 0):
        findings.append(
            finding(
                "note",
                f"{counted(share, 'exact duplicate was', 'exact duplicates were')} left out",
                "Nothing to do; data/deduplicate.left_out.jsonl lists them.",
            )
        )
    if duplicates["contradictions"]:
        findings.append(
            finding(
                "warning",
                f"pairs of rows with the same prompt and different responses: {duplicates['contradictions']}",
                "A model cannot learn both: see data/contradictions.jsonl, and keep the correct one.",
            )
        )
    if duplicates["rows_with_near_copies"] > 0.3 * rows:
        findings.append(
            finding(
                "warning",
                f"{duplicates['rows_with_near_copies']} of {rows} rows have near-copies, "
                f"{duplicates['largest_cluster']} in the largest cluster",
                "They share a split, so nothing leaks, but they add less information than their number suggests. "
                "deduplicate.near: thin keeps one of each.",
            )
        )
    if leaks["found"]:
        action = (
            f"{counted(leaks['left_out'], 'was', 'were')} left out of the evaluation."
            if leaks["left_out"]
            else "They are still evaluated."
        )
        findings.append(
            finding(
                "note",
                f"held-out rows that ask nearly the same as a training row: {leaked(leaks['found'])}",
                f"{action} data/contamination.jsonl lists the pairs.",
            )
        )
    formats = facts["formats"]
    if len(formats) == 2 and min(formats.values()) > 0.01 * rows:
        findings.append(
            finding(
                "warning",
                f"{counted(formats['json'], 'response is', 'responses are')} JSON, "
                f"{counted(formats['text'], 'is', 'are')} not",
                "The model will mix the formats: convert all rows to one format, or use two runs.",
            )
        )
    findings += find_rejected(facts)
    findings += find_labels(facts)
    findings += find_mix(facts["difficulty"]["mix"])
    order = ["warning", "note", "ok"]
    return sorted(findings, key=lambda item: order.index(item["level"])) or [
        finding("ok", "no problems found", "Nothing to do.")
    ]


def leaked(found: Mapping[str, int]) -> str:
    """Return the contaminated rows of each split, {"split: check": rows}, as text."""
    by_split: dict[str, dict[str, int]] = defaultdict(lambda: {"near-copy": 0, "n-grams": 0})
    for kind, count in found.items():
        split, _, check = kind.partition(": ")
        by_split[split][check] = count
    parts = []
    for split, kinds in sorted(by_split.items()):
        copies, shared = kinds["near-copy"], kinds["n-grams"]
        how = f" ({counted(copies, 'near-copy', 'near-copies')}, {shared} by shared word sequences)" if shared else ""
        parts.append(f"{copies + shared} in {split}{how}")
    return ", ".join(parts)


def find_rejected(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the findings on rejected answers; none if no row has any.

    Preference tuning learns length where it tells right from wrong (Park et al. 2024, arXiv 2403.19159).
    """
    findings = []
    if pairs := facts.get("rejected"):
        train, total = pairs["rows"].get("train", 0), sum(pairs["rows"].values())
        findings.append(
            finding(
                "note",
                f"{counted(total, 'row has', 'rows have')} rejected answers, {train} of them in training",
                "Preference tuning learns from those in training (docs/preference.md); nothing else uses them.",
            )
        )
        if pairs["too_long"]:
            findings.append(
                finding(
                    "warning",
                    f"{counted(pairs['too_long'], 'rejected answer is', 'rejected answers are')} longer with the "
                    f"prompt than train.max_length ({facts['max_length']} tokens)",
                    "Preference tuning cannot use them: raise train.max_length, or remove them.",
                )
            )
        longer = {"right": pairs["right_is_longer"], "rejected": pairs["rejected_is_longer"]}
        name = max(longer, key=lambda one: longer[one])
        if pairs["pairs"] >= FEW_PAIRS and longer[name] > LOPSIDED * pairs["pairs"]:
            right, rejected = (pairs["tokens"][one]["p50"] for one in ("right", "rejected"))
            findings.append(
                finding(
                    "warning",
                    f"the {name} answer is the longer one in {longer[name]} of {pairs['pairs']} pairs of training rows "
                    f"(median {right} tokens if right, {rejected} if rejected)",
                    "Preference tuning would learn the length as well as what is right: add rejected answers that are "
                    f"{'longer' if name == 'right' else 'shorter'}, and see how long the tuned model's answers are.",
                )
            )
    if count := facts["duplicates"].get("rejected", {}).get("left_out", 0):
        findings.append(
            finding(
                "note",
                f"{counted(count, 'rejected answer was', 'rejected answers were')} left out with near-copies",
                "deduplicate.near: together keeps them.",
            )
        )
    return findings


def find_mix(mix: Mapping[str, int]) -> list[dict[str, str]]:
    """Return the finding on the difficulty mix, {level: training rows}; none if it is close to the recommended one."""
    if not sum(mix.values()):
        return []
    wanted = wanted_shares(len(mix))
    shares = [count / sum(mix.values()) for count in mix.values()]
    if all(abs(share - want) <= 0.2 for share, want in zip(shares, wanted, strict=True)):
        return []
    actual = ", ".join(f"{name} {100 * share:.0f}%" for name, share in zip(mix, shares, strict=True))
    recommended = "/".join(f"{100 * want:.0f}" for want in wanted)
    return [
        finding(
            "warning",
            f"the difficulty of the training rows is {actual}, far from the recommended {recommended}%",
            f"Change score.thresholds, or set score.quantiles: {wanted_quantiles(len(mix))} for the recommended mix.",
        )
    ]


def find_labels(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the findings on labels of a classification, and on fields of an extraction."""
    findings = []
    labels = facts["labels"]
    if facts["task"] == "classify" and len(labels) > MANY_LABELS:
        findings.append(
            finding(
                "warning",
                f"more than {MANY_LABELS} different labels",
                "If this is not a classification, set data.task: qa.",
            )
        )
    elif labels:
        once = [name for name, where in labels.items() if sum(where.values()) == 1]
        untrained = [name for name, where in labels.items() if not where.get("train")]
        trained = [name for name in labels if name not in untrained]
        if len(trained) == 1:
            findings.append(
                finding(
                    "warning",
                    f"all training rows have the same label: {trained[0]!r}",
                    "The model can only learn to always answer with it: add rows with other labels.",
                )
            )
        alike: dict[str, list[str]] = defaultdict(list)
        for name in labels:
            alike["".join(name.lower().split())].append(name)
        if once:
            findings.append(
                finding(
                    "warning",
                    f"labels seen once: {', '.join(map(repr, once[:10]))}",
                    "One row is too few to learn or to evaluate a label: add rows, or merge labels.",
                )
            )
        if untrained:
            findings.append(
                finding(
                    "warning",
                    f"labels without a training row: {', '.join(map(repr, untrained[:10]))}",
                    "Add training rows for them, or remove them.",
                )
            )
        for names in alike.values():
            if len(names) > 1:
                findings.append(
                    finding(
                        "warning",
                        f"labels that differ only in case or whitespace: {', '.join(map(repr, names))}",
                        "Use a single spelling.",
                    )
                )
        counts = sorted(sum(where.values()) for where in labels.values())
        if counts[-1] > 20 * counts[0]:
            findings.append(
                finding(
                    "note",
                    f"the most frequent label has {counted(counts[-1], 'row', 'rows')}, the rarest {counts[0]}",
                    "Judge the model by macro F1, not accuracy.",
                )
            )
    json_rows = facts["formats"].get("json", 0)
    if facts["task"] == "extract" and facts["formats"].get("text"):
        findings.append(
            finding(
                "warning",
                f"{counted(facts['formats']['text'], 'response is', 'responses are')} not JSON, "
                "which data.task extract requires",
                "The model learns them, but no metric can grade them: correct the rows, or set data.task: qa.",
            )
        )
    rare = [name for name, count in facts["fields"].items() if count < 0.01 * json_rows]
    if rare:
        findings.append(
            finding(
                "note",
                f"fields in less than 1% of the objects: {', '.join(rare[:10])}",
                "They are too rare to learn: add rows, or remove the fields.",
            )
        )
    return findings
