"""What llama.cpp computes on a GPU, which GPU a job takes, the jobs that declare one, and what is said if one fails."""

import fcntl
import io
import json
import os
import subprocess
import sys
from itertools import takewhile
from types import SimpleNamespace

import pytest
from snakemake.profiles import ProfileConfigFileParser

from scripts.common import gpus as module
from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.isolate import run_isolated
from scripts.common.job import GIVEN_GPUS, find_job
from scripts.common.logs import explain, logging_to
from scripts.common.machine import ON_CLUSTER
from scripts.config.check import check_config
from scripts.config.reading import read_config
from scripts.setup.check_llama import check_cuda, run_prompt, write_random_model

CPU_BUILD = pytest.mark.skipif(bool(module.gpu_backends()), reason="llama.cpp was built for a GPU here")
SMI = "#!/bin/sh\necho 'GPU 0: NVIDIA L4 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA A10G (UUID: GPU-2)'\n"


@pytest.fixture
def card(monkeypatch, tmp_path):
    """Two GPUs, as far as the driver says; nothing leaves this test."""
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", GIVEN_GPUS, ON_CLUSTER):
        monkeypatch.setenv(name, "")  # what a test sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(module, "LOCKS", tmp_path / "gpus")
    monkeypatch.setattr(module, "TAKEN", [])
    forget()
    yield
    forget()


def forget():
    """Have nvidia-smi asked again."""
    module.ask_driver.cache_clear()
    module.visible_gpus.cache_clear()


@pytest.fixture
def built_for_cuda(monkeypatch):
    monkeypatch.setattr(module, "gpu_backends", lambda: frozenset({"cuda"}))


@CPU_BUILD
def test_a_build_for_cpus_computes_nothing_on_a_gpu(card):
    assert module.gpu_backends() == frozenset()
    assert (module.choose_layers("auto"), module.choose_layers(0)) == (0, 0)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ  # none is taken, so training has both
    with pytest.raises(GradusError, match=r"gpu_layers is 5, but llama.cpp was built for CPUs only.*make CUDA=1 setup"):
        module.choose_layers(5)


@CPU_BUILD
def test_layers_without_a_build_for_them_are_refused_before_the_run():
    config = read_config(ROOT / "config/runs/tiny.yaml")
    assert check_config(config, [])["evaluate"]["gpu_layers"] == "auto"
    config["evaluate"] = {**config["evaluate"], "gpu_layers": 99}
    with pytest.raises(GradusError, match=r"evaluate.gpu_layers: is 99, but llama.cpp was built for CPUs only"):
        check_config(config, [])
    config["evaluate"]["gpu_layers"] = "all"
    with pytest.raises(GradusError, match="'all' does not match"):
        check_config(config, [])


def test_a_build_for_cuda_computes_all_layers_on_one_gpu(card, built_for_cuda):
    with open_lock("0"):
        assert module.choose_layers("auto") == module.ALL
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert module.gpu_name(module.ALL) == "NVIDIA A10G"
    assert module.layer_fault(7, 1) == ""
    assert module.choose_layers(7) == 7  # later, in the same process
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert (module.choose_layers(0), module.gpu_name(0)) == (0, None)


def open_lock(name):
    """Return the lock of a GPU, held as another job does."""
    module.LOCKS.mkdir()
    other = open(module.LOCKS / module.lock_name(name), "w")  # noqa: SIM115 (the caller's)
    fcntl.flock(other, fcntl.LOCK_EX)
    return other


