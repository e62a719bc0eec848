"""The page for raters in a browser: keys, what it keeps, what it saves; and the way of two saved files to the report."""

import json
import re

import pytest

from scripts.common.html import write_page
from scripts.common.io import write_json
from scripts.common.records import Record
from scripts.rating.raters import read_raters
from scripts.rating.rating_page import make_key, make_page, make_pairs
from scripts.rating.ratings import summarize
from scripts.report.sections.rating import rating
from tests.browser import PROGRAM, Browser

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "</pre></article><img src=x onerror='window.hacked = 1'>",
    "<img src='http://example.com/x.png'> {{ 7 * 7 }} &amp; \u202eright to left",
]
ANSWERS = [*HOSTILE, "\n  indented\n\ttab", "", "x" * 400]
SHOWN = {"question": "Which answer is <better>?", "marks": False, "reference": False}
TEMPLATE = "scripts/rating/rating_page.html.j2"


def make(folder, **settings):
    """Write a page of six pairs of the models `secret-tuned` and `secret-base`; return its path and its key."""
    context = [{"role": "user", "content": "<b>first</b>"}, {"role": "assistant", "content": "well"}]
    records = [Record(f"question <{n}>", "right", "qa", context=context[: 2 * (n == 0)]) for n in range(7)]
    tuned = {record.id: text for record, text in zip(records, [*ANSWERS, "same "], strict=True)}
    base = {record.id: text for record, text in zip(records, [f"plain {n}" for n in range(6)] + ["same"], strict=True)}
    names = ("secret-tuned", "secret-base")
    answers = dict(zip([(name, "test") for name in names], (tuned, base), strict=True))
    pairs, counts = make_pairs([names], ["test"], 50, 1, answers, {"test": {record.id: record for record in records}})
    page = make_page("mine", {**SHOWN, **settings}, pairs, counts)
    key = make_key(page["page"], "mine", pairs, counts)
    folder.mkdir(exist_ok=True)
    write_page(TEMPLATE, page, folder / "rate.html")
    write_json(folder / "key.json", key)
    return folder / "rate.html", key


def test_the_page_names_no_model_and_asks_for_nothing(tmp_path):
    path, key = make(tmp_path)
    text = path.read_text()
    assert "secret" not in text
    assert re.findall(r"<[^>]*(?:src|href)=", text) == []
    assert len(key["pairs"]) == 6
    assert key["comparisons"] == [{"a": "secret-tuned", "b": "secret-base", "split": "test", "rows": 7, "identical": 1}]
    assert make(tmp_path / "again")[0].read_bytes() == path.read_bytes()


browser_only = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium (chromium or google-chrome on the path)")


@pytest.fixture
def browser(tmp_path):
    folder = tmp_path / "browser"
    folder.mkdir()
    with Browser(folder) as started:
        started.show(1280)
        yield started


def shown(browser):
    """Return (number of the pair, choice, message) as the page has them."""
    return (
        int(browser.run("document.querySelector('article:not([hidden]) h2').textContent").split()[1]),
        browser.run("document.querySelector('[data-winner][aria-pressed=true]')?.dataset.winner ?? null"),
        browser.run("document.getElementById('status').textContent"),
    )


