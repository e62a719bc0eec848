"""The recipes for one GPU: refused until they are pinned, planned whole, and small enough for their card."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.project import copy_sources
from scripts.config.check import check_config, check_files
from scripts.config.reading import read_config
from scripts.gpu_check.shapes import config_of
from scripts.train.estimate import GIB, check_fit, count_bytes, disk_bytes, written
from scripts.train.model import LoraParams, choose_attention
from tests.hub import LARGE, Hub
from tests.project import Project
from tests.unit.test_gpu_sizes import figures

CARDS = {"qwen2.5-1.5b": 16, "llama-3.2-3b": 16, "qwen2.5-7b": 24}  # GB
WEIGHTS = bytes(LARGE + 1)
MODEL = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "original/params.json": b"{}",  # as in Meta's repositories, with pickles beside it
    "original/consolidated.00.pth": WEIGHTS,
}


def file_of(name):
    return ROOT / f"config/runs/{name}.yaml"


def pinned(name, source, sha256):
    """Return the text of a recipe with its base pinned as a user does: two lines in place of two."""
    text = file_of(name).read_text()
    new, count = re.subn(
        r'^  source: hf:.*\n  sha256: ""$', f"  source: {source}\n  sha256: {sha256}", text, flags=re.M
    )
    assert count == 1
    return new


@pytest.fixture(scope="module")
def hub():
    """A Hub with the recipes' bases."""
    with Hub() as hub:
        for name in CARDS:
            hub.add("models", read_config(file_of(name))["base_model"]["name"], MODEL)
        yield hub


def ask_pins(hub, *sources):
    """Run the command that prints a pin for each source, in one process; return what each run printed."""
    program = (
        "import sys; from scripts.data import pin\n"
        "for source in sys.argv[1:]:\n"
        "    sys.argv = ['pin', source]\n"
        "    try: pin.main()\n"
        "    except SystemExit as stopped: print(stopped)\n"
        "    print('---')"
    )
    command = [sys.executable, "-c", program, *sources]
    environment = {**os.environ, **hub.environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("---\n")[:-1]


@pytest.mark.parametrize("name", CARDS)
def test_a_recipe_without_a_pin_is_refused_with_the_command_that_prints_it(name):
    file = file_of(name)
    with pytest.raises(GradusError) as refused:
        check_config(read_config(file), [file])
    source = read_config(file)["base_model"]["source"]
    assert "the commit is missing" in str(refused.value)
    assert f"`.venv/bin/python -m scripts.data.pin {source}` prints" in str(refused.value)
    assert f"scripts.data.pin {source}\n" in file.read_text(), "its head says so, too"


@pytest.mark.parametrize("name", CARDS)
def test_a_pinned_recipe_is_planned_whole(name, hub, tmp_path):
    hub.requests.clear()
    base = read_config(file_of(name))["base_model"]["name"]
    (printed,) = ask_pins(hub, f"hf:{base}")
    assert not hub.downloads("model.safetensors"), "no weights are downloaded"
    pin = yaml.safe_load(printed)
    assert pin["source"].removeprefix(f"hf:{base}@") in hub.repositories["models", base]
    copy_sources(tmp_path)
    (tmp_path / "mine.yaml").write_text(pinned(name, **pin))
    plan = Project(tmp_path).planned(configs=["mine.yaml"])
    assert plan["fetch"] == 3  # base, commands, and text that the model may forget
    assert plan["train_phase"] == 3
    assert {"estimate", "check_merge", "check_gguf", "quantize", "report", "hf"} <= set(plan)


def test_the_pin_is_what_fetch_finds(hub, tmp_path):
    """Of a file in git as of one in large storage, in a folder as at the top; pickles are not of it."""
    (printed,) = ask_pins(hub, "hf:Qwen/Qwen2.5-1.5B-Instruct@main")
    pin = yaml.safe_load(printed)
    program = "import sys; from scripts.data.fetch import fetch; fetch(*sys.argv[1:])"
    command = [sys.executable, "-c", program, pin["source"], pin["sha256"], tmp_path / "fetched", tmp_path / "work"]
    environment = {**os.environ, **hub.environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {file.relative_to(tmp_path / "fetched").as_posix() for file in (tmp_path / "fetched").rglob("*.*")}
    assert found == {path for path in MODEL if not path.endswith(".pth")}


def test_what_cannot_be_pinned_is_said(hub):
    hub.add("models", "org/pickled", {"config.json": b"{}", "pytorch_model.bin": WEIGHTS})
    hub.add("models", "org/gated", MODEL, gated=True)
    cases = {
        "hf:org/none": "no such repository, or a private one",
        "hf:org/pickled": "no *.safetensors weights",
        "hf:org/gated": "it is gated. Request access on its page, and set HF_TOKEN",
        "hf:datasets/org/rows": "not of the form hf:<org>/<name>",
        "pypi:package==1": "not of the form hf:<org>/<name>",
    }
    for said, words in zip(ask_pins(hub, *cases), cases.values(), strict=True):
        assert said.startswith("Gradus: ") and words in said


@pytest.mark.parametrize("name", CARDS)
def test_a_recipe_fits_its_card_and_the_pages_say_what_it_needs(name, tmp_path):
    config_of(name).save_pretrained(tmp_path)
    file = file_of(name)
    config = read_config(file)
    config["base_model"] |= {"source": f"hf:org/model@{'0' * 40}", "sha256": "0" * 64}
    config = check_config(config, [file])
    check_files(config, [file])
    train = config["train"]
    tokens = train["micro_batch_tokens"]
    shape = (1, tokens, tokens)
    attention = choose_attention(train["attention"], "cuda")
    lora = LoraParams(**train["lora"])
    parts = count_bytes(tmp_path, lora, train["base_weights"], shape, attention, "cuda", train["optimizer"])
    check_fit(parts, (CARDS[name] - 1) * GIB, 0, 1, "")  # a GiB less than the card has, for the screen
    width, inner, keys, layers, vocabulary, tied = figures(name)
    linear = layers * (2 * width * width + 2 * width * keys + 3 * width * inner)
    base = 2 * (linear + vocabulary * width * (1 if tied else 2))
    disk = disk_bytes(base, parts["adapter"], **written(config)) + 2 * base  # and the download, and its checked copy
    need = f"{sum(parts.values()) / GIB:.1f}"
    assert f"on one GPU with {CARDS[name]} GB" in file.read_text()
    assert f"needs {need} GiB" in file.read_text()
    row = next(line for line in (ROOT / "docs/gpu.md").read_text().splitlines() if f"`config/runs/{name}.yaml`" in line)
    assert [cell.strip() for cell in row.split("|")][2:6] == [
        f"{CARDS[name]} GB",
        need,
        f"{base / GIB:.0f}",
        f"{disk / GIB:.0f}",
    ]
