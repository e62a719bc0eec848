"""Personal data and secrets leave the rows, the same value by the same placeholder, and show up nowhere else."""

import dataclasses
import json
import re
import socket

import pytest

from scripts.common.errors import GradusError
from scripts.common.io import write_jsonl
from scripts.common.records import Record, read_records
from scripts.data.mask import KINDS, LONG, Masker, mask_file

AWS_KEY = "AKIA" + "Q7ZXCVBNMASDFGHJ"
TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture(scope="module")
def masker():
    return Masker(list(KINDS), True, [])


VALUES = {
    "EMAIL_ADDRESS": "bob.miller@some-company.org",
    "PHONE_NUMBER": "+1 212-555-0147",
    "CREDIT_CARD": "4111 1111 1111 1111",
    "IBAN_CODE": "DE89370400440532013000",
    "IP_ADDRESS": "81.2.69.142",
    "US_SSN": "536-90-4399",
    "CRYPTO": "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
    "AWS_ACCESS_KEY": AWS_KEY,
    "GITHUB_TOKEN": TOKEN,
    "BASIC_AUTH_CREDENTIALS": "hunter2secret",
}


@pytest.mark.parametrize("kind", VALUES)
def test_each_kind_is_found_and_is_the_same_throughout_its_row(masker, kind):
    value = VALUES[kind]
    shown = f"https://bob:{value}@host/" if kind == "BASIC_AUTH_CREDENTIALS" else value
    record = Record(f"Look at {shown}, please", f"It says {shown}.", "qa", checks=[value], source="f:1")
    clean, counts = masker.mask(record)
    placeholder = f"<{kind}_1>"
    assert clean.prompt == f"Look at {shown.replace(value, placeholder)}, please"
    assert clean.response == f"It says {shown.replace(value, placeholder)}."
    assert clean.checks == [placeholder]
    assert counts == {kind: 1}
    assert clean.id != record.id


def test_two_values_of_a_kind_are_told_apart(masker):
    clean, counts = masker.mask(Record("a@some-company.org to b@some-company.org", "b@some-company.org", "qa"))
    assert clean.prompt == "<EMAIL_ADDRESS_1> to <EMAIL_ADDRESS_2>"
    assert clean.response == "<EMAIL_ADDRESS_2>"
    assert counts == {"EMAIL_ADDRESS": 2}


def test_a_private_key_goes_whole(masker):
    body = "MIIEow" + "IBAAKCAQEA" * 5
    text = f"key:\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nend"
    clean, _ = masker.mask(Record(text, "ok", "qa"))
    assert clean.prompt == "key:\n<PRIVATE_KEY_1>\nend"


def test_json_stays_json(masker):
    record = Record("card 4111111111111111", '{"card": 4111111111111111, "paid": true}', "extract")
    clean, _ = masker.mask(record)
    assert json.loads(clean.response) == {"card": "<CREDIT_CARD_1>", "paid": True}


def test_earlier_turns_groups_and_sources_are_masked_too(masker):
    record = Record(
        "and now?",
        "no",
        "qa",
        context=[{"role": "user", "content": "I am x@some-company.org"}],
        group="x@some-company.org",
        source="x@some-company.org.jsonl:1",
    )
    clean, _ = masker.mask(record)
    assert "some-company" not in json.dumps(clean.to_json())
    assert (
        masker.mask(record)[0].group
        == clean.group
        != masker.mask(Record("a", "b", "qa", group="y@some-company.org"))[0].group
    )


@pytest.mark.parametrize(
    "text", ["order 12345", "version 1.2.3", "at 10:30", "section 3.1.4.1.5", "call me", "a@b", "1,000,000"]
)
def test_ordinary_text_stays(masker, text):
    record = Record(text, text, "qa")
    assert masker.mask(record) == (record, {})


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("1.2.3.4 is not in 11.2.3.45", "<IP_ADDRESS_1> is not in 11.2.3.45"),
        ("1.2.3.4 is not in section 1.2.3.4.5 or 5.1.2.3.4", "<IP_ADDRESS_1> is not in section 1.2.3.4.5 or 5.1.2.3.4"),
        ("4111111111111111 is not in A4111111111111111B", "<CREDIT_CARD_1> is not in A4111111111111111B"),
        (f"{AWS_KEY} and x_{AWS_KEY}", "<AWS_ACCESS_KEY_1> and x_<AWS_ACCESS_KEY_1>"),
    ],
)
def test_a_value_is_not_replaced_inside_a_longer_number_or_word(text, masked):
    masker = Masker(["IP_ADDRESS", "CREDIT_CARD"], True, [r"^11\."])
    assert masker.mask(Record(text, "x", "qa"))[0].prompt == masked


def test_documentation_placeholders_can_be_allowed():
    masker = Masker(["PHONE_NUMBER", "EMAIL_ADDRESS"], True, ["EXAMPLE", "^123456789012$", "@example\\.com"])
    record = Record("AKIAIOSFODNN7EXAMPLE of 123456789012 and a@example.com", "x", "qa")
    assert masker.mask(record) == (record, {})
    assert masker.mask(Record(AWS_KEY, "x", "qa"))[1] == {"AWS_ACCESS_KEY": 1}
    with pytest.raises(GradusError, match="mask.allow: '\\(' is not a valid regular expression"):
        Masker([], False, ["("])


