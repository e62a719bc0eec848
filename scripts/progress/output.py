"""What running jobs print: their progress bars, and messages for the user.

Each job prints into a file of its own, named by the number of its shell's process
(`redirect_jobs` in scripts/common/snakemake_internals.py).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

TAIL = 2000  # bytes of a file that can hold its last bar, and of a line: in longer ones BAR would search for minutes
MOST = 2**20  # bytes of a file that are read
CODES = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")  # of a terminal: colors, moves
LINES = 15  # of a job that ended without a message
BAR = re.compile(r".*?(\d{1,3})%\|[^|]*\| *\S+/\S+ \[[\d:]+<([\d:]+|\?)[^\]]*\]?")
MESSAGE = re.compile(r"^Gradus: .*(?:\n.+)*", re.MULTILINE)


@dataclass(frozen=True)
class Bar:
    """A progress bar: percent done, and seconds left if tqdm knows them."""

    percent: int
    left: float | None


def read_bar(text: str) -> Bar | None:
    """Return the bar that a text ends with; None if it ends with something else."""
    found = BAR.match(re.split(r"[\r\n]", text.rstrip())[-1])
    if not found:
        return None
    left = None
    if found[2] != "?":
        left = float(sum(int(part) * 60**place for place, part in enumerate(reversed(found[2].split(":")))))
    return Bar(int(found[1]), left)


def without_bars(text: str) -> str:
    """Return a text without redrawn lines, bars and control codes."""
    lines = (line.rpartition("\r")[2] for line in CODES.sub("", text).replace("\r\n", "\n").split("\n"))
    pairs = [(line, BAR.sub("", line) if "%|" in line and len(line) < TAIL else line) for line in lines]
    return "\n".join(left for line, left in pairs if left.strip() or left == line).strip()


class Outputs:
    """The files that the jobs of a run print into."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where they are."""
        self.folder = folder
        self.read: dict[Path, int] = {}  # bytes of each file that have been looked at
        self.of_job: dict[int, Path] = {}

    def find(self, logs: Mapping[int, str]) -> None:
        """Find which file each job prints into; `logs`: {job: its log file}, which it has open and no other job has."""
        wanted = {str(Path(log).resolve()): job for job, log in logs.items() if job not in self.of_job}
        for process in psutil.Process().children(recursive=True) if wanted else ():
            try:
                mine = [wanted[file.path] for file in process.open_files() if file.path in wanted]
                files = [self.folder / str(one.pid) for one in (process, *process.parents())] if mine else []
            except psutil.Error:  # it has ended
                continue
            if file := next((file for file in files if file.is_file()), None):
                self.of_job.update(dict.fromkeys(mine, file))

    def bar(self, job: int) -> Bar | None:
        """Return the bar that a job shows now."""
        if job not in self.of_job:
            return None
        with self.of_job[job].open("rb") as handle:
            handle.seek(max(0, handle.seek(0, 2) - TAIL))
            return read_bar(handle.read().decode(errors="replace"))

    def _said(self, job: int, alone: bool) -> str:
        """Return what a job that has ended has printed since the last call. If its file has not been found, as of one
        that took no second: what all ended jobs without a file have, the last one's last, provided that it is `alone`
        in this.
        """
        files = [self.of_job[job]] if job in self.of_job else []
        if not files and alone:
            others = set(self.of_job.values())
            files = [file for file in self.folder.iterdir() if file not in others and not _runs(file)]
        text = ""
        for file in sorted(files, key=lambda file: (file.stat().st_mtime_ns, file)):
            with file.open("rb") as handle:
                handle.seek(max(self.read.get(file, 0), handle.seek(0, 2) - MOST))
                text += "\n\n" + handle.read().decode(errors="replace")
                self.read[file] = handle.tell()
        return without_bars(text)

    def messages(self, job: int, others: Iterable[int]) -> list[str]:
        """Return the messages for the user of a job that has succeeded; `others`: the jobs that still run."""
        alone = all(other in self.of_job for other in others)
        return [str(message) for message in MESSAGE.findall(self._said(job, alone))]

    def reason(self, job: int) -> tuple[list[str], str]:
        """Return (messages before, why a job failed): the last message, with a traceback that follows, or the last
        lines that it printed. The messages before can be of another job that ended together with it.
        """
        text = self._said(job, alone=True)
        found = list(MESSAGE.finditer(text))
        if not found:
            return [], "\n".join(text.splitlines()[-LINES:])
        return [message[0] for message in found[:-1]], text[found[-1].start() :]

    def forget(self, job: int) -> None:
        """Note that a job starts again: it will print into another file."""
        self.of_job.pop(job, None)


def _runs(file: Path) -> bool:
    return file.name.isdigit() and psutil.pid_exists(int(file.name))
