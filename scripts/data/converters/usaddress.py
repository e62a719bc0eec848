"""Convert the labeled addresses in usaddress's source distribution to rows: an address as typed, its parts as JSON.

In: a folder with the fetched archive, which is read in place, never unpacked or run.
Out: rows (JSONL: input, output, source) and the addresses that gave no row, with the reason.

In `training/*.xml`, people have labeled each word of an address with the part that it belongs to (the labels are
those of the United States Thoroughfare, Landmark, and Postal Address Data Standard, FGDC-STD-016-2011). docs/data.md
says what the files are, and which labels are mended.
"""

import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import ParseError, fromstring
from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_text
from scripts.common.near_copies import near_copies
from scripts.data.address_variants import MIXTURES, VARIANTS

__all__ = ["MIXTURES", "VARIANTS", "Options", "convert"]

# label → the field of the output that its words go to
STREET = [
    f"StreetName{part}" for part in ("PreModifier", "PreDirectional", "PreType", "", "PostType", "PostDirectional")
]
PARTS = {
    **dict.fromkeys([*STREET, "StreetNamePostModifier"], "street"),
    **dict.fromkeys(["OccupancyType", "OccupancyIdentifier", "SubaddressType", "SubaddressIdentifier"], "unit"),
    **dict.fromkeys(["BuildingName", "LandmarkName", "Recipient"], "name"),
    **dict.fromkeys(["AddressNumberPrefix", "AddressNumber", "AddressNumberSuffix"], "number"),
    "USPSBoxID": "box",
    "PlaceName": "city",
    "StateName": "state",
    "ZipCode": "zip",
}
BOX = ("USPSBoxType", "USPSBoxID", "USPSBoxGroupType", "USPSBoxGroupID")
NEAR = 0.7  # Jaccard similarity (near_copies.py), below the config's 0.8 to be safe
Word = tuple[str, str]  # label, word


@dataclass
class Options:
    """What is read, and how the parts are written; the defaults are the labels as they stand.

    files: names of the files under `training/` to read, without `.xml`. train_files: further ones, whose rows are only
    trained on, and how many rows of each at most. mend: whether labels that contradict the others are mended.
    contiguous: whether addresses with a part in several places are left out. periods: whether a part's last period
    stays. po_box: whether every row says if it has a post office box, or only those that have one. grouped: whether
    a row's group is its text without case and punctuation, so that `split.by: group` gives the same split whatever the
    other options are.
    """

    files: list[str] = field(default_factory=lambda: ["labeled", "us50_messiest_manual_label", "us50_train_tagged"])
    train_files: dict[str, int] = field(default_factory=dict)
    mend: bool = False
    contiguous: bool = False
    periods: bool = False
    po_box: Literal["always", "if true"] = "always"
    grouped: bool = False

    def __post_init__(self) -> None:
        for name, most in self.train_files.items():
            if isinstance(most, bool) or not isinstance(most, int) or most < 1:
                raise ValueError(f"train_files.{name}: {most!r} is not a number of rows; write {name}: 300")
            if name in self.files:
                raise ValueError(f"train_files.{name}: also one of files; name it once")


def words_of(address: Element, mend: bool) -> list[Word]:
    """Return the labeled words of an address in order, (label, word).

    `mend`: a `#` that stands outside of all labels goes to the word after it, and what follows the word for a box is
    the box's number: both are so in the other addresses.
    """
    found: list[Word] = []
    mark = ""
    for node in address:
        text = " ".join((node.text or "").split())
        label = node.tag
        if mend and label == "OccupancyIdentifier" and found and found[-1][0] == "USPSBoxType":
            label = "USPSBoxID"
        found.append((label, f"{mark}{text}"))
        mark = "# " if mend and (node.tail or "").strip(" ,;") == "#" else ""
    return found


def parts(words: Sequence[Word], options: Options) -> dict[str, Any]:
    """Return the output for labeled words: each part's words as typed, without outer commas, in the order of the text.

    `number` is a number if it consists only of digits. Raises ValueError with the reason if there is none.
    """
    found: dict[str, list[str]] = {}
    for label, word in words:
        if label in ("IntersectionSeparator", "CornerOf", "SecondStreetName") or label.startswith("SecondStreet"):
            raise ValueError("an intersection of two streets")
        if label in BOX:
            found.setdefault("po_box", [])
        if label in BOX and label != "USPSBoxID":
            continue
        if label not in PARTS:
            raise ValueError(f"label {label}")
        found.setdefault(PARTS[label], []).append(word)
    runs = [part for part, _ in groupby(PARTS.get(label, "") for label, _ in words) if part]
    if options.contiguous and len(runs) > len(set(runs)):
        raise ValueError("a part in several places")
    outer = " ,;" if options.periods else " ,;."
    output: dict[str, Any] = {name: " ".join(texts).strip(outer) or name == "po_box" for name, texts in found.items()}
    output = {name: value for name, value in output.items() if value}
    if str(output.get("number", "")).isdecimal() and not output["number"].startswith("0"):
        output["number"] = int(output["number"])
    if not set(output) - {"po_box"}:
        raise ValueError("no part of an address")
    if options.po_box == "always":
        output.setdefault("po_box", False)
    return output


