"""What is asked of SLURM before the first job: programs that answer as SLURM's do stand in for them."""

import os
from pathlib import Path

import pytest

from scripts.common import slurm
from scripts.common.errors import GradusError


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Return a function that writes a program of SLURM; what it was called with is in <name>.calls."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def answers(name, text, code=0):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$@" >>{program}.calls\ncat <<END\n{text}\nEND\nexit {code}\n')
        program.chmod(0o755)
        return program

    return answers


def test_a_partition_must_exist_and_have_the_gpu_that_jobs_want(cluster):
    sinfo = cluster("sinfo", "main*|(null)\nmain*|gpu:a100:4\nlong|(null)")
    slurm.require_partitions([(None, False), ("main", True), ("long", False), ("nowhere,main", True)])
    assert "--all" in Path(f"{sinfo}.calls").read_text()  # hidden partitions, too
    with pytest.raises(GradusError, match=r"no partition nowhere \(it has long, main\)"):
        slurm.require_partitions([("nowhere", False)])
    with pytest.raises(GradusError, match="want a GPU, but no node of the partition long has one"):
        slurm.require_partitions([("long", True)])
    cluster("sinfo", "long|(null)")
    with pytest.raises(GradusError, match=r"no default partition: .* \(it has long\)"):
        slurm.require_partitions([(None, False)])
    cluster("sinfo", "", 1)
    with pytest.raises(GradusError, match="SLURM does not answer: sinfo says: exit status 1"):
        slurm.require_partitions([(None, False)])


def test_without_accounting_squeue_is_asked_if_it_remembers_jobs_long_enough(cluster):
    cluster("sacct", "")
    assert slurm.accounting_warning(10) == ""
    cluster("sacct", "", 1)
    cluster("scontrol", "MinJobAge               = 300 sec")
    assert "squeue is asked how jobs end. It forgets them after 300 s" in slurm.accounting_warning(10)
    with pytest.raises(GradusError, match="squeue forgets jobs after 300 s .* to 100 or less"):
        slurm.accounting_warning(101)


def test_only_jobs_of_this_folder_are_canceled_and_only_if_runs_were_on_slurm(cluster, tmp_path):
    here = tmp_path / "project"
    here.mkdir()
    (tmp_path / "same").symlink_to(here)
    queue = f"1|RUNNING|rule_mask_x|{here}\n2|PENDING|rule_mask_x|{tmp_path}\n3|PENDING|rule_mask_x|{tmp_path}/same\n4|RUNNING|mine|{here}"
    squeue = cluster("squeue", queue)
    scancel = cluster("scancel", "")
    assert slurm.cancel_left(here) == 0 and not Path(f"{squeue}.calls").exists()
    (here / slurm.SLURM_LOGS).mkdir(parents=True)
    scancel.write_text(f'#!/bin/sh\necho "$@" >{scancel}.calls\nprintf "#!/bin/sh\\n" >{squeue}\n')  # then none is left
    assert slurm.cancel_left(here) == 2
    assert Path(f"{scancel}.calls").read_text().split() == ["--quiet", "1", "3"]


def test_a_job_that_does_not_end_stops_the_run_unless_its_node_is_dead(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "PATIENCE", 0.5)
    (tmp_path / slurm.SLURM_LOGS).mkdir(parents=True)
    cluster("scancel", "")
    cluster("squeue", f"7|RUNNING|rule_mask_x|{tmp_path}")
    with pytest.raises(GradusError, match="jobs of a killed run do not end: 7"):
        slurm.cancel_left(tmp_path)
    cluster("squeue", f"7|COMPLETING|rule_mask_x|{tmp_path}")
    assert slurm.cancel_left(tmp_path) == 1
