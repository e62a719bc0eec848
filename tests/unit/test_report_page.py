"""The report in a browser: answers that are filtered and searched, a figure, light and dark, hostile texts."""

import json
import shutil

import pytest

from scripts.common.html import inline_svg, write_page
from scripts.report.charts import data, write_figure
from scripts.report.report import vega
from scripts.report.sections.answers import all_answers
from scripts.report.sections.experiment import experiment
from tests.browser import PROGRAM, Browser

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
MODELS = [{"name": name} for name in ("base", "tuned", "linear")]
LEVELS = ["easy", "hard"]
ALONE, NO_OTHER = [{"name": "tuned"}], {"first": "tuned", "served": {"model": "tuned", "strongest": None}}
COMPARISON = {"headline": "exact", "binary": True, "first": "base", "served": {"model": "tuned", "strongest": "linear"}}
# id: split, level, and each model's answer and grade
ROWS = {
    "a": ("test", 0, {"base": ("no", 0), "tuned": ("yes", 1), "linear": ("yes", 1)}),
    "b": ("test", 1, {"base": (HOSTILE, 0), "tuned": ("yes", 1), "linear": ("no", 0)}),
    "c": ("eval-hard", 1, {"base": ("GRÖSSE", 0), "tuned": ("no", 0), "linear": ("yes", 1)}),
    "d": ("eval-hard", None, {"base": ("no", 0), "tuned": ("", 0), "linear": ("no", 0)}),
}


def found(models=MODELS, unasked=(), **changes):
    """Return what the page has of ROWS. `unasked`: (model, row) that have no answer."""
    records = {
        split: [
            {"id": key, "difficulty": level, "context": [], "prompt": f"question {key}", "response": "yes"}
            for key, (where, level, _) in ROWS.items()
            if where == split
        ]
        for split in ("test", "eval-hard")
    }
    asked = {(model["name"], split): [row["id"] for row in rows] for model in models for split, rows in records.items()}
    asked = {key: [row for row in rows if (key[0], row) not in unasked] for key, rows in asked.items()}
    answers, grades = (
        {key: [{"id": row, name: ROWS[row][2][key[0]][number]} for row in rows] for key, rows in asked.items()}
        for number, name in enumerate(("text", "exact"))
    )
    return all_answers(models, {**COMPARISON, **changes}, records, answers, grades, LEVELS)


def test_all_answers_of_all_splits_are_there_and_each_text_once():
    page = found()
    assert (page["row_count"], page["splits"], page["opponent"]) == (4, ["test", "eval-hard"], "linear")
    assert sorted(page["texts"]) == sorted({"yes", "no", "", "GRÖSSE", HOSTILE, *(f"question {key}" for key in ROWS)})
    row = page["rows"][1]
    assert [page["texts"][number] for number in row["answers"]] == [HOSTILE, "yes", "no"]
    assert (row["values"], page["levels"][row["level"]]) == ([0, 1, 0], "hard")
    assert page["outcomes"] == ["lost", "won", "tied", "tied, both right", "tied, both wrong"]
    assert found(binary=False)["outcomes"] == ["lost", "won", "tied"]
    assert found(served={"model": "base", "strongest": None})["opponent"] == "tuned"
    assert found(unasked=[("base", "d")])["outcomes"][-2:] == ["tied, both wrong", "not asked"]
    assert found(ALONE, **NO_OTHER)["outcomes"] == ["wrong", "right"]


def test_an_experiment_is_told_in_a_sentence_with_its_interval_and_counts():
    primary = {
        **{"arm": "curriculum", "control": "growing-random", "metric": "loss", "split": "test", "difference": -0.0123},
        **{"interval": [-0.03, 0.005], "p": 0.1, "seeds": 8, "items": 300, "higher_is_better": False},
    }
    told = experiment({"plan": "abc", "primary": primary})["lead"]
    assert "curriculum minus growing-random, loss on test in nats per answer token: -0.0123" in told
    assert "(95% interval -0.0300 to +0.0050, p = 0.1; 8 paired seeds, 300 rows; lower is better)" in told
    primary |= {"metric": "exact", "interval": None, "p": None, "higher_is_better": True}
    told = experiment({"plan": "abc", "primary": primary})["lead"]
    assert "exact on test: -1.2 points (95% interval – points to – points, p = –" in told
    assert experiment(None) is None
    assert "no primary comparison" in experiment({"plan": "abc", "primary": None})["lead"]


def test_the_scripts_of_the_figures_end_no_script_and_ask_for_nothing():
    text = vega()
    assert "</script" not in text
    assert "window.vegaEmbed" in text


@pytest.fixture
def page(tmp_path):
    """Write a page with the answers and one figure; return its path."""
    return write(tmp_path, found())


def write(tmp_path, answers):
    import altair as alt

    folder = tmp_path / "templates"
    shutil.copytree("scripts/report/templates", folder)
    (folder / "part.html.j2").write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>t</title><style>{% include "page.css" %}</style></head>'
        '<body><button id="theme">theme</button>{% import "macros.html.j2" as ui %}<details><summary>figure</summary>'
        '{% call ui.figure(figures, "bars", "bars") %}caption{% endcall %}</details>'
        '{% include "answers.html.j2" %}<script type="application/json" id="charts-data">{{ charts | tojson }}</script>'
        '<script type="application/json" id="answers-data">{{ answers | tojson }}</script>'
        '<script>{{ vega }}</script><script>{% include "page.js" %}</script></body></html>'
    )
    bars = alt.Chart(data([{"a": "one", "b": 2}])).mark_bar().encode(x="b:Q", y="a:N").properties(height=30)
    write_figure(bars, tmp_path, "bars")
    values = {
        **{"answers": answers, "config": {"report": {"examples": 3}}, "vega": vega()},
        "figures": {"bars": {"svg": inline_svg(tmp_path / "bars.svg")}},
        "charts": {"bars": json.loads((tmp_path / "bars.json").read_text())},
    }
    write_page(folder / "part.html.j2", values, tmp_path / "page.html")
    return tmp_path / "page.html"


