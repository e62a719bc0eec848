"""What was trained is what is served: the gates of the real run, its exports, and what happens when one is broken."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from scripts.common.errors import GradusError
from scripts.common.gguf_info import metadata, open_gguf, read_gguf
from scripts.export.quantize import quantize
from scripts.fidelity.gates import GATES
from scripts.reproduce.reference import BASE_NAME


def read(path):
    return json.loads(path.read_text())


def test_every_gate_was_measured_and_passed(project):
    listed = read(project.results / "fidelity.json")
    assert listed["passed"] is True
    rows = listed["gates"]
    assert {row["name"] for row in rows} == set(GATES)
    go = shutil.which("go")
    for row in rows:
        if row["name"] == "template.ollama_differs" and not go:
            assert row["passed"] is None
            assert "apt-get install golang-go" in row["skipped"]
        else:
            assert row["passed"] is True, row
            assert isinstance(row["value"], int | float)
    assert {row["check"] for row in rows} >= {
        "base/gguf",
        "tuned/gguf",
        "tuned/merge",
        "labels",
        "serving",
    }


def test_the_measurements_are_of_this_run(project):
    """Numbers that could not come from doing nothing."""
    merge = read(project.results / "fidelity/tuned/merge.json")
    assert merge["tensors"]["targeted"] == 2 * 7
    assert 0 < merge["live_against_merged"]["mean_kl"] < merge["trained_against_merged"]["mean_kl"]
    quants = read(project.results / "fidelity/tuned/quantization.json")["quants"]
    assert list(quants) == ["Q4_K_M", "Q4_K_M-no-imatrix", "Q8_0", "bf16"]
    assert quants["bf16"]["max_kl"] == 0
    assert 0 < quants["Q8_0"]["mean_kl"] < quants["Q4_K_M"]["mean_kl"]
    assert quants["Q8_0"]["bits_per_weight"] > quants["Q4_K_M"]["bits_per_weight"]
    assert len(quants["Q4_K_M"]["fallbacks"]) == 2 * 6 + 1  # in a layer all but ffn_down, and the embeddings
    assert not quants["Q8_0"]["fallbacks"]
    speeds = read(project.results / "fidelity/speed.json")["quants"]
    assert all(min(speed.values()) > 1 for speed in speeds.values())
    stopping = read(project.results / "fidelity/stopping.json")["shares"]
    assert len(stopping) == 6 + 3  # two models, three splits; three more quants of the served model
    labels = read(project.results / "fidelity/labels.json")
    assert labels["rows"] == len((project.results / "curriculum/train.jsonl").read_text().splitlines())


def test_a_gguf_tells_where_it_comes_from(project):
    dump = [sys.executable, "-m", "gguf.scripts.gguf_dump", "--no-tensors", "--json"]
    file = project.results / "ollama/model.gguf"
    done = subprocess.run([*dump, str(file)], capture_output=True, text=True, check=True)
    said = {key: field.get("value") for key, field in json.loads(done.stdout)["metadata"].items()}
    assert said["general.name"] == "tiny tuned"
    assert said["general.base_model.0.name"] == BASE_NAME
    assert said["general.license"] == "apache-2.0"
    assert said["general.dataset.0.name"] == "pypi:awscli==1.46.3"
    assert said["general.quantized_by"] == "Gradus"
    assert "gradus" in metadata(open_gguf(file))["general.tags"]
    assert said["quantize.imatrix.dataset"] == "train.jsonl"  # never test text


def test_the_importance_matrix_changes_what_is_served(project):
    export = project.results / "export/tuned"
    weighed, plain = (open_gguf(export / f"{name}.gguf") for name in ("Q4_K_M", "Q4_K_M-no-imatrix"))
    assert "quantize.imatrix.file" not in metadata(plain)
    assert [t.tensor_type for t in weighed.tensors] == [t.tensor_type for t in plain.tensors]
    differing = sum((a.data != b.data).any() for a, b in zip(weighed.tensors, plain.tensors, strict=True))
    assert differing >= 10  # of 15 that are quantized; Q8_0 takes no weights


def test_another_threshold_asks_the_gates_again_and_nothing_else(project):
    (project.folder / "strict.yaml").write_text("fidelity: {quant_mean_kl: 5}\n")
    gates = len({row["check"] for row in read(project.results / "fidelity.json")["gates"]})
    planned = project.planned(configs=("tiny.yaml", "strict.yaml"))
    assert planned == {
        "gate": gates,
        "fidelity": 1,
        "verdict": 1,
        "cost": 1,
        "report": 1,
        "ollama": 1,  # they quote the verdict
        "hf": 1,
        "manifest": 1,
        "crate": 1,
        "all": 1,
    }


def test_a_failed_gate_stops_the_run_and_names_the_step(project):
    (project.folder / "strict.yaml").write_text("fidelity: {gguf_mean_kl: 0}\n")
    code, text = project.snakemake(configs=("tiny.yaml", "strict.yaml"))
    listed = read(project.results / "fidelity/failed.json")
    served = (project.results / "ollama/model.gguf").is_file()
    again, more = project.snakemake()
    assert again == 0, more
    assert code != 0
    assert re.search(r"Gradus: step convert_gguf failed gate gguf.mean_kl \((base|tuned)/gguf\): mean KL of", text)
    assert "at most 0 is required" in text
    assert "results/tiny/fidelity/failed.json" in text
    assert "Traceback" not in text
    assert listed["passed"] is False
    assert {row["name"] for row in listed["gates"] if row["passed"] is False} == {"gguf.mean_kl"}
    assert served  # what was there before stays
    assert read(project.results / "fidelity.json")["passed"] is True
    assert not (project.results / "fidelity/failed.json").exists()


def test_the_ollama_folder_has_its_commands(project):
    text = (project.results / "ollama/README.md").read_text()
    assert "ollama create tiny -f Modelfile" in text
    assert "ollama run tiny" in text
    modelfile = (project.results / "ollama/Modelfile").read_text()
    assert "PARAMETER repeat_penalty 1\n" in modelfile
    assert 'LICENSE """Base model: Apache-2.0. Data: Apache-2.0.' in modelfile


