"""Which device a job trains on: one GPU of several, a GPU that torch cannot use, and what its results depend on."""

import dataclasses
import fcntl
import os
import stat
from unittest.mock import MagicMock

import pytest
import torch

from scripts.common import device as module
from scripts.common import gpus as gpus_module
from scripts.common.errors import GradusError
from scripts.common.job import GIVEN_GPUS
from scripts.common.machine import ON_CLUSTER
from scripts.train import train_phase
from tests.unit.test_phase import PARAMS


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Return a function that fakes so many usable GPUs; nothing leaves this test."""
    monkeypatch.setattr(gpus_module, "LOCKS", tmp_path / "gpus")
    monkeypatch.setattr(gpus_module, "TAKEN", [])
    gpus_module.ask_driver.cache_clear()
    for name in (
        GIVEN_GPUS,
        ON_CLUSTER,
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "CUBLAS_WORKSPACE_CONFIG",
        "PYTORCH_ALLOC_CONF",
        "FLASH_ATTENTION_DETERMINISTIC",
    ):
        monkeypatch.setenv(name, "")  # what a test sets is undone
        monkeypatch.delenv(name)

    def fake(count, name="NVIDIA L4", cuda="13.0", bf16=True):
        visible = lambda: len(os.environ.get("CUDA_VISIBLE_DEVICES", ",".join("x" * count)).split(","))  # noqa: E731
        monkeypatch.setattr(torch.cuda, "device_count", lambda: visible() if count else 0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(count))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        ones = torch.ones
        monkeypatch.setattr(torch, "ones", lambda *shape, **more: ones(*shape))

    yield fake
    gpus_module.ask_driver.cache_clear()


@pytest.fixture
def smi(monkeypatch, tmp_path):
    """Return a function that puts an `nvidia-smi` of these lines onto the path."""

    def write(*lines):
        path = tmp_path / "nvidia-smi"
        path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    return write


def test_a_job_sees_one_gpu_and_the_next_job_another(gpus, caplog, monkeypatch):
    gpus(2)
    assert module.choose_device() == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert module.choose_device() == "cuda"  # later, in the same process
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    held = []
    for expected, text in (("1", ""), ("0", "all 2 GPUs are taken by other jobs; this one shares GPU 0")):
        held += gpus_module.TAKEN  # another job; the first one's lock is still held
        monkeypatch.setattr(gpus_module, "TAKEN", [])
        del os.environ["CUDA_VISIBLE_DEVICES"]
        module.choose_device()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
        assert text in caplog.text


def test_gpus_that_the_user_names_are_the_ones_to_choose_from(gpus, monkeypatch, tmp_path):
    gpus(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-abc")
    (tmp_path / "gpus").mkdir()
    with open(tmp_path / "gpus" / gpus_module.lock_name("2"), "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert module.choose_device() == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-abc"


def test_a_gpu_that_torch_cannot_use_stops_the_run(gpus, smi):
    gpus(0)
    smi("echo 'GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-1)'")
    with pytest.raises(
        GradusError,
        match=r"has GPU 0: NVIDIA GeForce RTX 3090, but torch cannot use it.*built for CUDA 13.0.*device: cpu",
    ):
        module.choose_device()
    assert module.choose_device("cpu") == "cpu"
    gpus(0, cuda=None)
    with pytest.raises(GradusError, match="is a build without CUDA"):
        module.choose_device()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # hidden on purpose
    assert module.choose_device() == "cpu"


def test_without_a_driver_it_is_the_cpu(gpus, monkeypatch, tmp_path):
    gpus(0)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.choose_device() == "cpu"


def test_a_driver_that_fails_is_never_the_cpu_unless_the_user_wants_it(gpus, smi):
    gpus(0)
    smi("echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'", "exit 9")
    with pytest.raises(
        GradusError,
        match=r"^torch finds no GPU: nvidia-smi lists no GPU; it ended with code 9 and said: NVIDIA-SMI has failed "
        r"because.*\. Mend the driver.*set train.device: cpu.$",
    ):
        module.choose_device()
    assert module.choose_device("cpu") == "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    assert module.choose_device() == "cpu"


def test_a_job_that_was_given_a_gpu_and_finds_none_stops(gpus, monkeypatch, tmp_path):
    gpus(0)
    monkeypatch.setenv("PATH", str(tmp_path))
    os.environ[GIVEN_GPUS] = "1"
    with pytest.raises(GradusError, match=r"^torch finds no GPU: this job was given 1 GPU .*set train.device: cpu.$"):
        module.choose_device()


def test_a_gpu_without_bf16_is_said_to_the_user(gpus):
    gpus(1, name="Tesla T4", bf16=False)
    assert module.bf16_warning("cuda").startswith("Tesla T4 has no bf16 units")
    gpus(1)
    assert module.bf16_warning("cuda") == ""


def test_the_estimate_prints_that_a_gpu_has_no_bf16(gpus, monkeypatch, tmp_path, capsys):
    """As a run shows it. Model and rows are left out: what is counted of them is tested elsewhere."""
    from scripts.progress.output import MESSAGE
    from scripts.train import estimate

    for name in ("read_contract", "AutoTokenizer"):
        monkeypatch.setattr(estimate, name, MagicMock())
    monkeypatch.setattr(estimate, "read_records", lambda file: ["row"])
    monkeypatch.setattr(estimate, "encode", lambda *given: ([1, 2], [3]))
    monkeypatch.setattr(estimate, "count_bytes", lambda *given, **more: {"adapter": 8})
    train = {**dataclasses.asdict(PARAMS), "device": "auto", "attention": "auto"}
    slow = "Gradus: Tesla T4 has no bf16 units: training computes in bf16 all the same, slowly"
    written = {"phases": 1, "trainings": 1, "merged": 1, "exported": 1, "quants": []}
    for bf16, told in ((True, []), (False, [slow])):
        gpus(1, name="Tesla T4", bf16=bf16)
        estimate.estimate("rows", "valid", tmp_path, "contract", train, written, 9.0, False, tmp_path / "estimate.json")
        assert MESSAGE.findall(capsys.readouterr().err) == told


def test_a_card_for_which_torch_has_no_kernels_stops_the_run(gpus, monkeypatch, caplog):
    gpus(1, name="Tesla V100", bf16=False)
    assert module.choose_device() == "cuda"
    assert "Tesla V100 has no bf16 units" in caplog.text

    def fail(*shape, **more):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(GradusError, match=r"Tesla V100\), but a first addition on it failed: CUDA error: no kernel"):
        module.choose_device()


def test_on_a_gpu_only_repeatable_kernels_run(gpus):
    gpus(1)
    module.choose_device()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    try:
        module.secure_repeatability("cpu")
        assert not torch.are_deterministic_algorithms_enabled()
        module.secure_repeatability("cuda")
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["FLASH_ATTENTION_DETERMINISTIC"] == "1"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True


def test_a_checkpoint_is_of_one_kind_of_gpu_with_its_kernels(gpus, monkeypatch):
    """Another card, CUDA or attention, or Liger installed meanwhile: not the same bits, so nothing is gone on from."""

    def key(**changes):
        return train_phase.fingerprint({}, dataclasses.replace(PARAMS, **changes))

    keys = [key(device="cpu")]
    gpus(1)
    keys += [key(), key(attention="eager"), key(optimizer="adamw8bit")]
    gpus(1, name="NVIDIA A10G")
    keys.append(key())
    gpus(1, cuda="12.6")
    keys.append(key())
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: name == "liger_kernel")
    monkeypatch.setattr(module, "version", lambda name: "0.7.0")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key(checkpoint_steps=3, gradient_checkpointing=True, memory_gib=4) == keys[-1]  # no bit depends on these


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        (["avx2", "avx512f"], torch.float32),
        (["avx2", "avx512_bf16"], torch.bfloat16),
        (["amx_bf16"], torch.bfloat16),
        (["asimd", "bf16"], torch.bfloat16),  # ARM
        ([], torch.float32),  # a system that does not say
    ],
)
def test_cpus_compute_in_bf16_only_with_instructions_for_it(monkeypatch, flags, dtype, cpu_with):
    cpu_with(*flags)
    assert (module.fast_dtype("cpu"), module.training_dtype("cpu")) == (dtype, dtype)
    assert module.describe_kernels("cpu", "rows")["dtype"] == str(dtype).removeprefix("torch.")
    assert ("computes in fp32" in module.bf16_warning("cpu")) == (dtype == torch.float32)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert module.training_dtype("cpu") == torch.float32


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_gpus_compute_in_bf16_only_with_units_for_it(gpus, bf16, dtype):
    gpus(1, bf16=bf16)
    assert module.fast_dtype("cuda") == dtype
    assert module.training_dtype("cuda") == torch.bfloat16  # memory is what is short there
