"""What a run prints: on a terminal one line per stage, drawn again in place; elsewhere a line or two per job.

It takes the place of Snakemake's own handler on the terminal, not of its log file, and reads the events that Snakemake
makes for logger plugins. Records that are no event of a run (warnings, errors before it, lint) go to Snakemake's
handler as they are.
"""

import logging
import os
import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from scripts.progress.ending import ending
from scripts.progress.output import Bar, Outputs
from scripts.progress.screen import Screen
from scripts.progress.times import Planned, Times, clock, rough

LONG = 10.0  # seconds: where there is no terminal, jobs that took as long get a second line
FULL = 2**20  # bytes free on a disk that is full
KILLED = 129  # the least exit status of a process that a signal ended
OVERALL = "all"
# Snakemake's messages that tell a user nothing: (no event, of a run)
NOISE = re.compile(
    r"Building DAG|Using shell|Conda environments: ignored|Singularity containers: ignored|Select jobs|Execute \d+ jobs"
    r"|DAG of jobs will be updated|Removing output files of failed job|Shutting down|Complete log|Storing output"
    r"|Updating checkpoint|Activating (?:conda|singularity|environment)|Exiting because a job execution failed"
    r"|Elapsed time|None$|$"
    # the SLURM executor's; Snakemake's log file keeps them
    r"|SLURM run ID|MinJobAge|No SLURM account given|No account was given|Unable to guess SLURM account"
    r"|Job \d+ has been submitted with SLURM|Cleaning up SLURM log files"
)
WAITS = "Will exit after finishing currently running jobs"
OWN_EVENTS = {"workflow_started", "run_info", "resources_info", "shellcmd", "job_started", "rulegraph"}


@dataclass
class Running:
    """A job that runs now."""

    rule: str
    stage: str
    told: str
    log: str | None
    began: float
    bar: Bar | None = None


@dataclass
class Stage:
    """What has been done of a stage: jobs, and seconds in which at least one of its jobs ran."""

    done: int = 0
    seconds: float = 0.0


def read_stages(folder: Path) -> dict[str, str]:
    """Return {rule: stage} in the order in which the Snakefile includes the stages; a stage is a file of rules."""
    included = re.findall(r'^include: "rules/(\w+)\.smk"', (folder / "Snakefile").read_text(encoding="utf-8"), re.M)
    return {
        rule: stage
        for stage in included
        for rule in re.findall(
            r"^[ \t]*(?:rule|checkpoint) (\w+):", (folder / "rules" / f"{stage}.smk").read_text(encoding="utf-8"), re.M
        )
    }