@browser_only
def test_two_people_rate_with_keys_and_their_files_reach_the_report(tmp_path, browser):
    path, key = make(tmp_path)
    browser.open(path)
    assert browser.run("document.querySelectorAll('article').length") == 6
    texts = browser.run("[...document.querySelectorAll('article pre:not(.empty)')].map(pre => pre.textContent)")
    assert set(ANSWERS) - {""} <= set(texts)
    assert browser.run("document.querySelector('h1').textContent") == "Which answer is <better>?"
    assert "1 further pair with identical answers is left out" in browser.run("document.body.textContent")

    browser.press("1", "2", "0")
    assert shown(browser) == (4, None, "Pair 3: Equal. 3 of 6 rated.")
    assert browser.run("document.activeElement.textContent") == "Pair 4 of 6"
    browser.press("ArrowLeft", "ArrowLeft")
    assert shown(browser)[:2] == (2, "2")
    browser.press("1")  # a change of mind stays on the pair
    assert shown(browser)[:2] == (2, "1")
    browser.press("x")
    assert shown(browser) == (2, None, "Taken back. 2 of 6 rated.")
    browser.press("n")
    assert shown(browser)[0] == 4
    browser.press("ArrowRight", "ArrowRight", "ArrowRight")
    assert shown(browser)[0] == 6
    browser.press("n", "2")
    assert shown(browser) == (3, "tie", "Pair 2: Answer 2. 3 of 6 rated.")

    browser.open(path)  # closed and opened again
    assert shown(browser) == (3, "tie", "3 of 6 rated.")
    browser.press("n", "1", "1", "1")
    assert shown(browser) == (6, "1", "Pair 6: Answer 1. All 6 rated. Save them now.")
    browser.press("s")
    assert shown(browser)[2] == "Enter your name first, then save."
    browser.press("A", "n", "n", " ", "1", "Enter")  # typing a name rates nothing
    assert shown(browser)[2] == "Saved as mine-Ann-1.json; send it to whoever asked you. All 6 rated."
    ann = browser.downloaded("mine-Ann-1.json")
    order = [pair["pair"] for pair in key["pairs"]]
    assert json.loads(ann.read_text()) == {
        "page": key["page"],
        "run": "mine",
        "rater": "Ann 1",
        "ratings": [
            {"pair": pair, "winner": winner, "marks": {}}
            for pair, winner in zip(order, ["1", "2", "tie", "1", "1", "1"], strict=True)
        ],
    }

    press = "document.querySelector('[data-do=another]').click()"
    browser.run("window.confirm = text => { window.asked = text; return false; }")  # a real one stops the page
    browser.run(press)
    assert "lost" not in browser.run("window.asked")  # all is saved
    assert shown(browser)[:2] == (6, "1")
    browser.run("window.confirm = () => true")
    browser.run(press)
    assert shown(browser) == (1, None, "Cleared for another rater. 0 of 6 rated.")
    browser.open(path)
    assert shown(browser) == (1, None, "0 of 6 rated.")
    assert browser.run("document.getElementById('rater').value") == ""
    browser.press("1", "2", "2", "1", "1", "s", "B", "o", "Enter")
    assert shown(browser)[2] == "Saved as mine-Bo.json; send it to whoever asked you. 5 of 6 rated."
    bo = browser.downloaded("mine-Bo.json")
    assert browser.complaints() == []
    assert browser.run("window.hacked") is None

    found = summarize(key, read_raters([ann, bo], key))
    assert [rater["rated"] for rater in found["raters"]] == [6, 5]
    assert found["agreement"]["pairs"] == 5
    assert found["agreement"]["alpha"] > 0.5
    (row,) = rating(found)["comparisons"]
    of_first = [1, 0, 0.25, 1, 1, 1]  # means of the two; the sides are in the key, and the seventh pair is identical
    wanted = [
        value if pair["first"] == "secret-tuned" else 1 - value
        for value, pair in zip(of_first, key["pairs"], strict=True)
    ]
    assert row["share"] == pytest.approx((sum(wanted) + 0.5) / 7)


@browser_only
def test_each_answer_can_be_marked_and_the_page_waits_for_both(tmp_path, browser):
    path, key = make(tmp_path, marks=True, reference=True)
    browser.open(path)
    assert "An answer that is known to be right" in browser.run("document.querySelector('article').textContent")
    browser.press("1", "q")
    assert shown(browser)[:2] == (1, "1")
    browser.press("l")
    assert shown(browser) == (2, None, "Pair 1: Not acceptable. 1 of 6 rated.")
    browser.press("s", "C", "y", "Enter")
    cy = browser.downloaded("mine-Cy.json")
    first = key["pairs"][0]
    assert summarize(key, read_raters([cy], key))["marks"] == [
        {"id": first["record"], "split": "test", "model": first["first"], "pass": True, "rater": "Cy"},
        {"id": first["record"], "split": "test", "model": first["second"], "pass": False, "rater": "Cy"},
    ]
    assert browser.complaints() == []


@browser_only
def test_without_storage_the_page_says_so_and_nothing_is_wider_than_a_phone(tmp_path, browser):
    path, _ = make(tmp_path, marks=True)
    denied = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('denied') }})"
    browser.send("Page.addScriptToEvaluateOnNewDocument", source=denied)
    browser.show(380)
    browser.open(path)
    assert browser.run("document.getElementById('storage').hidden") is False
    browser.press("1", "q", "p")
    assert shown(browser)[0] == 2
    for _ in range(6):
        assert browser.run("document.documentElement.scrollWidth") <= 380
        browser.press("ArrowRight")
    assert browser.complaints() == []


@browser_only
def test_all_can_be_done_with_tab_and_enter_and_single_keys_can_be_switched_off(tmp_path, browser):
    path, _ = make(tmp_path)
    browser.open(path)
    browser.run("document.getElementById('shortcuts').click()")
    browser.press("1")
    assert shown(browser) == (1, None, "0 of 6 rated.")
    browser.run("document.querySelector('article:not([hidden]) h2').focus()")
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "1Answer 1"
    browser.press("Enter")
    assert shown(browser)[2] == "Pair 1: Answer 1. 1 of 6 rated."
    unnamed = """[...document.querySelectorAll('button, input')].filter(control =>
        !(control.getAttribute('aria-label') || control.textContent.trim() || control.labels?.length)).length"""
    assert browser.run(unnamed) == 0
