"""Convert the labeled addresses in usaddress's source distribution to rows: an address as typed, its parts as JSON.

In: a folder with the fetched archive, which is read in place, never unpacked or run.
Out: rows (JSONL: input, output, source) and the addresses that gave no row, with the reason.

In `training/*.xml`, people have labeled each word of an address with the part that it belongs to (the labels are
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
    """files: names of the files under `training/` to read, without `.xml`."""

    files: list[str] = field(default_factory=lambda: ["labeled", "us50_messiest_manual_label", "us50_train_tagged"])


def parts(words: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the output for labeled words, (label, word) in order: each part's words as typed, without outer commas.

    `number` is a number if it consists only of digits. Raises ValueError with the reason if a label is unknown.
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
    output: dict[str, Any] = {name: " ".join(texts).strip(" ,;.") for name, texts in found.items()}
    output = {name: value for name, value in output.items() if value}
    if output.get("number", "").isdecimal() and not output["number"].startswith("0"):
        output["number"] = int(output["number"])
    output["po_box"] = any(label in BOX for label, _ in words)
    if not set(output) - {"po_box"}:
        raise ValueError("no part of an address")
    return {name: output[name] for name in ORDER if name in output}


def convert(folder: str | Path, options: Options) -> tuple[list[dict[str, Any]], list[dict[str, str]], dict[str, Any]]:
    """Return rows, the addresses that gave no row with their reasons, and the counts of both."""
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
    return rows, left_out, {"read": f"{read} labeled addresses", "rows": len(rows), "left_out": reasons}
