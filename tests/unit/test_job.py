"""A script runs alone from a shell, as in the pipeline."""

import json
import os
import subprocess
import sys

from scripts.common.code import local_files
from scripts.common.hashing import ROOT
from scripts.common.snakemake_internals import INCOMPLETE, record_file

CONFIG = {
    "run": "mine",
    "base_model": {"source": "path:base"},
    "data": {"files": ["rows.jsonl"], "max_rejected_share": 0.5, "allow_few": True},
}


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "scripts.data.ingest", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_script_runs_alone_as_in_the_pipeline(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    rows = [{"prompt": f"question {n}", "response": "answer"} for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(tmp_path, "--job", "results/mine/data/records.jsonl", "--configfile", "config.json")
    assert done.returncode == 0, done.stderr
    records = (tmp_path / "results/mine/data/records.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in records] == ["question 0", "question 1", "question 2"]
    assert (tmp_path / "results/mine/logs/ingest.log").is_file()
    # and Snakemake will make it again
    assert record_file("results/mine/data/ingest.json", tmp_path / INCOMPLETE).is_file()

    done = run(tmp_path, "--job", "results/mine/data/masked.jsonl", "--configfile", "config.json")
    assert done.stderr.strip() == (
        "Gradus: results/mine/data/masked.jsonl is made by rule mask; "
        "run: python -m scripts.data.mask --job results/mine/data/masked.jsonl --configfile config.json"
    )


def test_a_config_that_is_missing_or_refused_is_named_without_a_traceback(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "seed": -1}))
    (tmp_path / "broken.yaml").write_text("run: [\n")
    for file, words in (
        ("nowhere.yaml", "Gradus: nowhere.yaml: no such config file"),
        ("config.json", "Gradus: the config cannot be used:\n  config.json:1: seed: -1 is less than the minimum of 0"),
        ("broken.yaml", "Gradus: Config file is not valid JSON or YAML"),
    ):
        done = run(tmp_path, "--job", "results/mine/data/records.jsonl", "--configfile", file)
        assert done.returncode == 1
        assert done.stderr.startswith(words)
        assert "Traceback" not in done.stderr


def test_what_runs_a_script_alone_is_in_no_fingerprint():
    files = {path.stem for path, _, _ in local_files(ROOT / "scripts/train/train_phase.py")}
    assert "job" in files
    assert not files & {"debug", "guard", "snakemake_internals"}