@pytest.fixture
def browser(tmp_path):
    folder = tmp_path / "browser"
    folder.mkdir()
    with Browser(folder) as started:
        started.go_offline()
        started.show(1200)
        yield started


def enter(browser, **fields):
    """Fill in the filters as a person would; return (the status, the requests that are shown)."""
    for name, value in fields.items():
        field = f"document.querySelector('#filters [name={name}]')"
        browser.run(
            f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))"
        )
    shown = browser.run("[...document.querySelectorAll('#rows .row')].map(row => row.querySelector('pre').textContent)")
    return browser.run("document.getElementById('status').textContent"), [
        text.removeprefix("question ") for text in shown
    ]


@pytest.mark.skipif(PROGRAM is None, reason="needs Chromium (chromium or google-chrome on the path)")
def test_answers_are_sorted_filtered_and_searched_and_a_figure_is_drawn(page, browser):
    browser.open(page)
    status = "4 of 4 rows: 1 lost, 1 tied, both right, 1 tied, both wrong, 1 won"
    assert enter(browser) == (status, ["c", "a", "d"])  # the loss first; three at a time
    assert browser.run("document.getElementById('more').textContent") == "Show more (1 left)"
    browser.run("document.getElementById('more').click()")
    assert enter(browser)[1] == ["c", "a", "d", "b"]
    assert browser.run("document.querySelectorAll('#rows .row').length") == 4
    assert enter(browser, opponent="0") == ("4 of 4 rows: 2 tied, both wrong, 2 won", ["c", "d", "a"])
    assert enter(browser, opponent="2", outcome="lost") == ("1 of 4 rows: 1 lost", ["c"])
    assert enter(browser, outcome="tied")[1] == ["a", "d"]
    assert enter(browser, outcome="", split="0")[1] == ["a", "b"]
    assert enter(browser, split="", level="1")[1] == ["c", "b"]
    assert enter(browser, level="", words="größe") == ("0 of 4 rows", [])
    assert enter(browser, words=" grösse ") == ("1 of 4 rows: 1 lost", ["c"])  # in the answer of a third model
    assert browser.run("document.querySelector('#rows details').open = true")
    assert enter(browser, words="window.hacked")[1] == ["b"]
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    browser.run("new Promise(done => setTimeout(done, 300))", wait=True)
    assert browser.run("document.querySelector('#rows mark').textContent") == "window.hacked"
    assert browser.run("document.querySelector('[data-state=drawn] svg') !== null")
    assert browser.run("[document.querySelectorAll('.chart svg').length, window.hacked ?? null]") == [1, None]

    ground = "getComputedStyle(document.body).backgroundColor"
    assert browser.run(ground) == "rgb(255, 255, 255)"
    browser.show(380, dark=True)
    dark = browser.run(ground)
    browser.run("document.getElementById('theme').click()")
    assert browser.run(ground) == "rgb(255, 255, 255)"
    browser.run("document.getElementById('theme').click()")
    assert browser.run(ground) == dark != "rgb(255, 255, 255)"
    assert browser.run("document.documentElement.scrollWidth") <= 380
    assert browser.complaints() == []


@pytest.mark.skipif(PROGRAM is None, reason="needs Chromium (chromium or google-chrome on the path)")
def test_the_answers_of_one_model_alone_are_right_or_wrong(tmp_path, browser):
    browser.open(write(tmp_path, found(ALONE, **NO_OTHER)))
    assert browser.run("document.querySelector('#answers h2').textContent") == "Answers"
    assert browser.run("document.querySelector('[name=opponent]')") is None
    assert enter(browser) == ("4 of 4 rows: 2 wrong, 2 right", ["c", "d", "a"])
    assert enter(browser, outcome="right") == ("2 of 4 rows: 2 right", ["a", "b"])
    assert browser.run("document.querySelectorAll('#rows .row .pair')[0].children.length") == 1
    assert browser.run("document.querySelector('#rows pre').dir") == "auto"  # right-to-left texts
    assert browser.complaints() == []


@pytest.mark.skipif(PROGRAM is None, reason="needs Chromium (chromium or google-chrome on the path)")
def test_rows_that_a_model_was_not_asked_stand_last(tmp_path, browser):
    browser.open(write(tmp_path, found(unasked=[("linear", "a"), ("linear", "c"), ("base", "d")])))
    assert enter(browser)[0] == "4 of 4 rows: 1 tied, both wrong, 1 won, 2 not asked"
    browser.run("document.getElementById('more').click()")
    shown = "[...document.querySelectorAll('#rows .row h3')].map(head => head.textContent.split(' · ')[0])"
    assert browser.run(shown) == ["tied, both wrong", "won", "not asked", "not asked"]
    assert enter(browser, outcome="not asked")[1] == ["c", "a"]  # the wrong answer first
    assert browser.complaints() == []