def test_what_leaves_the_machine_happens_on_demand_only(project, monkeypatch):
    assert not {"publish", "deploy"} & set(project.planned("--forceall"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    code, text = project.snakemake("deploy")
    assert code != 0
    assert "Gradus: no Ollama answers at http://127.0.0.1:9" in text
    code, text = project.snakemake("publish")
    assert code != 0
    assert "Gradus: hub.repo is not set" in text
    assert "Traceback" not in text
    assert not (project.results / "deployed.json").exists()


def test_a_gguf_that_is_cut_short_is_refused_everywhere(project, tmp_path):
    whole = project.results / "export/tuned/bf16.gguf"
    data = whole.read_bytes()
    for size in (0, 3, 1000, 2_000_000, len(data) // 2, len(data) - 1):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(data[:size])
        with pytest.raises(GradusError, match="not a complete GGUF"):
            read_gguf(cut)
        with pytest.raises(GradusError, match="not a complete GGUF"):
            quantize(cut, "Q8_0", None, None, tmp_path / "Q8_0.gguf")
    assert [file.name for file in tmp_path.iterdir()] == ["cut.gguf"]


def test_a_full_disk_while_quantising_leaves_what_was_there(project, tmp_path):
    """On a real file system of 4 MB, which 12 MB do not fit."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        (disk / "Q8_0.gguf").write_bytes(b"from before")
        with pytest.raises(GradusError, match="could not quantize it as Q8_0 .*Is the disk full"):
            quantize(project.results / "export/tuned/bf16.gguf", "Q8_0", None, None, disk / "Q8_0.gguf")
        assert (disk / "Q8_0.gguf").read_bytes() == b"from before"
        assert [file.name for file in disk.iterdir()] == ["Q8_0.gguf"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_same_adapter_in_two_bases_is_two_models(project):
    trained = "{trained: {arm: curriculum, seed: 1}, merged_into: %s}"
    models = f"base: {{}}, tuned: {trained % 'bf16'}, tuned-nf4: {trained % 'nf4'}"
    (project.folder / "both.yaml").write_text(f"models: {{{models}}}\n")
    planned = project.planned(configs=("tiny.yaml", "both.yaml"))
    assert planned["merge"] == planned["check_merge"] == planned["convert_gguf"] == 1
    assert "train_phase" not in planned
    (project.folder / "nf4.yaml").write_text(f"models: {{base: {{}}, tuned: {trained % 'nf4'}}}\n")
    planned = project.planned(configs=("tiny.yaml", "nf4.yaml"))
    assert planned["merge"] == 1
    assert "train_phase" not in planned


def test_a_run_that_heeds_the_advice_stops_before_training_and_goes_on_without(project, tmp_path):
    copy = project.copy_to(tmp_path / "copy")
    (copy.folder / "stop.yaml").write_text("advise: {rows: 4, stop: true}\n")
    advice = json.loads((copy.results / "advice.json").read_text())
    assert advice["advice"] == "too few rows"
    code, text = copy.snakemake("results/tiny/train/curriculum/seed1/easy/trained", configs=("tiny.yaml", "stop.yaml"))
    assert code != 0
    assert "too few rows" in text
    assert "] train:" not in text, "nothing was trained"
    assert copy.planned() == {}, "and nothing made is lost"
