"""Rows of one's own in every shape, from the files to the GGUF."""

import csv
import gzip
import itertools
import json

import pyarrow.parquet

from scripts.common.io import read_json, read_jsonl
from tests.hub import Hub

OWN = """
run: own
base_model: {source: "path:%s", name: my/base, license: MIT}
data:
  task: qa
  files:
    - rows.csv
    - shades.parquet
    - {path: talks.jsonl, role: train}
    - {path: held-out.jsonl.gz, role: eval}
    - {path: "hf:datasets/some/rows@%s/data/train.jsonl", role: train}
  columns: {prompt: question, response: reply}
  allow_few: true
deduplicate: {by: prompt}
split: {by: group, valid_share: 0.1, test_share: 0.3}
decontaminate: {found: stop, threshold: 0.9}
score: {weights: {rules: null, length: 1, facts: 1, loss: 1, ifd: 0}, quantiles: [0.7]}
curriculum:
  levels: [plain, tricky]
  definitions: {mine: {replay: 0.3, order: difficulty}}
  phases:
    - {name: first-half, levels: [plain], rows: 8}
    - {name: rest, levels: [plain, tricky], rows: 8}
train: {base_weights: bf16}
chat: {system_prompt: 'Say "yes", {{ briefly }} <b>.'}
models:
  base: {}
  mine-1: {trained: {arm: mine, seed: 1}}
evaluate: {splits: [test, eval-unseen], max_rows: {test: 3}, max_tokens: 8}
export: {more_quants: [], imatrix: {enabled: false}}
forgetting: {enabled: false}
fidelity: {probe_tokens: 64, served_rows: 2, stopped: 0, served_alike: 0, quant_task_drop: 1, quant_agreement: 0.2}
"""


def write_own(fresh, base, hub):
    """Write the rows and the config to a fresh copy of the project; some rows go to the Hub."""
    shared = [{"question": f"Is {color} a color?", "reply": "It is."} for color in ("teal", "ochre", "cyan", "plum")]
    files = {"data/train.jsonl": "".join(json.dumps(row) + "\n" for row in shared).encode()}
    (fresh.folder / "own.yaml").write_text(OWN % (base, hub.add("datasets", "some/rows", files)))
    shades = [
        {"question": f"What shade is {name} {'really ' * n}?", "reply": "dark"} for n, name in enumerate("abcdef")
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(shades), fresh.folder / "shades.parquet")
    words = ["red", "green", "blue", "black", "white", "grey", "pink", "brown"]
    with open(fresh.folder / "rows.csv", "w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["instruction", "input", "output", "checks"])
        for n, (a, b) in enumerate(itertools.permutations(words, 2)):
            asked = f"{a} and {b} " + "or more " * (n % 3)
            table.writerow([asked, "", f"mix {a} with {b}", json.dumps([a])])
    roles = ["system", "user", "assistant", "user", "assistant"]
    talks = [
        [
            'Say "yes", {{ briefly }} <b>.',
            f"Who is {name}?",
            f"{name} of sales, {name}@some-company.org",
            "Thanks!",
            "yes",
        ]
        for name in ("ann", "bob", "cleo", "dora")
    ]
    rows = [{"messages": [{"role": r, "content": c} for r, c in zip(roles, talk, strict=True)]} for talk in talks]
    (fresh.folder / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(fresh.folder / "held-out.jsonl.gz", "wt") as handle:
        for n in range(5):
            handle.write(
                json.dumps({"prompt": f"What becomes of {'violet ' * (n + 1)}?", "response": "nothing"}) + "\n"
            )


def test_rows_of_ones_own_go_the_whole_way(fresh, reference, monkeypatch):
    """CSV, Parquet, JSONL and the Hub, in several shapes and roles, with other column names, no groups (so eval-unseen is
    empty), another task, a local base that is not rounded, scorers that ask the base, two levels, an arm of one's own, a
    prompt with quotes and braces, a mail address."""
    with Hub() as hub:
        write_own(fresh, reference.results / "base", hub)
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        code, text = fresh.snakemake(configs=("own.yaml",))
    assert code == 0, text
    results = fresh.folder / "results/own"
    metrics = read_json(results / "metrics.json")
    assert metrics["mine-1"]["eval-unseen"]["exact"] == {"n": 0, "value": None}
    assert metrics["mine-1"]["test"]["stopped"]["n"] == 3
    assert metrics["mine-1"]["test"]["checks_present"]["n"] <= 3  # rows without checks do not count
    train = list(read_jsonl(results / "curriculum/train.jsonl"))
    turns = [row for row in train if row["source"].startswith("talks.jsonl")]
    assert [row["prompt"] for row in turns].count("Thanks!") == 4
    assert turns[1]["context"][1]["content"] == "ann of sales, <EMAIL_ADDRESS_1>"
    assert "some-company" not in "".join(p.read_text() for p in results.rglob("*.json*"))
    everywhere = [
        row
        for name in ("train", "valid", "test", "eval-hard")
        for row in read_jsonl(results / f"curriculum/{name}.jsonl")
    ]
    assert sum(row["prompt"].startswith("What shade") for row in everywhere) == 6
    assert sum(row["prompt"].endswith("a color?") for row in train) == 4
    held_out = [row for row in everywhere if row["source"].startswith("held-out")]
    assert [row["split"] in ("test", "eval-hard") for row in held_out] == [True] * 5
    scores = list(read_jsonl(results / "curriculum/scores.jsonl"))
    assert set(scores[0]["scores"]) >= {"length", "facts", "loss"}
    assert 'SYSTEM """Say "yes", {{ briefly }} <b>."""' in (results / "ollama/Modelfile").read_text()
    assert read_json(results / "fidelity.json")["passed"] is True
    report = (results / "report.html").read_text()
    assert "Say &#34;yes&#34;, {{ briefly }} &lt;b&gt;." in report
    assert fresh.planned(configs=("own.yaml",)) == {}
