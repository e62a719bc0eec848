"""What running jobs print: their progress bars, and messages for the user.

Each job prints into a file of its own, named by the number of its shell's process
(`redirect_jobs` in scripts/common/snakemake_internals.py).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

TAIL = 4000  # bytes of a file that can hold its last bar
CODES = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")  # of a terminal: colors, moves
LINES = 15  # of a job that ended without a message
BAR = re.compile(r".*?(\d+)%\|[^|]*\| *\S+/\S+ \[[\d:]+<([\d:]+|\?)[^\]]*\]?")
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
    pairs = [(line, BAR.sub("", line)) for line in lines]
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

    def _news(self) -> Iterable[str]:
        for file in sorted(self.folder.glob("*"), key=lambda file: file.stat().st_mtime):
            with file.open("rb") as handle:
                handle.seek(self.read.get(file, 0))
                text = handle.read().decode(errors="replace")
                self.read[file] = handle.tell()
            if text.strip():
                yield without_bars(text)

    def messages(self) -> list[str]:
        """Return the messages for the user that jobs have printed since the last call."""
        return [message for text in self._news() for message in MESSAGE.findall(text)]

    def reasons(self) -> str:
        """Return why a job failed: the messages since the last call, with a traceback that follows one; if there are
        none, the last lines of the file that was written last.
        """
        texts = [text for text in self._news() if text]
        told = [text[found.start() :] for text in texts if (found := MESSAGE.search(text))]
        return "\n".join(told or ["\n".join(texts[-1].splitlines()[-LINES:])] if texts else [])
