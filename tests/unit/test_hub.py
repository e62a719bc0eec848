"""Fetching from a stand-in Hub on loopback, by the Hub's own clients: whole and the same bytes, or a plain error."""

import json
import os
import subprocess
import sys

import pytest

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT, sha256_file, sha256_folder
from scripts.common.sources import content_sha256
from scripts.data import fetchers
from tests.hub import Hub

ROWS = [{"question": f"question {n}", "answer": f"answer {n}", "label": n % 2} for n in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CARD = b"""---
configs:
- config_name: main
  data_files:
  - {split: train, path: data/train.jsonl}
  - {split: test, path: data/test.jsonl}
- config_name: labeled
  data_files: [{split: train, path: data/train.jsonl}]
dataset_info:
- config_name: labeled
  features:
  - {name: question, dtype: string}
  - {name: answer, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': even, '1': odd}}}
---
"""
WEIGHTS = bytes(range(256)) * 1024
MODEL = {"config.json": b"{}", "model.safetensors": WEIGHTS, "pytorch_model.bin": b"pickle", "custom.py": b"raise"}
FETCH = """
import json, sys, time
from scripts.common.errors import GradusError
from scripts.data.fetch import fetch
time.sleep = lambda seconds: None  # the client waits before it tries again
said = []
for wanted in json.loads(sys.argv[1]):
    try:
        said.append(fetch(*wanted) or "")
    except GradusError as error:
        said.append(" ".join(str(error).split()))
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture
def fetch_all(hub, tmp_path):
    """Fetch (source, sha256, name of the folder) in a process of its own, as jobs do; return what was said of each."""

    def run(*wanted):
        folders = [tmp_path / name for _, _, name in wanted]
        given = [
            (source, sha256, str(folder), str(tmp_path / "work"))
            for (source, sha256, _), folder in zip(wanted, folders, strict=True)
        ]
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-c", FETCH, json.dumps(given)],
            cwd=ROOT,
            env={**os.environ, **offline, **hub.environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr
        said = json.loads(done.stdout.splitlines()[-1])
        for folder, error in zip(folders, said, strict=True):
            assert folder.exists() == (not error), "it appears whole or not at all"
        assert not (tmp_path / "home").exists(), "no cache in the user's home, or a later fetch would not be one"
        return said

    return run


@pytest.fixture
def fetch(fetch_all, tmp_path):
    """Fetch one source; return its folder, and what was said."""

    def run(source, sha256=None, name="fetched"):
        (said,) = fetch_all((source, sha256, name))
        return tmp_path / name, said

    return run


@pytest.fixture(scope="module")
def rows(hub):
    return f"hf:datasets/org/rows@{hub.add('datasets', 'org/rows', {'README.md': CARD, 'data/train.jsonl': LINES, 'data/test.jsonl': LINES})}"


def test_a_model_comes_without_pickles_and_code_and_its_sha256_is_checked(hub, fetch):
    source = f"hf:org/model@{hub.add('models', 'org/model', MODEL)}"
    _, said = fetch(source, "")
    right = said.split("its sha256 is ")[1].split()[0]
    folder, said = fetch(source, right)
    assert not said
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert sha256_folder(folder) == content_sha256(folder) == right
    _, said = fetch(source, "0" * 64, "other")
    assert right in said
    assert "The download was discarded" in said


def test_a_connection_that_breaks_is_resumed_where_it_broke(hub, fetch):
    files = {"config.json": b'{"a": 1}', "model.safetensors": WEIGHTS * 48}  # the client writes 10 MiB at a time
    source = f"hf:org/broken@{hub.add('models', 'org/broken', files)}"
    hub.breaks["model.safetensors"] = [11_000_000]
    hub.requests.clear()
    folder, said = fetch(source)
    assert not said
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS * 48
    assert hub.downloads("model.safetensors") == [None, "bytes=10485760-"]


def test_a_connection_that_stays_broken_is_a_plain_error_and_the_next_run_goes_on(hub, fetch):
    files = {"config.json": b'{"b": 1}', "model.safetensors": WEIGHTS + b"2"}
    source = f"hf:org/down@{hub.add('models', 'org/down', files)}"
    hub.breaks["model.safetensors"] = [0] * 20
    hub.requests.clear()
    _, said = fetch(source)
    assert "could not fetch org/down" in said
    assert "run again; complete files are kept" in said
    hub.breaks.clear()
    folder, said = fetch(source)
    assert not said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert len(hub.downloads("config.json")) == 1, "it came whole the first time"


def test_a_file_of_a_data_set_comes_as_it_is(fetch, rows):
    folder, said = fetch(f"{rows}/data/train.jsonl")
    assert not said
    assert [path.name for path in folder.iterdir()] == ["train.jsonl"]
    assert (folder / "train.jsonl").read_bytes() == LINES


def test_a_split_is_written_as_rows_the_same_each_time(hub, fetch, rows):
    hub.requests.clear()
    one, said = fetch(f"{rows}/main:train", name="one")
    assert said == ""
    assert [json.loads(line) for line in (one / "rows-main-train.jsonl").read_text().splitlines()] == ROWS
    assert not hub.downloads("data/test.jsonl"), "another split is not downloaded"
    two, said = fetch(f"{rows}/main:train", sha256_file(one / "rows-main-train.jsonl"), name="two")
    assert not said


def test_labels_come_by_name_and_part_of_a_split_can_be_asked_for(fetch, rows):
    folder, said = fetch(f"{rows}/labeled:train[:3]")
    assert not said
    found = [json.loads(line)["label"] for line in (folder / "rows-labeled-train.jsonl").read_text().splitlines()]
    assert found == ["even", "odd", "even"]


def test_what_the_hub_does_not_have_is_named(hub, fetch_all, rows):
    cases = {
        f"{rows}/main:tset": "main has no split 'tset'; known splits: train, test",
        f"{rows}/mian:train": "'mian' not found. Available: ['main', 'labeled']",
        f"{rows}/data/none.jsonl": "it has no such file",
        f"{rows[:-40]}{'0' * 40}/main:train": "it has no such commit",
        f"hf:org/model@{'0' * 40}": "it has no such commit",
        f"hf:datasets/org/nothing@{'0' * 40}/main:train": "no such repository, or a private one",
    }
    hub.add("models", "org/model", MODEL)
    found = fetch_all(*((source, None, f"none{number}") for number, source in enumerate(cases)))
    for said, words in zip(found, cases.values(), strict=True):
        assert words in said


def test_gated_repositories_say_what_to_do(hub, fetch_all):
    model = hub.add("models", "org/gated", {"config.json": b"{}"}, gated=True)
    data = hub.add("datasets", "org/gated", {"README.md": b"", "train.jsonl": LINES}, gated=True)
    sources = [f"hf:org/gated@{model}", f"hf:datasets/org/gated@{data}/default:train"]
    for said in fetch_all(*((source, None, f"gated{number}") for number, source in enumerate(sources))):
        assert "it is gated. Request access on its page" in said
        assert "HF_TOKEN" in said


def test_a_data_set_with_a_script_or_files_from_elsewhere_is_refused(hub, fetch_all, tmp_path):
    proof = tmp_path / "ran"
    script = f"open({str(proof)!r}, 'w')".encode()
    commit = hub.add("datasets", "org/code", {"code.py": script, "train.jsonl": LINES})
    cases = {f"hf:datasets/org/code@{commit}/default:train": "does not run code from datasets"}
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(LINES)
    other = hub.add("datasets", "org/out", {"train.jsonl": LINES})
    for path, words in {
        str(secret): "data files don't belong to org/out",
        f"hf://datasets/org/out@{other}/train.jsonl": "refers to files outside the repository, which its commit does not pin",
    }.items():
        card = f"---\nconfigs:\n- config_name: main\n  data_files:\n  - {{split: train, path: '{path}'}}\n---\n"
        commit = hub.add("datasets", "org/out", {"README.md": card.encode(), "train.jsonl": LINES})
        cases[f"hf:datasets/org/out@{commit}/main:train"] = words
    found = fetch_all(*((source, None, f"refused{number}") for number, source in enumerate(cases)))
    for said, words in zip(found, cases.values(), strict=True):
        assert words.lower() in said.lower()
    assert not proof.exists()


@pytest.fixture
def url(hub, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetchers.time, "sleep", lambda seconds: None)
    commit = hub.add("datasets", "org/plain", {"rows.csv": WEIGHTS})
    return f"{hub.endpoint}/datasets/org/plain/resolve/{commit}/rows.csv"


def test_a_file_from_the_web_is_resumed_in_this_run_and_in_the_next(hub, url, tmp_path):
    work, folder = tmp_path / "work", tmp_path / "folder"
    work.mkdir(), folder.mkdir()
    hub.requests.clear()
    hub.breaks["rows.csv"] = [70_000, 70_000, 70_000]
    with pytest.raises(GradusError, match=r"rows.csv: .*run again to resume"):
        fetchers.download(f"{url}?key=secret", folder, work)
    assert not list(folder.iterdir())
    fetchers.download(url, folder, work)
    assert (folder / "rows.csv").read_bytes() == WEIGHTS
    assert hub.downloads("rows.csv") == [None, "bytes=65536-", "bytes=131072-", "bytes=196608-"]


def test_what_a_web_server_answers_is_said(url, tmp_path):
    with pytest.raises(GradusError, match="none.csv: the server answers 404 Not Found. Check the address") as caught:
        fetchers.download(url.replace("rows.csv", "none.csv?key=secret"), tmp_path, tmp_path)
    assert "secret" not in str(caught.value)
    with pytest.raises(GradusError, match="no secure connection"):
        fetchers.download(url.replace("http:", "https:"), tmp_path, tmp_path)
