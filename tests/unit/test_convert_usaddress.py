"""Labelled words become the parts of an address."""

import io
import json
import tarfile

import pytest

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.strict_json import check_schema
from scripts.data.converters.usaddress import Options, convert, parts

XML = """<AddressCollection>
  <AddressString><AddressNumber>8128</AddressNumber> <StreetNamePreDirectional>S.</StreetNamePreDirectional> <StreetName>DR</StreetName> <StreetName>KING</StreetName> <StreetNamePostType>Drive,</StreetNamePostType> <OccupancyType>#</OccupancyType><OccupancyIdentifier>4</OccupancyIdentifier></AddressString>
  <AddressString><USPSBoxType>PO</USPSBoxType> <USPSBoxType>Box</USPSBoxType> <USPSBoxID>63</USPSBoxID>, <PlaceName>Cordova</PlaceName>, <StateName>AK</StateName> <ZipCode>00574</ZipCode></AddressString>
  <AddressString><StreetName>State</StreetName> <IntersectionSeparator>and</IntersectionSeparator> <StreetName>Lake</StreetName></AddressString>
</AddressCollection>"""


@pytest.fixture
def package(tmp_path):
    with tarfile.open(tmp_path / "usaddress-1.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("usaddress-1/training/labeled.xml")
        info.size = len(XML)
        archive.addfile(info, io.BytesIO(XML.encode()))
    return tmp_path


def test_addresses_become_rows_that_satisfy_the_runs_schema(package):
    rows, left_out, counts = convert(package, Options(files=["labeled"]))
    assert [row["input"] for row in rows] == ["8128 S. DR KING Drive, #4", "PO Box 63, Cordova, AK 00574"]
    assert rows[0]["output"] == {"number": 8128, "street": "S. DR KING Drive", "unit": "# 4", "po_box": False}
    assert rows[1]["output"] == {"po_box": True, "box": "63", "city": "Cordova", "state": "AK", "zip": "00574"}
    schema = json.loads((ROOT / "config/runs/us-address.schema.json").read_text())
    assert [check_schema(row["output"], schema) for row in rows] == ["", ""]
    assert left_out[0]["reason"] == "an intersection of two streets"
    assert counts == {"read": "3 labeled addresses", "rows": 2, "left_out": {"an intersection of two streets": 1}}


def test_numbers_are_numbers_only_if_they_are_written_so():
    assert parts([("AddressNumber", "12")])["number"] == 12
    assert parts([("AddressNumber", "012")])["number"] == "012"
    assert parts([("AddressNumber", "12"), ("AddressNumberSuffix", "1/2")])["number"] == "12 1/2"


def test_a_file_that_is_not_in_the_archive_is_named(package):
    with pytest.raises(GradusError, match="no training/other.xml"):
        convert(package, Options(files=["other"]))
