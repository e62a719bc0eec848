"""Replace personal data and secrets with placeholders, before any other stage reads the rows.

In: records. Out: records in which each detected value is replaced by `<KIND_n>`, with the same placeholder for the same
value throughout a row; the masked rows, with kinds; counts by kind. The values themselves are never written or logged.

Personal data is detected by Presidio's pattern recognizers (patterns and checksums, no language model), secrets by
detect-secrets' detectors of known key formats.
"""

import itertools
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_text
from scripts.common.hidden import hidden
from scripts.common.io import atomic_open, dump_line, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.parallel import in_order
from scripts.common.records import Record, distinct

DIGITS = re.compile(r"\d(?:[\s()./-]{0,3}\d){6}")
# entity: (Presidio's recognizer, patterns of which a text must match one before the slow recognizer is called). It is
# fast to search for a pattern that begins with a character which few texts have; hence what comes before looks behind
KINDS = {
    "EMAIL_ADDRESS": ("EmailRecognizer", (re.compile("@"),)),
    "PHONE_NUMBER": ("PhoneRecognizer", (DIGITS,)),
    "CREDIT_CARD": ("CreditCardRecognizer", (re.compile(r"\d(?:[ -]?\d){11}"),)),
    "IBAN_CODE": ("IbanRecognizer", (re.compile(r"[A-Z]{2}\d\d ?[A-Z\d]{4}"),)),
    "IP_ADDRESS": (
        "IpRecognizer",
        (
            re.compile(r"\.(?<=\d\.)\d{1,3}\.\d"),
            re.compile(r":(?:(?<=[\da-fA-F]:)[\da-fA-F:]*:|:[\da-fA-F])"),
        ),
    ),
    "US_SSN": ("UsSsnRecognizer", (re.compile(r"\d{3}[- .]\d{2}[- .]\d{4}"),)),
    "CRYPTO": ("CryptoRecognizer", (re.compile(r"\b(?:[13]|bc1)[A-Za-z0-9]{25}"),)),
}
NUMBERS = ("PHONE_NUMBER", "CREDIT_CARD", "US_SSN")  # where their patterns match, DIGITS does
# of kinds whose patterns are slow to search for: every match holds so many characters in a row without whitespace
LONG = {
    "CLOUDANT_CREDENTIALS": 24,
    "CRYPTO": 25,
    "DISCORD_BOT_TOKEN": 27,
    "IBM_CLOUD_IAM_KEY": 44,
    "IBM_COS_HMAC_CREDENTIALS": 48,
    "MAILCHIMP_ACCESS_KEY": 32,
    "SOFTLAYER_CREDENTIALS": 64,
    "STRIPE_ACCESS_KEY": 24,
    "TELEGRAM_BOT_TOKEN": 35,
}
ARTIFACTORY = re.compile("A(?:KC|P)")  # in all matches of Artifactory's patterns, which are slow to search for
MIN_SCORE = 0.4  # Presidio's confidence; lower scores are mostly arbitrary numbers
# the match is part of a longer dotted number, such as a section number
NUMBER_BEFORE, NUMBER_AFTER = re.compile(r"\d\.$"), re.compile(r"\.\d")
BETWEEN = "\n\n\u241e\n\n"  # separates a row's texts during the search, so that no match spans two of them


