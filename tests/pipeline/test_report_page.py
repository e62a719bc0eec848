"""The report of a finished run in a browser without network: figures, answers, folded parts, accessibility."""

import json

import pytest

from tests.axe import axe, faults
from tests.browser import PROGRAM, Browser

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium (chromium or google-chrome on the path)")
DRAWN = """
(async () => {
  const waiting = () => [...document.querySelectorAll("[data-chart]")].filter(
    figure => figure.clientWidth && figure.dataset.state !== "drawn");
  for (let turn = 0; waiting().length && turn < 300; turn++) await new Promise(done => setTimeout(done, 100));
  return waiting().map(figure => figure.dataset.chart);
})()
"""
UNFOLD = "document.querySelectorAll('details').forEach(part => part.open = true)"
TOO_WIDE = "document.documentElement.scrollWidth > innerWidth"


@pytest.fixture
def browser(project, tmp_path):
    with Browser(tmp_path) as started:
        started.go_offline()
        started.show(1200)
        started.open(project.results / "report.html")
        yield started


def test_everything_works_without_network(browser, project):
    assert browser.run(DRAWN, wait=True) == []
    folded = "[...document.querySelectorAll('details table')].filter(table => table.checkVisibility()).length"
    assert browser.run(folded) == 0
    browser.run(UNFOLD)
    assert browser.run(folded) > 5
    assert browser.run(DRAWN, wait=True) == []  # those in folded parts, too
    assert set(
        browser.run("[...document.querySelectorAll('[data-state=drawn]')].map(figure => figure.dataset.chart)")
    ) == {path.stem for path in (project.results / "figures").glob("*.svg")}

    found = json.loads(browser.run("document.getElementById('answers-data').textContent"))
    files = (project.results / "evaluate/base/Q4_K_M").glob("*.answers.jsonl")
    asked = {path.name: len(path.read_text().splitlines()) for path in files if not path.name.startswith("valid")}
    assert len(found["rows"]) == sum(asked.values()) > asked["test.answers.jsonl"]
    field = "document.querySelector('#filters [name=words]')"
    words = json.dumps(found["texts"][found["rows"][-1]["prompt"]].upper())
    browser.run(f"{field}.value = {words}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    assert 1 <= browser.run("document.querySelectorAll('#rows .row').length") < len(found["rows"])
    assert browser.complaints() == []


def test_axe_finds_no_serious_fault(browser):
    script = axe()
    browser.run(UNFOLD)
    for width, dark in ((1200, False), (1200, True), (380, False), (380, True)):
        browser.show(width, dark=dark)
        assert browser.run(DRAWN, wait=True) == []
        assert faults(browser, script) == [], (width, dark)
        assert not browser.run(TOO_WIDE), width