def test_no_value_is_written_or_logged_and_two_processes_do_what_one_does(masker, tmp_path, caplog, capfd):
    rows = [
        Record(f"row {n}: {value}", "answer", "qa", source=f"f:{n}") for n, value in enumerate([*VALUES.values()] * 300)
    ]
    write_jsonl(tmp_path / "in.jsonl", (r.to_json() for r in rows))
    found = [mask_file(tmp_path / "in.jsonl", tmp_path / f"out{n}.jsonl", masker, n) for n in (1, 2)]
    assert found[0] == found[1]
    assert (tmp_path / "out1.jsonl").read_bytes() == (tmp_path / "out2.jsonl").read_bytes()
    told = json.dumps(found) + caplog.text + "".join(capfd.readouterr()) + (tmp_path / "out1.jsonl").read_text()
    for kind, value in VALUES.items():
        if kind != "BASIC_AUTH_CREDENTIALS":  # alone, without its URL, that is any word
            assert value not in told, kind
    assert found[0][1]["values"]["EMAIL_ADDRESS"] == 300


def test_what_is_searched_only_among_long_words_is_long(masker):
    patterns = [(kind, pattern.pattern) for kind, pattern in masker.patterns if kind in LONG]
    assert {"CRYPTO", *(kind for kind, _ in patterns)} == set(LONG)
    for kind, pattern in patterns:
        assert max(map(int, re.findall(r"\]\{(\d+)", pattern))) >= LONG[kind], pattern


def test_masking_asks_no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    clean, _ = Masker(["EMAIL_ADDRESS"], False, []).mask(Record("x@some-company.co.uk", "y", "qa"))
    assert clean.prompt == "<EMAIL_ADDRESS_1>"


def test_switched_off_it_changes_nothing(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [Record("a@some-company.org", "b", "qa").to_json()])
    touched, counts = mask_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", None, 2)
    assert (tmp_path / "in.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()
    assert (touched, counts["enabled"]) == ([], False)


def test_a_rejected_answer_changes_nothing_else_of_its_row(masker):
    """The values that it shares with the row have the same placeholders; its own come after those."""
    asked, card = "mail a@some-company.org, not b@some-company.org", '{"card": 4111111111111111}'
    row = Record(asked, "b@some-company.org", "qa", rejected=["c@some-company.org, b@some-company.org", card])
    plain, _ = masker.mask(dataclasses.replace(row, rejected=[]))
    clean, counts = masker.mask(row)
    assert clean.rejected == ["<EMAIL_ADDRESS_3>, <EMAIL_ADDRESS_2>", '{"card": "<CREDIT_CARD_1>"}']
    assert counts == {"EMAIL_ADDRESS": 3, "CREDIT_CARD": 1}
    assert dataclasses.replace(clean, rejected=[]) == plain
    only, _ = masker.mask(Record("a", "b", "qa", rejected=["c@some-company.org"]))
    assert (only.id, only.rejected) == (Record("a", "b", "qa").id, ["<EMAIL_ADDRESS_1>"])


def test_rejected_answers_that_masking_makes_right_are_left_out_and_counted(masker, tmp_path):
    rejected = ["<EMAIL_ADDRESS_1>", "no", "<EMAIL_ADDRESS_1> or 2", "a@some-company.org or 2"]
    rows = [Record("who?", "a@some-company.org", "qa", source="f:1", rejected=rejected)]
    rows.append(Record("and?", "c", "qa", source="f:2", rejected=["a@some-company.org"]))
    write_jsonl(tmp_path / "in.jsonl", (r.to_json() for r in rows))
    touched, counts = mask_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", masker, 1)
    first, second = read_records(tmp_path / "out.jsonl")
    assert (first.response, first.rejected) == ("<EMAIL_ADDRESS_1>", ["no", "<EMAIL_ADDRESS_1> or 2"])
    assert second.rejected == ["<EMAIL_ADDRESS_1>"]
    assert counts["rejected_left_out"] == 2
    assert touched == [
        {"source": "f:1", "kinds": {"EMAIL_ADDRESS": 1}, "rejected_left_out": 2},
        {"source": "f:2", "kinds": {"EMAIL_ADDRESS": 1}},
    ]


def test_no_text_of_a_record_is_forgotten(masker):
    """A field that is added to records must be masked, too, or be named here as one that holds no text of a row."""
    no_text = {"task", "thread", "split", "difficulty", "near", "augmented", "id"}
    mail = "anna.smith@corp-mail.de"
    given: dict[str, object] = {"context": [{"role": "user", "content": mail}], "checks": [mail], "task": "qa"}
    given["accepted"] = [mail]
    given["rejected"] = [mail]
    for field in dataclasses.fields(Record):
        if field.name not in no_text:
            given.setdefault(field.name, f"write to {mail} now")
    assert mail not in json.dumps(masker.mask(Record(**given))[0].to_json())


def test_a_files_name_and_line_cost_nothing_and_are_masked_only_where_the_name_holds_something(masker, monkeypatch):
    searched = []
    find = masker.find
    monkeypatch.setattr(masker, "find", lambda text: searched.append(text) or find(text))
    sources = [f"rows-20261126.jsonl:{line}" for line in (1, 2025550123)]
    records = [masker.mask(Record("a b", "c", "qa", source=source))[0] for source in sources]
    assert [record.source for record in records] == sources
    assert len([text for text in searched if "20261126" in text]) == 1
    named, _ = masker.mask(Record("a b", "c", "qa", source="ann.lee@some-company.org/rows.csv:1"))
    assert "some-company" not in named.source