def labeling(words: Sequence[Word]) -> tuple[str, tuple[str, ...]]:
    """Return (an address without case and punctuation, the parts that its words belong to)."""
    pairs = [(piece, PARTS.get(label, label)) for label, word in words for piece in re.findall(r"\w+", word.lower())]
    return " ".join(piece for piece, _ in pairs), tuple(part for _, part in pairs)


def usual_labels(addresses: Iterable[Sequence[Word]]) -> dict[str, tuple[str, ...]]:
    """Return how most people labeled each address that was labeled in several ways; () if that is not clear."""
    seen: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for words in addresses:
        text, labels = labeling(words)
        seen[text][labels] += 1
    ranked = {text: counts.most_common(2) for text, counts in seen.items() if len(counts) > 1}
    return {text: first[0] if first[1] > second[1] else () for text, (first, second) in ranked.items()}


@dataclass
class Address:
    """One labeled address."""

    source: str
    text: str
    words: list[Word]
    mended: bool = False


def addresses(archive: tarfile.TarFile, name: str, mend: bool) -> Iterator[Address]:
    """Yield the addresses of a file. Raises GradusError if it is not in the archive, or not valid XML."""
    root = archive.getnames()[0].split("/")[0]
    try:
        member = archive.extractfile(f"{root}/training/{name}.xml")
    except KeyError:
        raise GradusError(f"data.package.options: the archive has no training/{name}.xml") from None
    assert member is not None
    try:
        nodes = fromstring(member.read())
    except ParseError as error:
        raise GradusError(
            f"data.package.options: training/{name}.xml is not valid XML ({error}); leave it out"
        ) from None
    for number, node in enumerate(tqdm(nodes, desc=name, mininterval=1), 1):
        words = words_of(node, mend)
        yield Address(f"{name}.xml#{number}", simple(node), words, words != words_of(node, False))


def simple(node: Element) -> str:
    """Return the text of an address, with whitespace collapsed."""
    return " ".join("".join(node.itertext()).split())


def make_row(address: Address, usual: Mapping[str, tuple[str, ...]], options: Options) -> dict[str, Any]:
    """Return the row of an address. Raises ValueError with the reason if there is none."""
    if options.mend and address.text.startswith(('b"', "b'")):
        raise ValueError("a program's notation of a text")
    text, labels = labeling(address.words)
    if usual.get(text, labels) != labels:
        raise ValueError("labeled otherwise elsewhere")
    row = {"input": address.text, "output": parts(address.words, options), "source": address.source}
    return {**row, "group": text} if options.grouped else row


def sample(rows: Iterable[dict[str, Any]], most: int, others: Sequence[str]) -> list[dict[str, Any]]:
    """Return at most `most` rows, always the same: those whose texts have the smallest hashes, each text once.

    Rows that nearly copy one of the `others` are left out, so that none of these is held out and trained on at once.
    """
    unique = {row["input"]: row for row in rows}
    chosen = sorted(unique.values(), key=lambda row: sha256_text(row["input"]))[:most]
    texts = [*others, *(row["input"] for row in chosen)]
    copies = near_copies(len(texts), texts.__getitem__, NEAR, 4, lambda first, second: first < len(others) <= second)
    gone = {second - len(others) for _, second, _ in copies}
    return [row for place, row in enumerate(chosen) if place not in gone]


def convert(folder: str | Path, options: Options) -> tuple[list[dict[str, Any]], list[dict[str, str]], dict[str, Any]]:
    """Return rows, the addresses that gave no row with their reasons, and the counts of both."""
    archives = sorted(Path(folder).glob("*.tar.gz"))
    if len(archives) != 1:
        raise GradusError(f"{folder}: expected one .tar.gz, found {len(archives)}; delete the folder and run again")
    left_out: list[dict[str, str]] = []
    counts = Counter[str]()

    def rows_of(given: Iterable[Address], usual: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, Any]]:
        for address in given:
            counts["read"] += 1
            try:
                row = make_row(address, usual, options)
            except ValueError as error:
                left_out.append({"source": address.source, "reason": str(error), "title": address.text})
                continue
            counts["mended"] += address.mended
            yield row

    with tarfile.open(archives[0]) as archive:
        everywhere = [address for name in options.files for address in addresses(archive, name, options.mend)]
        usual = usual_labels(address.words for address in everywhere) if options.mend else {}
        rows = list(rows_of(everywhere, usual))
        for name, most in options.train_files.items():
            new = rows_of(addresses(archive, name, options.mend), {})
            rows += [{**row, "split": "train"} for row in sample(new, most, [one.text for one in everywhere])]
    reasons = dict(Counter(item["reason"] for item in left_out))
    summary = {"read": f"{counts['read']} labeled addresses", "rows": len(rows), "left_out": reasons}
    return rows, left_out, {**summary, "mended": counts["mended"]} if options.mend else summary