@pytest.mark.parametrize(
    ("visible", "found"), [("", []), ("-1", []), ("1", ["NVIDIA A10G"]), ("GPU-2", ["NVIDIA A10G"])]
)
def test_only_gpus_that_the_user_leaves_visible_count(card, built_for_cuda, monkeypatch, visible, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list(module.visible_gpus().values()) == found
    assert module.choose_layers("auto") == (module.ALL if found else 0)


@pytest.mark.parametrize(
    ("smi", "told"),
    [
        (
            "#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n",
            "lists no GPU; it ended with code 9 and said: NVIDIA-SMI has",
        ),
        ("#!/bin/sh\necho 'No devices found.'\n", r"it ended with code 0 and said: No devices found\. Mend the driver"),
        ("#!/bin/sh\necho broken >&2\nexit 1\n", "it ended with code 1 and said: broken"),
        ("#!/bin/sh\n", "said: nothing"),
        ("#!/bin/sh\nexec sleep 60\n", r"did not answer within 0.3 s: the driver hangs"),
        ("of another machine", r"cannot be run \(Exec format error\)"),
    ],
)
def test_a_driver_that_fails_stops_a_job_and_is_never_the_cpu_unless_the_user_wants_it(
    card, built_for_cuda, monkeypatch, tmp_path, smi, told
):
    monkeypatch.setattr(module, "PATIENCE", 0.3 if "sleep" in smi else 30.0)
    (tmp_path / "nvidia-smi").write_text(smi)
    assert (module.visible_gpus(), module.choose_layers(0)) == ({}, 0)
    with pytest.raises(GradusError, match=f"^llama.cpp was built for CUDA, but nvidia-smi .*{told}.*gpu_layers: 0$"):
        module.choose_layers("auto")
    monkeypatch.setenv(ON_CLUSTER, "slurm")  # SLURM hides the GPUs that a job has not asked for
    assert module.choose_layers("auto") == 0
    monkeypatch.setenv(GIVEN_GPUS, "1")
    with pytest.raises(GradusError, match="nvidia-smi"):
        module.choose_layers("auto")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    forget()
    assert module.choose_layers("auto") == 0


def test_a_job_that_was_given_a_gpu_and_finds_no_driver_stops(card, built_for_cuda, monkeypatch, tmp_path):
    (tmp_path / "nvidia-smi").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.choose_layers("auto") == 0
    monkeypatch.setenv(GIVEN_GPUS, "2")
    with pytest.raises(GradusError, match=r"this job was given 2 GPUs \(Snakemake's resource gpu\)"):
        module.choose_layers("auto")


def test_a_script_knows_how_many_gpus_snakemake_gave_it(monkeypatch):
    for resources, given in (({"gpu": 2, "mem_mb": 9}, "2"), ({"mem_mb": 9}, "0")):
        monkeypatch.setenv(GIVEN_GPUS, "")
        job = SimpleNamespace(resources=resources)
        assert find_job({"snakemake": job}) is job
        assert os.environ[GIVEN_GPUS] == given
    assert find_job({"__name__": "scripts.train.estimate"}) is None


class AcceleratorError(RuntimeError):
    """As torch's, which is known by its name."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device lost"),
        AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be …"),
        AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("No CUDA GPUs are available"),
    ],
)
def test_a_gpu_that_fails_in_the_middle_of_a_phase_is_no_bug(tmp_path, capsys, error):
    with pytest.raises(SystemExit), logging_to(tmp_path / "job.log"):
        raise error
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"Gradus: the GPU or its driver failed ({str(error).splitlines()[0]}). ")
    assert "The last checkpoint is kept, and the same command goes on from it." in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "job.log.traceback").exists()


def test_memory_of_a_gpu_that_runs_out_is_no_bug_but_what_code_asks_wrongly_is():
    out = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.00 GiB"
    assert explain(RuntimeError(out)).startswith(
        "the GPU's memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB). End what else uses it"
    )
    for bug in ("device-side assert triggered", "invalid configuration argument", "CUBLAS_STATUS_NOT_SUPPORTED"):
        assert explain(AcceleratorError(f"CUDA error: {bug}")) is None
    assert explain(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert explain(KeyError("CUDA error: device lost")) is None


def test_a_process_that_answers_and_trains_asks_the_driver_once(card, built_for_cuda, monkeypatch, tmp_path):
    import torch

    from scripts.common.device import choose_device

    (tmp_path / "nvidia-smi").write_text(f"{SMI}echo asked >>{tmp_path}/asked\n")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert len(module.visible_gpus()) == 2
    with pytest.raises(GradusError, match="this machine has GPU 0: NVIDIA L4, but torch cannot use it"):
        choose_device()
    assert (tmp_path / "asked").read_text() == "asked\n"


@CPU_BUILD
def test_llama_cpp_that_finds_no_gpu_says_so(tmp_path):
    """Built for CUDA, but its driver is too old: not silently on the CPU."""
    write_random_model(tmp_path / "random.gguf")
    with pytest.raises(GradusError, match=r"llama.cpp finds no GPU.*gpu_layers: 0"):
        run_isolated("decoding", run_prompt, str(tmp_path / "random.gguf"), module.ALL)


@CPU_BUILD
def test_a_build_without_cuda_is_not_taken_for_one():
    with pytest.raises(GradusError, match="was built without CUDA, although CUDA=1 asks for it"):
        check_cuda()


DECLARED = """
import json
from pathlib import Path
from scripts.common.snakemake_internals import plan_job
job = plan_job(Path("Snakefile"), "results/tiny/verdict.json", [Path("config/runs/tiny.yaml")], 2)
workflow = job.rule.workflow
gpus = {rule.name: rule.resources.get("gpu").value for rule in workflow.rules if "gpu" in rule.resources}
print(json.dumps({"limit": workflow.global_resources.get("gpu").value, "gpus": gpus}))
"""
TRAINING = {"estimate", "base_loss", "round_base", "train_phase", "train_arm", "reference_losses"}
TRAINING |= {"bench_training", "bench_levers"}
TRAINING |= {"importance", "check_merge", "check_gguf"}  # they compute the checkpoint on the device that trains


def moved_by_the_example():
    """Return the rules that the SLURM profile's example moves to another partition, as Snakemake reads it."""
    lines = (ROOT / "profiles/slurm/config.yaml").read_text().splitlines()
    begin = lines.index("# set-resources:")
    example = [lines[begin], *takewhile(lambda line: line.startswith("#   "), lines[begin + 1 :])]
    stream = io.StringIO("\n".join(line.removeprefix("# ") for line in example))
    stream.name = str(ROOT / "profiles/slurm/config.yaml")
    (asked,) = ProfileConfigFileParser().parse(stream).values()
    found = [entry.partition(":") for entry in asked]
    assert {setting for _, _, setting in found} == {"slurm_partition=gpu"}
    return [rule for rule, _, _ in found]


def beside_llama_cpp(folder, backend, visible):
    """Return the environment of a process that finds a llama.cpp built for `backend`, and the GPUs `visible`."""
    (folder / "llama_cpp/lib").mkdir(parents=True)
    (folder / "llama_cpp/__init__.py").touch()
    (folder / f"llama_cpp/lib/libggml-{backend}.so").touch()
    return {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize(
    ("visible", "built", "limit", "training", "answering"),
    [("", True, 0, 0, 0), ("0,1", False, 2, 1, 0), ("0", True, 1, 1, 1)],
)
def test_jobs_that_train_or_decode_declare_a_gpu_where_they_use_it(
    card, tmp_path, visible, built, limit, training, answering
):
    """The real Snakefile, beside a llama.cpp that looks as if it were built for CUDA."""
    environment = beside_llama_cpp(tmp_path, "cuda" if built else "cpu", visible)
    done = subprocess.run(
        [sys.executable, "-c", DECLARED], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert told["limit"] == limit
    assert {rule for rule in told["gpus"] if rule in TRAINING} == TRAINING
    both = {"check_gguf"}  # compares the checkpoint with what llama.cpp answers
    assert {told["gpus"][rule] for rule in TRAINING - both} == {training}
    assert {told["gpus"][rule] for rule in both} == {max(training, answering)}
    decoding = told["gpus"].keys() - TRAINING
    assert {told["gpus"][rule] for rule in decoding} == {answering}
    code = {path.stem for path in (ROOT / "scripts").glob("*/*.py") if "choose_layers(" in path.read_text()}
    assert {rule.removeprefix("bench_") for rule in decoding | both} == code - {"gpus"}  # every script that decodes
    # the example of the SLURM profile, first what trains; comparing speeds is not part of a run
    moved, trained = moved_by_the_example(), {rule for rule in TRAINING if not rule.startswith("bench_")}
    assert set(moved) == {rule for rule in told["gpus"] if not rule.startswith("bench_")}
    assert set(moved[: len(trained)]) == trained


@pytest.mark.parametrize("options", [[], ["--resources", "gpu=2", "training=1", "endpoint=1"]])
def test_layers_without_a_gpu_are_refused_before_the_run_but_not_where_a_cluster_has_gpus(card, tmp_path, options):
    environment = beside_llama_cpp(tmp_path, "cuda", visible="")
    lines = (ROOT / "config/runs/tiny.yaml").read_text().splitlines()
    lines.insert(lines.index("evaluate:") + 1, "  gpu_layers: 7")
    (tmp_path / "tiny.yaml").write_text("\n".join(lines))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", str(tmp_path / "tiny.yaml")]
    command += [*options, "--list-rules"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    line = lines.index("  gpu_layers: 7") + 1
    told = f"tiny.yaml:{line}: evaluate.gpu_layers is 7, but there is no GPU"
    assert (done.returncode != 0, told in done.stderr) == (not options, not options), done.stderr


@pytest.mark.parametrize("processes", [2, 4])
def test_a_training_in_several_processes_declares_a_gpu_for_each_and_is_refused_if_there_are_fewer(
    card, tmp_path, processes
):
    """The real Snakefile, on two GPUs."""
    (tmp_path / "more.yaml").write_text(f"train: {{processes: {processes}}}\n")
    tiny = 'Path("config/runs/tiny.yaml")'
    assert tiny in DECLARED
    code = DECLARED.replace(tiny, f'{tiny}, Path("{tmp_path}/more.yaml")')
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if processes == 4:
        assert done.returncode
        assert "train.processes is 4, but there are 2 GPUs" in done.stderr
    else:
        gpus = json.loads(done.stdout)["gpus"]
        assert {rule: gpus[rule] for rule in ("train_phase", "train_arm", "estimate")} == {
            "train_phase": 2,
            "train_arm": 1,
            "estimate": 1,
        }
