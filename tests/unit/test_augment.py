"""Variants of training rows: what they say stays true, and held-out rows are safe from them."""

import json
from random import Random

import pytest

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.records import Record
from scripts.contenders.contender import number_kin
from scripts.data.address_variants import VARIANTS
from scripts.data.augment import augmented, find_kinds, make_variants, vary
from scripts.data.shapes import Layout

CONVERTER = ROOT / "scripts/data/converters/usaddress.py"
ROWS = [
    ("70 W. Madison St., Ste. 4500, Chicago, IL 60602", "W. Madison St", "Ste. 4500", "Chicago", "IL", "60602"),
    ("8 NE OAK AVENUE APT 4 NORTH BEND OR 97459-0001", "NE OAK AVENUE", "APT 4", "NORTH BEND", "OR", "97459-0001"),
    ("9 lake road floor 2, salem, oregon 97301", "lake road", "floor 2", "salem", "oregon", "97301"),
]


def record(text, *values, split="train"):
    parts = dict(zip(("street", "unit", "city", "state", "zip"), values, strict=False))
    return Record(text, json.dumps({"number": int(text.split()[0]), **parts}), "extract", source=text, split=split)


@pytest.mark.parametrize(
    ("kind", "row", "text", "changed"),
    [
        ("street", 2, "9 lake rd floor 2, salem, oregon 97301", {"street": "lake rd"}),
        ("unit", 0, "70 W. Madison St., Suite 4500, Chicago, IL 60602", {"unit": "Suite 4500"}),
        ("unit", 1, "8 NE OAK AVENUE APARTMENT 4 NORTH BEND OR 97459-0001", {"unit": "APARTMENT 4"}),
        ("state", 0, "70 W. Madison St., Ste. 4500, Chicago, Illinois 60602", {"state": "Illinois"}),
        ("state", 2, "9 lake road floor 2, salem, or 97301", {"state": "or"}),
        ("zip", 1, "8 NE OAK AVENUE APT 4 NORTH BEND OR 97459", {"zip": "97459"}),
        ("commas", 2, "9 lake road floor 2 salem oregon 97301", {}),
        ("periods", 0, "70 W Madison St, Ste 4500, Chicago, IL 60602", {"street": "W Madison St", "unit": "Ste 4500"}),
    ],
)
def test_a_kind_changes_the_text_and_the_part(kind, row, text, changed):
    given = record(*ROWS[row])
    parts = json.loads(given.response)
    assert VARIANTS[kind](given.prompt, parts, Random(1)) == (text, {**parts, **changed})


def test_an_abbreviation_that_is_written_out_loses_its_period():
    given = record(*ROWS[0])
    seen = {VARIANTS["street"](given.prompt, json.loads(given.response), Random(seed))[0] for seed in range(20)}
    assert "70 W. Madison Street, Ste. 4500, Chicago, IL 60602" in seen
    assert "70 West Madison St., Ste. 4500, Chicago, IL 60602" in seen


def test_a_part_that_stands_twice_in_the_text_is_left_alone():
    text = "5 OR St, Bend, OR"
    assert VARIANTS["state"](text, {"street": "OR St", "city": "Bend", "state": "OR"}, Random(1)) is None


def test_every_part_of_a_variant_stands_in_its_text():
    changed = 0
    for row in ROWS:
        for number in range(1, 30):
            variant = vary(record(*row), VARIANTS, number, Layout("row", True))
            changed += variant.prompt != row[0]
            for value in json.loads(variant.response).values():
                assert str(value) in variant.prompt
    assert changed == 29 * len(ROWS)


def test_variants_are_always_the_same_and_written_as_the_rows_are():
    given = record(*ROWS[0])
    once, again = (vary(given, VARIANTS, 1, Layout("row", True)) for _ in range(2))
    assert once == again and once.source == f"{ROWS[0][0]}, variant 1"
    assert ": " not in once.response and list(json.loads(once.response)) == list(json.loads(given.response))
    assert vary(record("12"), {"unit": VARIANTS["unit"]}, 1, Layout()) is None


def test_a_variant_is_kin_of_its_row():
    given = record(*ROWS[2])
    variant = vary(given, VARIANTS, 1, Layout())
    assert len({*number_kin([given, variant], "row")}) == 1


def test_only_training_rows_have_variants_and_none_comes_near_a_held_out_row():
    held_out = record("70 W. Madison St., Suite 4500, Chicago, IL 60602", "x", split="test")
    rows = [record(*ROWS[0]), record(*ROWS[2]), held_out]
    kinds = {"unit": VARIANTS["unit"]}
    variants, counts = make_variants(rows, kinds, 1, 0.8, Layout())
    # the first row's variant would be the held-out row
    assert counts == {"train": 2, "variants": 1, "same_as_another": 1, "near_held_out": 0}
    found = [row["prompt"] for row in augmented(rows, variants)]
    assert found == [ROWS[0][0], ROWS[2][0], "9 lake road fl 2, salem, oregon 97301", held_out.prompt]
    near = record("70 W. Madison St., Suite 4501, Chicago, IL 60602", "x", split="valid")
    variants, counts = make_variants([rows[0], near], kinds, 1, 0.8, Layout())
    assert counts["near_held_out"] == 1 and not variants


def test_an_unknown_kind_and_a_row_without_parts_are_errors():
    with pytest.raises(GradusError, match="no variant 'colour'; known: street"):
        find_kinds(CONVERTER, ["colour"])
    assert list(find_kinds(CONVERTER, ["case"])) == ["case"]
    with pytest.raises(GradusError, match="need a JSON object"):
        vary(Record("a", "b", "qa", source="row 3"), VARIANTS, 1, Layout())
