"""The energy that the machine uses during a run, by codecarbon, without network; optional.

`python -m scripts.common.energy COUNTRY FILE` measures until its standard input is closed, as it is when the run ends,
however it ends. FILE gets a line for each sample: {start, end, kwh, kg, how}, times in seconds since 1970, kg of CO2
equivalents; `how` says what each number comes from.
"""

import importlib.util
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from scripts.common.errors import GradusError
from scripts.common.io import dump_line

PACKAGE = "codecarbon==3.3.2"
SECONDS = 15.0  # of a sample
Span = tuple[float, float]


class Samples:
    """What codecarbon calls with the totals since its start; writes a line for what has been added since the last."""

    def __init__(self, path: Path) -> None:
        """Append to `path`. `how` is to be set before the first call."""
        self.path, self.how, self.end = path, list[str](), time.time()
        self.before = {"kwh": 0.0, "kg": 0.0}

    def out(self, total: Any, delta: Any) -> None:
        """Write a sample. `total`: codecarbon's EmissionsData, in kWh and kg."""
        start, self.end = self.end, time.time()
        now = {"kwh": float(total.energy_consumed), "kg": float(total.emissions)}
        added = {key: value - self.before[key] for key, value in now.items()}
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(dump_line({"start": start, "end": self.end, "how": self.how, **added}))
        self.before = now

    def exit(self) -> None:
        """Do nothing at the end: codecarbon calls `out` before."""


def measure(country: str, path: Path, until: IO[str], seconds: float = SECONDS) -> None:
    """Append a sample to `path` every so many seconds, until `until` is closed. `country`: ISO 3166-1 alpha-3.

    All that codecarbon could send, or write elsewhere, is switched off, whatever its own config files say.
    """
    from codecarbon import OfflineEmissionsTracker

    samples = Samples(path)
    off = ("file", "api", "logger", "prometheus", "logfire")
    tracker = OfflineEmissionsTracker(
        country_iso_code=country,
        measure_power_secs=min(seconds, SECONDS),
        api_call_interval=-1,
        tracking_mode="machine",
        allow_multiple_runs=True,
        log_level="critical",
        output_methods=[],
        emissions_endpoint=None,
        electricitymaps_api_token=None,
        output_handlers=[samples],
        **{f"save_to_{way}": False for way in off},
    )
    tracker.start()
    # of its attributes, because what it hands out does not say it: RAPL, the load of a processor of so many watts, …
    watts = [getattr(part, "_tdp", None) for part in tracker._hardware]
    samples.how = [f"{part}{f', {w:g} W' if w else ''}" for part, w in zip(tracker._hardware, watts, strict=True)]
    while not select.select([until], [], [], seconds)[0]:
        tracker.flush()
    tracker.stop()


def start_measuring(country: str, path: Path) -> "subprocess.Popen[bytes]":
    """Measure beside this process, until it ends. Raises GradusError if codecarbon is not installed."""
    if importlib.util.find_spec("codecarbon") is None:
        raise GradusError(
            "report.energy_country is set, but codecarbon, which measures the energy, is missing. Set it to null, or "
            f"run `.venv/bin/python -m pip install -c envs/requirements.lock {PACKAGE}`"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "scripts.common.energy", country, str(path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, stdin=subprocess.PIPE, **quiet)  # type: ignore[call-overload,no-any-return]


def share_out(samples: Iterable[Mapping[str, Any]], jobs: Sequence[Span]) -> list[dict[str, float]]:
    """Return {kwh, kg, seconds} of each job, given the times from start to end of each: what the machine used during
    the job, by time. Jobs that run at once share it by their seconds in the sample, and time without a job is nobody's;
    `seconds` are those of the job that were measured.
    """
    found = [{"kwh": 0.0, "kg": 0.0, "seconds": 0.0} for _ in jobs]
    for sample in samples:
        length = sample["end"] - sample["start"]
        cut = [(max(start, sample["start"]), min(end, sample["end"]), n) for n, (start, end) in enumerate(jobs)]
        inside = sorted(span for span in cut if span[0] < span[1])
        whole = sum(end - start for start, end, _ in inside)
        busy, until = 0.0, sample["start"]
        for start, end, _ in inside:
            busy, until = busy + max(0.0, end - max(start, until)), max(end, until)
        for start, end, number in inside:
            found[number]["seconds"] += end - start
            for key in ("kwh", "kg"):
                found[number][key] += sample[key] * busy / length * (end - start) / whole
    return found


if __name__ == "__main__":
    measure(sys.argv[1], Path(sys.argv[2]), sys.stdin)
