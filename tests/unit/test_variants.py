"""Variants of rows: what they say stays true, and they are augmented rows of the row's source."""

import json
from random import Random

import pytest

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.records import Record
from scripts.contenders.contender import without_mixed
from scripts.data.address_variants import MIXTURES, VARIANTS
from scripts.data.convert import vary_all
from scripts.data.ingest import Ingest, Source
from scripts.data.split import Splitter
from scripts.data.variants import Others, find_kinds, make_variants, vary

CONVERTER = ROOT / "scripts/data/converters/usaddress.py"
ROWS = [
    ("70 W. Madison St., Ste. 4500, Chicago, IL 60602", "W. Madison St", "Ste. 4500", "Chicago", "IL", "60602"),
    ("8 NE OAK AVENUE APT 4 NORTH BEND OR 97459-0001", "NE OAK AVENUE", "APT 4", "NORTH BEND", "OR", "97459-0001"),
    ("9 lake road floor 2, salem, oregon 97301", "lake road", "floor 2", "salem", "oregon", "97301"),
]

MORE = [
    ("3100 Elm Ave., Suite 9, Rio, WI 53960", "Elm Ave.", "Suite 9", "Rio", "WI", "53960"),
    ("12 W MAIN ST REAR ST. PAUL MN 55101", "W MAIN ST", "REAR", "ST. PAUL", "MN", "55101"),
    ("7 main st # 2, rio, wi 53960", "main st", "# 2", "rio", "wi", "53960"),
]


def row_of(text, *values, **more):
    parts = dict(zip(("street", "unit", "city", "state", "zip"), values, strict=False))
    return {"input": text, "output": {"number": int(text.split()[0]), **parts}, "source": text, **more}


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
    given = row_of(*ROWS[row])
    parts = given["output"]
    assert VARIANTS[kind](given["input"], parts, Random(1)) == (text, {**parts, **changed})


def test_a_variant_has_no_rejected_answer_of_its_row():
    """It would be wrong for another reason: it answers another text."""
    row = {**row_of(*ROWS[0]), "rejected": "Chicago"}
    assert "rejected" not in vary(row, find_kinds(CONVERTER, ["street"]), 1)


def test_an_abbreviation_that_is_written_out_loses_its_period():
    given = row_of(*ROWS[0])
    seen = {VARIANTS["street"](given["input"], given["output"], Random(seed))[0] for seed in range(20)}
    assert "70 W. Madison Street, Ste. 4500, Chicago, IL 60602" in seen
    assert "70 West Madison St., Ste. 4500, Chicago, IL 60602" in seen


def test_another_addresses_values_take_the_places_of_ones_own():
    mine, other = row_of(*ROWS[0]), row_of(*MORE[0])
    seen = [
        MIXTURES["values"](other["input"], other["output"], mine["input"], mine["output"], Random(seed))
        for seed in range(40)
    ]
    texts = {found[0] for found in seen if found}
    assert "70 Elm Ave., Ste. 4500, Chicago, IL 60602" in texts
    assert "70 W. Madison St., Ste. 4500, Rio, WI 53960" in texts
    assert len(texts) > 5 and all("Rio" in text or "Chicago, IL 60602" in text for text in texts)
    capitals = row_of(*MORE[1])
    assert MIXTURES["values"](capitals["input"], capitals["output"], mine["input"], mine["output"], Random(1)) is None


def test_values_that_could_be_mistaken_are_not_taken():
    def mix(text, parts, other, others_parts):
        found = [MIXTURES["values"](other, others_parts, text, parts, Random(seed)) for seed in range(30)]
        return {changed[0] for changed in found if changed}

    box = {"po_box": True, "box": "1", "city": "Rio", "state": "WI"}
    assert (
        mix("RR 1 Box 1, Rio WI", box, "Box 45, Ames IA", {**box, "box": "45", "city": "Ames", "state": "IA"}) == set()
    )
    house = {"number": 5, "street": "Elm St", "po_box": False, "city": "Rio", "state": "WI", "zip": "53960"}
    without = {"number": 7, "street": "Oak Rd", "po_box": False, "city": "Ames", "state": "IA"}
    texts = mix("5 Elm St, Rio WI 53960", house, "7 Oak Rd, Ames IA", without)
    assert texts == {"7 Elm St, Rio WI 53960", "5 Oak Rd, Rio WI 53960", "7 Oak Rd, Rio WI 53960"}


def test_one_more_row_changes_few_variants():
    rows = [row_of(f"{n} Elm{n} St, Rio{n}, WI 5{n:04}", f"Elm{n} St") for n in range(1, 201)]
    kinds = find_kinds(CONVERTER, ["values"])
    before = {row["input"] for row in make_variants(rows, kinds, 1)}
    after = {row["input"] for row in make_variants([row_of("9 New St, Rio, WI 53960", "New St"), *rows], kinds, 1)}
    assert len(before) > 150 and len(before - after) < 10
    with pytest.raises(GradusError, match=r"the source 'a \+ b' has ' \+ ' in it"):
        list(make_variants([{**rows[0], "source": "a + b"}], kinds, 1))
    assert list(make_variants([{**rows[0], "source": "a + b"}], find_kinds(CONVERTER, ["case"]), 1))


