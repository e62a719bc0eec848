"""What the checks find: one line each, passed or failed or told, kept in a file as soon as it is known."""

import json
import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError, first_line

PASSED, FAILED, TOLD, LEFT_OUT = "passed", "FAILED", "told", "not tested"


@dataclass
class Finding:
    """One line of the check."""

    name: str
    status: str  # PASSED, FAILED, TOLD (nothing to pass) or LEFT_OUT
    text: str
    figures: dict[str, Any] = field(default_factory=dict)


class Findings:
    """The findings of one process, in a file that its parent reads, also if the process dies."""

    def __init__(self, path: str | Path) -> None:
        """`path`: a file of one JSON object per line."""
        self.path = Path(path)

    def add(self, name: str, passed: bool | None, text: str, /, **figures: Any) -> None:
        """Keep a finding; `passed` is None where there is nothing to pass."""
        self._keep(Finding(name, TOLD if passed is None else PASSED if passed else FAILED, text, figures))

    def leave_out(self, name: str, text: str) -> None:
        """Keep why something was not tested."""
        self._keep(Finding(name, LEFT_OUT, text))

    def _keep(self, finding: Finding) -> None:
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(_finite(asdict(finding)), allow_nan=False) + "\n")

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Turn an error of the block into a finding that failed; what comes after the block goes on."""
        try:
            yield
        except Exception as error:
            text = str(error) if isinstance(error, GradusError) else f"{type(error).__name__}: {first_line(error)}"
            self.add(name, False, text, traceback=traceback.format_exc())

    def read(self) -> list[Finding]:
        """Return the findings so far."""
        if not self.path.is_file():
            return []
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # the last line may be half written
        return [Finding(**json.loads(line)) for line in whole.splitlines()]


def _finite(value: Any) -> Any:
    """Return the value with NaN and infinities as text: JSON has neither."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def run_job(check: Callable[[dict[str, Any], Findings], None], argument: str) -> None:
    """Run a check with the job in the file `argument` (JSON)."""
    job = json.loads(Path(argument).read_text(encoding="utf-8"))
    check(job, Findings(job["findings"]))
