"""What experiment trackers get of a training, read by their own packages; and that none of it goes over the network."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from scripts.common.chat import write_contract
from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.train.tracking import FOLDER, Tracking
from tests.unit.test_phase import history

# the second phase is killed after two steps and goes on; held-out loss after every second step. Every connection that
# Python is asked for is listed: libraries may swallow the error of one that is refused
TRAIN = """
import json, sys
from pathlib import Path
import pytest
asked = []
networked = ("socket.connect", "socket.getaddrinfo", "socket.sendto")
sys.addaudithook(lambda event, args: asked.append(str(args)) if event in networked else None)
from scripts.common.chat import read_contract
from tests.unit.test_phase import Bench, Killed, stop_after, train_phase
tracker, base, contract = sys.argv[1:]
bench = Bench(Path.cwd(), Path(base), read_contract(contract), rows=16)
def train(name, previous=None):
    given = bench.arguments(name, name, previous, report_to=tracker, evaluate_every=2, checkpoint_steps=1)
    train_phase(**given, tracked_as=f"demo/shuffled-1-{name}")
train("easy")
with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
    stop_after(patch, 2)
    train("medium", bench.folder / "easy")
train("medium", bench.folder / "easy")
bench.train("untracked", evaluate_every=2)
assert bench.digest("untracked") == bench.digest("easy")
print(json.dumps(asked))
"""
TENSORBOARD = """
import json, sys
from pathlib import Path
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
runs = {}
for folder in Path(sys.argv[1]).glob("tensorboard/demo/*"):
    events = EventAccumulator(str(folder)).Reload()
    tags = {"loss": "train/loss", "learning_rate": "train/learning_rate", "heldout_loss": "eval/loss"}
    runs[folder.name] = {name: {e.step: e.value for e in events.Scalars(tag)} for name, tag in tags.items()}
print(json.dumps(runs))
"""
TRACKIO = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage
runs = {}
for run in SQLiteStorage.get_runs("demo"):
    logs = [line for line in SQLiteStorage.get_logs("demo", run) if "train/loss" in line]
    tags = {"loss": "train/loss", "learning_rate": "train/learning_rate", "heldout_loss": "eval/loss"}
    runs[run] = {
        name: {line["train/global_step"]: line[tag] for line in logs if tag in line} for name, tag in tags.items()
    }
print(json.dumps(runs))
"""


def run(code, *arguments, **where):
    """Run a Python program, offline as in a job; return what it printed last, read as JSON."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"HF_HUB_OFFLINE": "1", "TRACKIO_DIR": str(where["cwd"] / FOLDER / "trackio")}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **where)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_tracker_that_is_not_installed_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_trackio_available", lambda: False)
    with pytest.raises(
        GradusError, match=r"train\.report_to: trackio cannot be used here.*docs/training\.md, Trackers"
    ):
        Tracking("trackio", "demo", "easy", 0)


@pytest.mark.parametrize(("tracker", "read"), [("tensorboard", TENSORBOARD), ("trackio", TRACKIO)])
def test_a_tracker_has_the_history_by_the_step_of_all_phases_changes_nothing_and_asks_no_network(
    base, contract, tmp_path, tracker, read
):
    if not importlib.util.find_spec(tracker):
        pytest.skip(f"{tracker} is not installed; docs/training.md has the command")
    write_contract(tmp_path / "given.json", contract)
    assert run(TRAIN, tracker, base, tmp_path / "given.json", cwd=tmp_path) == []
    runs = run(read, FOLDER, cwd=tmp_path)
    assert len(runs) == 2  # the killed phase went on in its own
    first = 0
    for phase in ("easy", "medium"):
        [tracked] = [run for name, run in runs.items() if name.startswith(f"shuffled-1-{phase}-")]
        lines = history(tmp_path / f"{phase}.jsonl")
        for name in ("loss", "learning_rate", "heldout_loss"):
            wanted = {str(first + line["step"]): line[name] for line in lines if name in line}
            assert tracked[name] == pytest.approx(wanted, rel=1e-5), (phase, name)
        assert set(map(int, tracked["heldout_loss"])) == {first + 2, first + 4}
        first += len(lines)
    assert first == 8
