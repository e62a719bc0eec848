"""Labelled words become the parts of an address."""

import io
import json
import tarfile

import pytest
import yaml

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.strict_json import check_schema
from scripts.data.convert import make_options
from scripts.data.converters import usaddress
from scripts.data.converters.usaddress import Options, convert, parts

XML = """<AddressCollection>
  <AddressString><AddressNumber>8128</AddressNumber> <StreetNamePreDirectional>S.</StreetNamePreDirectional> <StreetName>DR</StreetName> <StreetName>KING</StreetName> <StreetNamePostType>Drive,</StreetNamePostType> <OccupancyType>#</OccupancyType><OccupancyIdentifier>4</OccupancyIdentifier></AddressString>
  <AddressString><USPSBoxType>PO</USPSBoxType> <USPSBoxType>Box</USPSBoxType> <USPSBoxID>63</USPSBoxID>, <PlaceName>Cordova</PlaceName>, <StateName>AK</StateName> <ZipCode>00574</ZipCode></AddressString>
  <AddressString><StreetName>State</StreetName> <IntersectionSeparator>and</IntersectionSeparator> <StreetName>Lake</StreetName></AddressString>
</AddressCollection>"""

FAULTY = """<AddressCollection>
  <AddressString><USPSBoxType>Box</USPSBoxType># <USPSBoxID>63</USPSBoxID>, <PlaceName>Cordova</PlaceName></AddressString>
  <AddressString><USPSBoxType>BOX</USPSBoxType> <OccupancyIdentifier>81</OccupancyIdentifier></AddressString>
  <AddressString><StreetName>Elm</StreetName> <OccupancyIdentifier># 1</OccupancyIdentifier></AddressString>
  <AddressString><StreetName>Elm</StreetName> <OccupancyIdentifier># 1</OccupancyIdentifier></AddressString>
  <AddressString><StreetName>ELM</StreetName> <StreetName>#1</StreetName></AddressString>
  <AddressString><PlaceName>Oak</PlaceName></AddressString>
  <AddressString><StreetName>Oak</StreetName></AddressString>
  <AddressString><BuildingName>b"tag's</BuildingName> <StreetName>Fir</StreetName></AddressString>
</AddressCollection>"""


