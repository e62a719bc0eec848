"""The small pipeline on a real SLURM of one node: memory, drained nodes, canceled jobs, a killed run; the same bytes."""

import os
import shutil
import signal
import subprocess

import pytest

from scripts.common.hashing import sha256_file
from tests.slurm import PYTHON, Slurm, daemons

missing = [name for name, path in daemons().items() if not path]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"SLURM is not installed (slurm-wlm, munge): {', '.join(missing)}"),
    pytest.mark.skipif(not PYTHON.exists(), reason="Snakemake's plugins are not installed: `make clusters`"),
]
GGUF = "results/tiny/export/tuned/Q4_K_M.gguf"
RESTARTED = "Trying to restart job"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.__enter__()
    except AssertionError as error:  # in some containers
        pytest.skip(f"SLURM's daemons do not start here: {error}")
    yield slurm
    slurm.__exit__()


class OnSlurm:
    """A project whose jobs SLURM runs."""

    def __init__(self, project, slurm):
        self.project, self.slurm = project, slurm
        self.log = project.folder / "slurm.log"

    def start(self, *arguments):
        command = [PYTHON, "-m", "snakemake", "--workflow-profile", "profiles/slurm", "--configfile", "tiny.yaml"]
        with open(self.log, "w") as log:
            return subprocess.Popen(
                [*command, *arguments],
                cwd=self.project.folder,
                env=self.slurm.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def run(self, *arguments):
        code = self.start(*arguments).wait(timeout=900)
        return code, self.log.read_text()


@pytest.fixture
def on_slurm(fresh, slurm):
    return OnSlurm(fresh, slurm)


def test_what_the_cluster_has_not_is_said_before_any_job(on_slurm):
    resources = ["--default-resources", "mem_mb=1000", "slurm_partition=nowhere"]
    code, text = on_slurm.run(*resources, "--", GGUF)
    assert code == 1 and "this cluster has no partition nowhere (it has main)" in text, text
    code, text = on_slurm.run("--resources", "gpu=1", "--", GGUF)
    assert code == 1 and "jobs want a GPU, but no node of the partition main has one" in text, text
    assert not on_slurm.slurm.jobs() and not (on_slurm.project.folder / "results/tiny/data").exists()


def test_through_faults_to_the_same_bytes(on_slurm, slurm, reference):
    # SLURM ends the first attempt for its memory
    process = on_slurm.start("--set-resources", "ingest:mem_mb=40 * attempt ** 6", "--", GGUF)
    slurm.wait_for("train_phase")
    assert RESTARTED in (text := on_slurm.log.read_text()), text
    assert "has no accounting" in text

    # a node that is drained ends what it runs, and takes nothing more; the run waits
    slurm.ask("scontrol", "update", f"nodename={slurm.host}", "state=drain", "reason=test")
    job = slurm.wait_for("train_phase", "PENDING")
    assert process.poll() is None

    # the run is killed, its job stays in SLURM's queue, without a process; the next run cancels it
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert job in slurm.jobs()
    process = on_slurm.start("--", GGUF)
    own = slurm.wait_for("train_phase", "PENDING", other_than=job)
    assert job not in slurm.jobs()
    assert "Gradus: 1 process of a killed run was still active and has been stopped" in on_slurm.log.read_text()
    slurm.ask("scontrol", "update", f"nodename={slurm.host}", "state=resume")

    # a job that somebody cancels is tried again
    slurm.wait_for("train_phase", job=own)
    slurm.ask("scancel", own)
    assert process.wait(timeout=900) == 0, on_slurm.log.read_text()
    assert on_slurm.log.read_text().count(RESTARTED) == 1
    assert sha256_file(on_slurm.project.folder / GGUF) == sha256_file(reference.folder / GGUF)
    assert not slurm.jobs()


def test_it_is_planned_where_no_slurm_is(fresh, tmp_path):
    for name in ("bash", "which"):  # what Snakemake itself needs
        (tmp_path / name).symlink_to(shutil.which(name))
    command = [PYTHON, "-m", "snakemake", "--workflow-profile", "profiles/slurm", "--configfile", "tiny.yaml", "-n"]
    environment = {**os.environ, "PATH": str(tmp_path), "SLURM_CONF": "/nowhere"}
    done = subprocess.run(command, cwd=fresh.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "train_phase" in done.stdout, done.stdout + done.stderr