def test_a_row_of_two_is_left_out_if_either_is_held_out():
    rows = [row_of(*row, group=row[0]) for row in [ROWS[0], MORE[0]]]
    (made, *_) = make_variants(rows, find_kinds(CONVERTER, ["values"]), 1)
    assert set(made["source"].split(" + ")) == {ROWS[0][0], MORE[0][0]}
    records = [Record(row["input"], "x", "extract", source=row["source"]) for row in rows]
    mixed = Record(made["input"], "x", "extract", source=made["source"], augmented=True)
    for place in range(2):
        splitter = Splitter(0, "row", 0.1, 0.1, 0)
        for number, record in enumerate(records):
            splitter.splits[record.id] = "test" if number == place else "train"
            splitter.sources[record.source] = [record.id]
        splitter.add(mixed)
        assert splitter.dropped == {mixed.id: "augmented row of one in test"}
    assert without_mixed([*records, mixed]) == records  # it would make them kin


def test_a_part_that_stands_twice_in_the_text_is_left_alone():
    text = "5 OR St, Bend, OR"
    assert VARIANTS["state"](text, {"street": "OR St", "city": "Bend", "state": "OR"}, Random(1)) is None


def test_only_the_word_for_the_kind_of_street_is_changed():
    def streets(value):
        text = f"12 {value}, Paris"
        found = (VARIANTS["street"](text, {"street": value}, Random(seed)) for seed in range(20))
        return {changed[1]["street"] for changed in found if changed}

    assert streets("Rue St Pierre") == set()
    assert streets("Dr King Court North") == {"Dr King Ct North", "Dr King Court N"}
    assert streets("St Ave") == {"St Avenue"}


def test_every_part_of_a_variant_stands_in_its_text():
    changed = 0
    kinds = find_kinds(CONVERTER, [*MIXTURES, *VARIANTS])
    for row in ROWS:
        for number in range(1, 30):
            variant = vary(row_of(*row), kinds, number, Others([row_of(*other) for other in [*ROWS, *MORE]]))
            changed += variant["input"] != row[0]
            for value in variant["output"].values():
                assert str(value) in variant["input"]
    assert changed == 29 * len(ROWS)


def test_variants_are_always_the_same_and_augmented_rows_of_the_same_source():
    row = row_of(*ROWS[0], group="g", split="train")
    once, again = (vary(row, find_kinds(CONVERTER, VARIANTS), 1) for _ in range(2))
    assert once == again and once["input"] != row["input"]
    expected = {"source": ROWS[0][0], "group": "g", "augmented": True}
    assert {name: value for name, value in once.items() if name not in ("input", "output")} == expected
    assert vary(row_of("12"), find_kinds(CONVERTER, ["unit"]), 1) is None


def test_only_rows_that_may_be_trained_have_variants_and_none_asks_what_a_row_asks():
    asked = row_of("70 W. Madison St., Suite 4500, Chicago, IL 60602", "x", split="test")
    held_out = row_of("8 Elm St Apt 4, Bend, OR", "Elm St", "Apt 4", split="valid")
    made = row_of("9 Elm St Apt 4, Bend, OR", "Elm St", "Apt 4", augmented=True)
    rows = [row_of(*ROWS[0]), row_of(*ROWS[2]), asked, held_out, made]
    variants = list(make_variants(rows, find_kinds(CONVERTER, ["unit"]), 2))
    assert [row["input"] for row in variants] == ["9 lake road fl 2, salem, oregon 97301"]


def test_variants_stand_last_share_the_source_that_ingest_gives_and_are_counted(tmp_path):
    rows = [row_of(*row) for row in ROWS]
    del rows[1]["source"]
    made, _, counts = vary_all(CONVERTER, (rows, [], {"rows": 3}), ["zip", "case"], 1, "rows.jsonl")
    assert counts == {"rows": 3, "variants": 3}
    assert [row.get("augmented", False) for row in made] == [False] * 3 + [True] * 3
    assert made[4]["source"] == "rows.jsonl:2"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    records = list(Ingest([Source(str(tmp_path / "rows.jsonl"))], "extract", "auto", 0.0, ["easy"]).records())
    assert records[1].source == records[4].source == "rows.jsonl:2"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [*Ingest([Source(str(tmp_path / "rows.jsonl"))], "extract", "auto", 0.0, ["easy"]).records()] == records[:3]


def test_an_unknown_kind_and_a_row_without_parts_are_errors():
    with pytest.raises(GradusError, match="no variant 'colour'; known: street"):
        find_kinds(CONVERTER, ["colour"])
    assert list(find_kinds(CONVERTER, ["case"])) == ["case"]
    for wrong in ({"output": "no object"}, {"output": "[1]"}, {"input": None, "output": {}}):
        with pytest.raises(GradusError, match="row 3 needs a text as `input` and a JSON object"):
            vary({"input": "a", "source": "row 3", **wrong}, find_kinds(CONVERTER, VARIANTS), 1)
