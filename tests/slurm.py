"""A SLURM of one node, of its own, in a scratch folder: the real daemons, for as long as a test needs them."""

import os
import shutil
import socket
import subprocess
import time

from scripts.common.hashing import ROOT

PYTHON = ROOT / ".venv/clusters/bin/python"  # with Snakemake's plugins
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
CONFIG = """ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=300
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def daemons():
    """Return {name: path} of SLURM's programs; they can be in sbin, which is not in everyone's PATH."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    return {name: shutil.which(name, path=path) for name in NEEDED}


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Slurm:
    """The daemons; `environment`: what a process needs to find them."""

    def __init__(self, folder):
        self.folder, self.host, self.programs = folder, socket.gethostname().split(".")[0], daemons()
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir(parents=True)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        folder.chmod(0o755)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        self.config = folder / "slurm.conf"
        self.config.write_text(
            CONFIG.format(
                host=self.host, folder=folder, user=user, ports=_free_ports(2), cpus=os.cpu_count(), memory=memory - 500
            )
        )
        # the executor takes SLURM_CONF out of a job's environment: a cluster's is in /etc
        wrapper = folder / "bin" / "srun"
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.config} exec {self.programs["srun"]} "$@"\n')
        wrapper.chmod(0o755)
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(self.config),
            "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]),
        }
        self.started = []

    def __enter__(self):
        place = self.folder
        munge = [f"--{name}={place}/munge.{end}" for name, end in MUNGE.items()]
        self._start([self.programs["munged"], "--foreground", "--force", *munge])
        self._start([self.programs["slurmctld"], "-D", "-c"])
        self._start([self.programs["slurmd"], "-D"])
        began = time.monotonic()
        try:
            self._wait_until_idle(began)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_idle(self, began):
        place = self.folder
        while "idle" not in self.ask("sinfo", "-h", "-o", "%t", check=False):
            assert time.monotonic() - began < 60, (place / "slurmctld.log").read_text()[-2000:]
            time.sleep(0.5)

    def _start(self, command):
        with open(self.folder / "daemons.out", "a") as output:
            self.started.append(
                subprocess.Popen(
                    command, env=self.environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
            )
        if command[0] == self.programs["munged"]:
            while not (self.folder / "munge.socket").exists():
                assert self.started[-1].poll() is None, (self.folder / "daemons.out").read_text()
                time.sleep(0.1)

    def __exit__(self, *_):
        self.ask("scancel", "--me", check=False)
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()

    def ask(self, *command, check=True):
        """Return what one of SLURM's commands prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert not check or not done.returncode, done.stderr
        return done.stdout

    def jobs(self):
        """Return {job: (rule and wildcards, state)} of jobs that have not ended."""
        rows = (line.split("|") for line in self.ask("squeue", "-h", "-o", "%A|%k|%T").splitlines())
        return {job: (comment, state) for job, comment, state in rows}

    def wait_for(self, rule, state="RUNNING", seconds=900, job=None, other_than=None):
        """Wait until a job of a rule, or this job, is in a state; return its number."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            for number, (comment, now) in self.jobs().items():
                wanted = number == job if job else number != other_than
                if wanted and comment.startswith(f"rule_{rule}_") and now == state:
                    return number
            time.sleep(0.2)
        raise AssertionError(f"no job of {rule} was {state} within {seconds} s: {self.jobs()}")


MUNGE = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
