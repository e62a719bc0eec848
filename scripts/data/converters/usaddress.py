"""The labelled addresses in usaddress' source distribution, as rows: an address as typed, its parts as JSON.

In: a folder that holds the fetched archive. It is read in place, never unpacked, never run.
Out: rows (JSONL: input, output, source) and the addresses that gave none, with the reason.

In `training/*.xml` people have labelled each word of an address with the part that it belongs to (the labels are
those of the United States Thoroughfare, Landmark, and Postal Address Data Standard, FGDC-STD-016-2011).
"""

import tarfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from defusedxml.ElementTree import fromstring
from tqdm import tqdm

from scripts.common.errors import GradusError

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
ORDER = ("number", "street", "unit", "name", "po_box", "box", "city", "state", "zip")


@dataclass
class Options:
    """files: names under `training/` to read, without `.xml`."""

    files: list[str] = field(default_factory=lambda: ["labeled", "us50_messiest_manual_label", "us50_train_tagged"])


def parts(words: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the output for labelled words, (label, word) in order: each part's words as typed, outer commas dropped.

    `number` is a number where it is written in digits alone. Raises ValueError with the reason if a label has no part.
    """
    found: dict[str, list[str]] = {}
    for label, word in words:
        if label in ("IntersectionSeparator", "CornerOf", "SecondStreetName") or label.startswith("SecondStreet"):
            raise ValueError("an intersection of two streets")
        if label in BOX and label != "USPSBoxID":
            continue
        if label not in PARTS:
            raise ValueError(f"label {label}")
        found.setdefault(PARTS[label], []).append(word)
    made: dict[str, Any] = {name: " ".join(some).strip(" ,;.") for name, some in found.items()}
    made = {name: value for name, value in made.items() if value}
    if made.get("number", "").isdecimal() and not made["number"].startswith("0"):
        made["number"] = int(made["number"])
    made["po_box"] = any(label in BOX for label, _ in words)
    if not set(made) - {"po_box"}:
        raise ValueError("no part of an address")
    return {name: made[name] for name in ORDER if name in made}


def convert(folder: str | Path, options: Options) -> tuple[list[dict[str, Any]], list[dict[str, str]], dict[str, Any]]:
    """Return rows, the addresses that gave none with their reasons, and the counts of both."""
    archives = sorted(Path(folder).glob("*.tar.gz"))
    if len(archives) != 1:
        raise GradusError(f"{folder}: expected one .tar.gz, found {len(archives)}; delete the folder and run again")
    rows, left_out, read = [], [], 0
    root = archives[0].name.removesuffix(".tar.gz")
    with tarfile.open(archives[0]) as archive:
        for name in options.files:
            try:
                member = archive.extractfile(f"{root}/training/{name}.xml")
            except KeyError:
                raise GradusError(f"data.package.options.files: the archive has no training/{name}.xml") from None
            assert member is not None
            for number, address in enumerate(tqdm(fromstring(member.read()), desc=name, mininterval=1), 1):
                read += 1
                source = f"{name}.xml#{number}"
                text = " ".join("".join(address.itertext()).split())
                words = [(node.tag, " ".join((node.text or "").split())) for node in address]
                try:
                    rows.append({"input": text, "output": parts(words), "source": source})
                except ValueError as error:
                    left_out.append({"source": source, "reason": str(error), "title": text})
    reasons = dict(Counter(item["reason"] for item in left_out))
    return rows, left_out, {"read": f"{read} labelled addresses", "rows": len(rows), "left_out": reasons}