@dataclass
class Masker:
    """Finds and replaces values. `kinds`: keys of KINDS; `allow`: patterns; values that contain a match are kept."""

    kinds: Sequence[str]
    secrets: bool
    allow: Sequence[str]
    detectors: list[tuple[str, Any]] = field(default_factory=list)  # (kind, Presidio's recognizer)
    patterns: list[tuple[str, re.Pattern[str]]] = field(default_factory=list)  # (kind, pattern of a secret)

    def __post_init__(self) -> None:
        try:
            self.allowed = [re.compile(pattern) for pattern in self.allow]
        except re.error as error:
            raise GradusError(
                f"mask.allow: {error.pattern!r} is not a valid regular expression ({error}); correct it"
            ) from None
        self.sources: dict[str, bool] = {}  # whether a file's name holds something to mask
        if self.kinds:
            import tldextract

            # they are for its language models, which are not used here, and take three seconds to import
            with hidden("torch", "transformers"):
                import presidio_analyzer.predefined_recognizers as recognizers

            # use the package's bundled list of top-level domains; by default it would be downloaded
            tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
            logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
            for kind in self.kinds:
                self.detectors.append((kind, getattr(recognizers, KINDS[kind][0])()))
        if self.secrets:
            import detect_secrets.core.plugins.util as plugins
            from detect_secrets.plugins.base import RegexBasedDetector

            plugin: Any
            for plugin in plugins.get_mapping_from_secret_type_to_class().values():
                if issubclass(plugin, RegexBasedDetector) and plugin.secret_type != "Public IP (ipv4)":  # IP_ADDRESS
                    kind = re.sub(r"\W+", "_", plugin.secret_type).strip("_").upper()
                    self.patterns += [(kind, pattern) for pattern in plugin().denylist]

    def find(self, text: str) -> list[tuple[str, str]]:
        """Return (kind, value) of each value found in a text and not allowed, ordered by kind, without duplicates."""
        found: list[tuple[str, str]] = []
        longest = max(map(len, text.split()), default=0)
        digits, artifactory = DIGITS.search(text), ARTIFACTORY.search(text)
        for kind, pattern in self.patterns:
            if longest < LONG.get(kind, 0) or (kind == "ARTIFACTORY_CREDENTIALS" and not artifactory):
                continue
            for match in pattern.finditer(text):
                # a group is the secret itself (a password in a URL), or only the prefix that identifies the kind of key
                inner = max((group for group in match.groups() if group), key=len, default="")
                value = inner if len(inner) >= 8 else match[0]
                if kind == "PRIVATE_KEY":  # the pattern matches only its first line
                    start = text.rfind("-----", 0, match.start() + 1)
                    end = re.compile(r"END [A-Z0-9 ]*(?:KEY|BLOCK)(?: BLOCK)?-*").search(text, match.start())
                    value = text[max(start, 0) : end.end() if end else None].split(BETWEEN)[0]
                found.append((kind, value))
        for kind, recognizer in self.detectors:
            if longest < LONG.get(kind, 0) or (kind in NUMBERS and not digits):
                continue
            if any(pattern.search(text) for pattern in KINDS[kind][1]):
                for result in recognizer.analyze(text, [kind], None):
                    part_of_number = kind == "IP_ADDRESS" and (
                        NUMBER_BEFORE.search(text[: result.start]) or NUMBER_AFTER.match(text, result.end)
                    )
                    if result.score >= MIN_SCORE and not part_of_number:
                        found.append((kind, text[result.start : result.end]))
        seen: dict[str, str] = {}
        for kind, value in found:
            if value.strip() and not any(pattern.search(value) for pattern in self.allowed):
                seen.setdefault(value, kind)
        return [(kind, value) for value, kind in seen.items()]

    def mask(self, record: Record) -> tuple[Record, Counter[str]]:
        """Return the record with placeholders, and the number of different values of each kind."""
        texts = [record.prompt, record.response, *record.accepted, *record.checks]
        texts += [turn["content"] for turn in record.context]
        # a file's name is searched once, not in each of its rows: the date in rows-20261126.jsonl looks like a number
        file = re.sub(r":\d+$", "", record.source)
        if file not in self.sources:
            self.sources[file] = bool(self.find(file))
        source = [record.source] if self.sources[file] else []
        found = self.find(BETWEEN.join([*texts, record.group, *source]))
        # apart, so that what a rejected answer holds changes nothing else of the row
        known = {value for _, value in found}
        more = self.find(BETWEEN.join(record.rejected)) if record.rejected else []
        more = [(kind, value) for kind, value in more if value not in known]
        if not found and not more:
            return record, Counter()
        counts: Counter[str] = Counter()
        placeholders = {}
        for kind, value in [*found, *more]:
            counts[kind] += 1
            placeholders[value] = f"<{kind}_{counts[kind]}>"
        whole = "\n".join([*texts, record.group, record.source])
        replaced = replacer(found, placeholders, whole)
        replaced_rejected = replacer([*found, *more], placeholders, "\n".join([whole, *record.rejected]))

        def answer(text: str, replaced: Callable[[str], str] = replaced) -> str:
            plain = replaced(text)
            return plain if plain == text else _masked_json(text, replaced) or plain

        group = record.group  # different groups must not become the same placeholder
        if replaced(group) != group:
            group = f"masked-{sha256_text(group)[:12]}"
        clean = Record(
            **{
                **record.to_json(),
                "prompt": replaced(record.prompt),
                "response": answer(record.response),
                "accepted": [answer(text) for text in record.accepted],
                "rejected": [answer(text, replaced_rejected) for text in record.rejected],
                "context": [{**turn, "content": replaced(turn["content"])} for turn in record.context],
                "checks": [replaced(check) for check in record.checks],
                "group": group,
                "source": replaced(record.source),
                "id": "",  # recomputed: a hash of the original would leak information about it
            }
        )
        return without_right(clean) if record.rejected else clean, counts