def is_terminal(stream: TextIO) -> bool:
    """Return whether lines can be drawn again on a stream."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Progress(logging.Handler):
    """Prints a run. `stage_of`: {rule: stage}, in order; `fallback`: the handler for records that are no event.

    `run` and `everything`, whether all of results/<run> is made, are set when the config has been read.
    """

    def __init__(
        self,
        stage_of: Mapping[str, str],
        fallback: logging.Handler,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Print to `stream`, stderr by default."""
        super().__init__()
        self.stage_of, self.fallback, self.now = stage_of, fallback, now
        self.stream = stream or sys.stderr
        self.screen = Screen(self.stream) if is_terminal(self.stream) else None
        self.stages: dict[str, Stage] = {}
        self.running: dict[int, Running] = {}
        self.planned: dict[int, Planned] = {}
        self.ended: set[int] = set()
        self.busy = 0.0  # seconds of all jobs that have ended
        self.failed: set[int] = set()
        self.interrupted = self.stopped = False  # by Ctrl-C; by SIGTERM, after which running jobs finish
        self.began: float | None = None  # of a run
        self.ticked = 0.0
        self.died = ""
        self.done = self.total = 0
        self.run = ""
        self.everything: Callable[[], bool] = lambda: False
        self.times, self.outputs = Times({}), None  # type: Times, Outputs | None
        self.plan: Callable[[], Sequence[Planned]] = lambda: []
        self.stop = threading.Event()

    def begin(self, plan: Callable[[], Sequence[Planned]], times: Times, outputs: Outputs | None) -> None:
        """Say that jobs start now. `plan` returns the jobs that are left; `outputs`: where jobs print, None if on the
        terminal.
        """
        with self.lock:  # type: ignore[union-attr]  # a handler has one
            self.plan, self.times, self.outputs = plan, times, outputs
            self.began = self.ticked = self.now()
            self._replan()
            self.total = len(self.planned)
        threading.Thread(target=self._keep_ticking, daemon=True).start()

    def _keep_ticking(self) -> None:
        while not self.stop.wait(1):
            with self.lock:  # type: ignore[union-attr]  # a handler has one
                if not self.stop.is_set():
                    self.tick()

    def _replan(self) -> None:
        self.planned = {one.job: one for one in self.plan() if one.job not in self.ended}

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, or note what it says."""
        try:
            self._take(record)
        except Exception:  # as in Python's own handlers: what is printed must not stop a run
            self.handleError(record)

    def _take(self, record: logging.LogRecord) -> None:
        event = str(getattr(record, "event", None) or "")
        message = record.getMessage()
        if event == "job_info":
            self._start(record)
        elif event == "job_finished":
            self._finish(record.job_id)  # type: ignore[attr-defined]
        elif event == "job_error":
            self._fail(record)
        elif event == "progress":
            self.done, self.total = record.done, record.total  # type: ignore[attr-defined]
        elif event in OWN_EVENTS or (not event and NOISE.match(message)):
            return
        elif self.began is not None and "CalledProcessError" in message:
            self.died = message
        elif ((self.failed or self.interrupted or self.stopped) and "At least one job did not complete" in message) or (
            self.stopped and message.startswith(WAITS)  # said again whenever a job ends
        ):
            return
        else:
            if self.screen:
                self.screen.clear()
            self.fallback.handle(record)
            if again := re.match(r"Trying to restart job (\d+)", message):
                self._forgive(int(again[1]))
            self.stopped |= message.startswith(WAITS)
            self.interrupted |= message.startswith("Terminating processes on user request")
            if message.startswith("Nothing to be done"):
                self.began, self.done, self.total = self.now(), 1, 1
        self._draw()

    def _start(self, record: logging.LogRecord) -> None:
        rule = str(getattr(record, "rule_name", ""))
        if rule not in self.stage_of:  # `all`, which does nothing
            return
        log = list(getattr(record, "log", None) or [None])[0]
        told = str(getattr(record, "rule_msg", None) or rule)
        job = int(getattr(record, "jobid", 0))
        self._count()
        self.running[job] = Running(rule, self.stage_of[rule], told, log, self.now())
        self._replan()
        if not self.screen:
            self._print(f"[{self._time()}] {self.stage_of[rule]}: {told}")

    def _end(self, job: int) -> Running | None:
        self.ended.add(job)
        self._count()
        planned, ran = self.planned.pop(job, None), self.running.pop(job, None)
        if ran:
            self.busy += self.now() - ran.began
            if planned:
                self.times.note(ran.rule, self.now() - ran.began)
        return ran

    def _finish(self, job: int) -> None:
        ran = self._end(job)
        for message in self.outputs.messages(job, self.running) if self.outputs else ():
            self._print(message)
        if ran is None:
            return
        self.stages.setdefault(ran.stage, Stage()).done += 1
        seconds = self.now() - ran.began
        if not self.screen and seconds >= LONG:
            left = self._left(self._remaining().values())
            more = f", {left} left" if left else ""
            # Snakemake counts after it has said that the job has finished
            count = f"{self.done + 1} of {self.total} jobs done"
            self._print(f"[{self._time()}] {ran.stage}: took {clock(seconds)}: {ran.told} ({count}{more})")

    def _fail(self, record: logging.LogRecord) -> None:
        job = int(getattr(record, "jobid", 0))
        ran = self._end(job)
        if self.interrupted:
            return
        self.failed.add(job)
        rule = str(getattr(record, "rule_name", ""))
        logs = [str(log) for log in getattr(record, "log", None) or []]
        elsewhere = [log for log in logs if "slurm_logs" in log]  # what a job on a cluster's node printed
        if self.outputs and elsewhere and Path(elsewhere[0]).is_file():
            self.outputs.of_job[job] = Path(elsewhere[0])
        messages, reason = self.outputs.reason(job) if self.outputs else ([], "")
        for message in messages:
            self._print(message)
        code = re.search(r"exit status (\d+)|died with .*", self.died)
        if not reason and shutil.disk_usage(".").free < FULL:  # then nobody can write why
            reason = "Gradus: the disk is full. Free some space and run again: finished work is kept"
        elif code and int(code[1] or KILLED) >= KILLED and not reason.startswith("Gradus:"):
            reason = f"{reason}\nIt was killed; perhaps memory ran out.".lstrip()
        elif code and not reason:
            reason = f"It ended with {code[0]}."
        elif elsewhere and reason.startswith("Gradus:"):
            reason = reason.partition("\n\n")[0]  # then comes what Snakemake prints there
        elif elsewhere:
            reason = f"{reason}\n{getattr(record, 'rule_msg', None) or ''}".strip()
        told = ran.told if ran else rule
        lines = [f"Failed: {told} ({self.stage_of.get(rule, rule)})", reason, "", *(f"Log: {log}" for log in logs)]
        self._print("\n" + "\n".join(lines) + "\n")

    def _forgive(self, job: int) -> None:
        """Note that a job that failed is tried again (--retries)."""
        self.failed.discard(job)
        self.ended.discard(job)
        self.died = ""
        if self.outputs:
            self.outputs.forget(job)
        self._replan()

    def _time(self) -> str:
        return time.strftime("%H:%M:%S", time.localtime(self.now()))

    def _print(self, text: str) -> None:
        if self.screen:
            self.screen.clear()
        with suppress(OSError):
            self.stream.write(f"{text}\n")
            self.stream.flush()
        self._draw()

    def _count(self) -> None:
        """Add the time since the last call to the stages that have been at work."""
        now = self.now()
        for stage in {ran.stage for ran in self.running.values()}:
            self.stages.setdefault(stage, Stage()).seconds += now - self.ticked
        self.ticked = now

    def tick(self) -> None:
        """Look where the running jobs are, and draw that."""
        self._count()
        if self.outputs:
            with suppress(OSError):
                self.outputs.find({job: ran.log for job, ran in self.running.items() if ran.log})
                for job, ran in self.running.items():
                    ran.bar = self.outputs.bar(job)
        self._draw()

    def _remaining(self) -> dict[str, tuple[float, bool]]:
        """Return {stage: (seconds of work that are left, whether some are guessed)}."""
        likes: dict[str, list[float]] = {}
        for ran in self.running.values():
            if ran.bar and ran.bar.left is not None:
                likes.setdefault(ran.rule, []).append(self.now() - ran.began + ran.bar.left)
        found: dict[str, tuple[float, bool]] = {}
        for job, planned in self.planned.items():
            if stage := self.stage_of.get(planned.rule):
                running = self.running.get(job)
                seconds, guessed = self.times.expect(planned, likes.get(planned.rule, ()))
                if running and running.bar and running.bar.left is not None:
                    seconds, guessed = running.bar.left, False
                elif running:
                    seconds = max(0.0, seconds - (self.now() - running.began))
                before = found.get(stage, (0.0, False))
                found[stage] = before[0] + seconds, before[1] or guessed
        return found

    def _workers(self) -> float:
        """Return how many jobs have run at once on average: that many will."""
        gone = self.now() - (self.began or self.now())
        busy = self.busy + sum(self.now() - ran.began for ran in self.running.values())
        return max(1.0, busy / gone) if gone > 0 else 1.0

    def _left(self, stages: Iterable[tuple[float, bool]]) -> str:
        """Return what is left of stages; nothing if there are none."""
        parts = list(stages)
        if not parts:
            return ""
        return rough(sum(seconds for seconds, _ in parts) / self._workers(), any(guessed for _, guessed in parts))

    def lines(self) -> list[str]:
        """Return the block: a line for each stage, and one for all."""
        remaining = self._remaining()
        rows = [("stage", "jobs", "time", "left", "")]
        for stage in dict.fromkeys(self.stage_of.values()):
            left = sum(self.stage_of.get(planned.rule) == stage for planned in self.planned.values())
            done = self.stages.get(stage, Stage())
            if not left and not done.done:
                continue
            told = [
                f"{ran.bar.percent}% {ran.told}" if ran.bar else ran.told
                for ran in self.running.values()
                if ran.stage == stage
            ]
            gone = clock(done.seconds) if done.seconds or done.done else ""
            more = self._left([remaining[stage]] if stage in remaining else [])
            rows.append((stage, f"{done.done}/{done.done + left}", gone, more, "; ".join(told) if left else "done"))
        gone = clock(self.now() - (self.began or self.now()))
        more = self._left(remaining.values())
        done_jobs = sum(stage.done for stage in self.stages.values())
        left_jobs = sum(planned.rule in self.stage_of for planned in self.planned.values())
        rows.append((OVERALL, f"{done_jobs}/{done_jobs + left_jobs}", gone, more, ""))
        wide = max(len(row[0]) for row in rows)
        return [f"{a:<{wide}}  {b:>7}  {c:>7}  {d:>11}  {e}".rstrip() for a, b, c, d, e in rows]

    def _draw(self) -> None:
        if self.screen and self.began is not None and (self.planned or self.stages) and not self.stop.is_set():
            with suppress(OSError):
                self.screen.draw(self.lines())

    def close(self) -> None:
        """Print how the run ended. Snakemake calls this last."""
        if not self.stop.is_set():
            with suppress(OSError):
                self._close()
            self.stop.set()
        super().close()

    def _close(self) -> None:
        if self.began is None:
            return
        for message in self.outputs.messages(-1, ()) if self.outputs else ():  # of jobs that could not be told apart
            self._print(message)
        if self.died and not self.failed and not self.interrupted:  # of no job
            self._print(self.died)
        self._draw()  # what is drawn last stays
        whole = self.done == self.total and not self.failed
        self.stop.set()
        if self.screen:
            self.screen.drawn = 0
        if whole and self.everything():
            self._print("\n" + "\n".join(ending(Path("results") / self.run)))
        elif self.failed or self.interrupted or self.stopped:
            count = len(self.failed)
            jobs = "1 job failed" if count == 1 else f"{count} jobs failed" if count else "Stopped"
            command = shlex.join(["python", "-m", "snakemake"] if sys.argv[0].endswith("__main__.py") else sys.argv[:1])
            again = f"{command} {shlex.join(sys.argv[1:])}".rstrip()
            self._print(f"{jobs}; what is finished is kept. The same command goes on from there:\n  {again}")
        elif whole and self.stages and not self.screen:  # where the block says so
            self._print(f"{self.done} of {self.total} jobs done in {clock(self.now() - self.began)}")