def pack(folder, **files):
    with tarfile.open(folder / "usaddress-1.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"usaddress-1/training/{name}.xml")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return folder


@pytest.fixture
def package(tmp_path):
    return pack(tmp_path, labeled=XML)


def test_addresses_become_rows(package):
    rows, left_out, counts = convert(package, Options(files=["labeled"]))
    assert [row["input"] for row in rows] == ["8128 S. DR KING Drive, #4", "PO Box 63, Cordova, AK 00574"]
    assert rows[0]["output"] == {"number": 8128, "street": "S. DR KING Drive", "unit": "# 4", "po_box": False}
    assert rows[1]["output"] == {"po_box": True, "box": "63", "city": "Cordova", "state": "AK", "zip": "00574"}
    assert left_out[0]["reason"] == "an intersection of two streets"
    assert counts == {"read": "3 labeled addresses", "rows": 2, "left_out": {"an intersection of two streets": 1}}


def test_the_default_runs_rows_satisfy_its_schema(package):
    data = yaml.safe_load((ROOT / "config/config.yaml").read_text())["data"]
    rows, _, _ = convert(package, Options(**{**data["package"]["options"], "files": ["labeled"]}))
    assert [list(row["output"]) for row in rows] == [
        ["number", "street", "unit"],
        ["po_box", "box", "city", "state", "zip"],
    ]
    schema = json.loads((ROOT / data["schema"]).read_text())
    assert [check_schema(row["output"], schema) for row in rows] == ["", ""]


def test_numbers_are_numbers_only_if_they_are_written_so():
    assert parts([("AddressNumber", "12")], Options())["number"] == 12
    assert parts([("AddressNumber", "012")], Options())["number"] == "012"
    assert parts([("AddressNumber", "12"), ("AddressNumberSuffix", "1/2")], Options())["number"] == "12 1/2"


def test_parts_come_in_the_order_of_the_text():
    words = [
        ("ZipCode", "60601"),
        ("Recipient", "Ann,"),
        ("USPSBoxType", "Box"),
        ("USPSBoxID", "9"),
        ("PlaceName", "Rio"),
    ]
    assert list(parts(words, Options())) == ["zip", "name", "po_box", "box", "city"]
    assert list(parts(words[:2], Options())) == ["zip", "name", "po_box"]


def test_options_say_how_parts_are_written():
    words = [("StreetName", "Main"), ("StreetNamePostType", "St.,"), ("PlaceName", "Rio.")]
    assert parts(words, Options()) == {"street": "Main St", "city": "Rio", "po_box": False}
    kept = parts(words, Options(periods=True, po_box="if true"))
    assert kept == {"street": "Main St.", "city": "Rio."}


def test_an_address_with_a_part_in_several_places_can_be_left_out():
    words = [("OccupancyType", "dept"), ("AddressNumber", "15"), ("OccupancyType", "suite")]
    assert parts(words, Options())["unit"] == "dept suite"
    with pytest.raises(ValueError, match="a part in several places"):
        parts(words, Options(contiguous=True))
    assert parts(words[:2], Options(contiguous=True))["number"] == 15


def test_mending_labels_is_counted_and_what_stays_unclear_is_left_out(tmp_path):
    pack(tmp_path, faulty=FAULTY)
    plain, _, counts = convert(tmp_path, Options(files=["faulty"]))
    assert len(plain) == 8 and "mended" not in counts
    assert [plain[0]["output"]["box"], plain[1]["output"].get("box")] == ["63", None]
    rows, left_out, counts = convert(tmp_path, Options(files=["faulty"], mend=True))
    assert [row["output"].get("box") for row in rows[:2]] == ["# 63", "81"]
    assert counts["mended"] == 2
    assert [row["output"]["unit"] for row in rows[2:]] == ["# 1", "# 1"]  # two of three say so
    assert [(item["source"][-1], item["reason"]) for item in left_out] == [
        ("5", "labeled otherwise elsewhere"),
        ("6", "labeled otherwise elsewhere"),  # one against one
        ("7", "labeled otherwise elsewhere"),
        ("8", "a program's notation of a text"),
    ]


def test_further_files_only_train_are_capped_and_hold_no_copy_of_the_others(tmp_path):
    others = [f"<AddressString><StreetName>{name} Meadow Lane</StreetName></AddressString>" for name in "ABCDEFGH"]
    copy = "<AddressString><PlaceName>po box 63, cordova, ak 00574</PlaceName></AddressString>"
    more = f"<AddressCollection>{''.join(others)}{copy}</AddressCollection>"
    pack(tmp_path, labeled=XML, more=more)
    rows, _, _ = convert(tmp_path, Options(files=["labeled"], train_files={"more": 3}))
    assert [row.get("split") for row in rows][:2] == [None, None]
    assert {row["split"] for row in rows[2:]} == {"train"} and len(rows) in (4, 5)  # the copy may be drawn, and go
    rows, _, _ = convert(tmp_path, Options(files=["labeled"], train_files={"more": 100}))
    assert len(rows) == 2 + 8 and not any("cordova" in row["input"] for row in rows)


def test_a_group_is_the_same_however_the_rest_is_written(tmp_path):
    pack(tmp_path, faulty=FAULTY)
    first, second = (
        {row["source"]: row["group"] for row in convert(tmp_path, options)[0]}
        for options in (Options(["faulty"], grouped=True), Options(["faulty"], mend=True, periods=True, grouped=True))
    )
    assert second and second.items() <= first.items()
    assert first["faulty.xml#3"] == first["faulty.xml#5"] == "elm 1"


def test_a_file_that_cannot_be_read_is_named(package):
    with pytest.raises(GradusError, match="no training/other.xml"):
        convert(package, Options(files=["other"]))
    pack(package, labeled="<AddressCollection><AddressString><<A/></AddressCollection>")
    with pytest.raises(GradusError, match="training/labeled.xml is not valid XML"):
        convert(package, Options(files=["labeled"]))


@pytest.mark.parametrize("given", [{"x": 0}, {"x": True}, {"labeled": 5}])
def test_a_wrong_cap_is_an_error(given):
    with pytest.raises(GradusError, match="train_files"):
        make_options(usaddress.__file__, usaddress, {"train_files": given})