def without_right(record: Record) -> Record:
    """Return a record without rejected answers that are the same as a right one, or as one another, now that they are
    masked.
    """
    return replace(record, rejected=distinct(record.rejected, [record.response, *record.accepted]))


def replacer(found: Sequence[tuple[str, str]], placeholders: Mapping[str, str], whole: str) -> Callable[[str], str]:
    """Return a function that replaces the (kind, value) that were found in a row, whose texts are `whole`."""
    if not found:
        return lambda text: text
    kinds = {value: kind for kind, value in found}
    longest = sorted(kinds, key=len, reverse=True)
    pattern = re.compile("|".join(occurrences(value, kinds[value], whole) for value in longest))
    return lambda text: pattern.sub(lambda match: placeholders[match[0]], text)


def occurrences(value: str, kind: str, text: str) -> str:
    """Return a pattern for the occurrences of a value in a text that are to be replaced.

    Personal data is replaced only where it is delimited, not inside a longer number or word: 11.2.3.45 does not contain
    the address 1.2.3.4. A secret is replaced everywhere, as is a value that occurs nowhere delimited.
    """
    anywhere = re.escape(value)
    dotted = kind == "IP_ADDRESS"
    before, after = (r"(?<!\d\.)", r"(?!\.\d)") if dotted else ("", "")
    alone = rf"(?<![A-Za-z0-9]){before}{anywhere}(?![A-Za-z0-9]){after}"
    return alone if kind in KINDS and re.search(alone, text) else anywhere


def _masked_json(text: str, replaced: Callable[[str], str]) -> str | None:
    """Mask the values of a JSON object one by one, so that it stays valid JSON; None if `text` is not a JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        return None

    def walk(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: walk(item) for name, item in part.items()}
        if isinstance(part, list):
            return [walk(item) for item in part]
        if isinstance(part, str):
            return replaced(part)
        masked = replaced(json.dumps(part))
        return part if masked == json.dumps(part) else masked

    return json.dumps(walk(value), ensure_ascii=False) if isinstance(value, dict) else None


def mask_lines(masker: Masker, lines: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the masked lines of records, and {source, kinds} of each record that changed; with the number of rejected
    answers that it lost because they became the same as another answer.
    """
    done, touched = [], []
    for line in lines:
        given = Record(**json.loads(line))
        record, counts = masker.mask(given)
        if counts:
            line = dump_line(record.to_json())
            lost = len(given.rejected) - len(record.rejected)
            more = {"rejected_left_out": lost} if lost else {}
            touched.append({"source": record.source, "kinds": dict(counts), **more})
        done.append(line)
    return done, touched


def batches(path: str | Path, size: int = 1000) -> Iterator[list[str]]:
    """Yield the lines of a file, `size` at a time."""
    with open(path, encoding="utf-8", newline="\n") as handle:
        while lines := list(itertools.islice(handle, size)):
            yield lines


def mask_file(
    records: str | Path, output: str | Path, masker: Masker | None, processes: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Write the masked records; return the changed rows and counts by kind. Without a masker, records are unchanged."""

    def work(lines: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
        return mask_lines(masker, lines) if masker else (list(lines), [])

    touched: list[dict[str, Any]] = []
    rows = 0
    kinds: Counter[str] = Counter()
    with atomic_open(output) as handle, tqdm(desc="masking", unit="row", mininterval=1) as bar:
        for done, found in in_order(work, batches(records), processes if masker else 1):
            handle.writelines(done)
            touched += found
            for item in found:
                kinds.update(item["kinds"])
            rows += len(done)
            bar.update(len(done))
    lost = sum(item.get("rejected_left_out", 0) for item in touched)
    return touched, {
        "records": rows,
        "touched": len(touched),
        "values": dict(kinds),
        "enabled": masker is not None,
        **({"rejected_left_out": lost} if lost else {}),
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        settings = job.params.mask
        chosen = Masker(settings["kinds"], settings["secrets"], settings["allow"]) if settings["enabled"] else None
        rows_touched, summary = mask_file(job.input.records, job.output.records, chosen, job.threads)
        write_jsonl(job.output.touched, rows_touched)
        write_json(job.output.counts, summary)
