"""Several processes for one training: the rows, losses and adapter of one, and what happens when one is killed."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import read_json
from scripts.train import ranks as module
from scripts.train.packing import collate, encode
from scripts.train.ranks import Ranks, _failure, launch, run_rank
from scripts.train.train_phase import RANK, TrainParams, train_in_processes, train_phase
from tests.unit.test_phase import CHANGES, Bench, history

# one thread each: on two cores, more would spin beside each other
TWO = {"threads": 1, "processes": 2}
ALONE_EACH = {**TWO, "micro_batch_tokens": 1}  # each row is a pack of its own
PACKED = {**TWO, "micro_batch_tokens": 1024}  # all rows of a step in one pack, or those of a process
TRAININGS = {"alone": ALONE_EACH, "packed": PACKED, "noisy": {**PACKED, **CHANGES}}


@pytest.fixture(autouse=True, scope="module")
def signals():
    """What torch does to this process's signals is undone."""
    caught = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    kept = {number: signal.getsignal(number) for number in caught}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_a_gpu_that_fails_while_gradients_are_added_up_is_no_lost_process():
    with pytest.raises(RuntimeError, match="ECC"), module._together():
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
    with pytest.raises(module.LostRank, match="closed"), module._together():
        raise RuntimeError("Connection closed by peer")


def several():
    """All TRAININGS in one rank, one after the other; writes down the rows that it computes."""

    def train(given, ranks):
        for arguments in given["trainings"].values():
            share, seen = Ranks.share, []

            def note(inputs, seen=seen, share=share):
                mine = share(ranks, inputs)
                seen.append([row.tolist() for row in mine["input_ids"].split(mine["lengths"].tolist())])
                return mine

            ranks.share = note
            train_phase(**{**arguments, "params": TrainParams(**arguments["params"])}, ranks=ranks)
            with open(f"{arguments['folder']}-rows{ranks.rank}.json", "w") as handle:
                json.dump(seen, handle)

    run_rank(train)


def plain(arguments):
    """Return a training's arguments as JSON has them."""
    return json.loads(json.dumps({**arguments, "params": dataclasses.asdict(arguments["params"])}, default=str))


@pytest.fixture(scope="module")
def trained(base, contract, tmp_path_factory):
    """TRAININGS by two processes, and the first two by one. Steps of four rows; the last two have two and one."""
    bench = Bench(tmp_path_factory.mktemp("ranks"), base, contract, rows=35)
    rows = bench.records
    bench.laid = [*(rows[n : n + 4] for n in range(0, 32, 4)), rows[32:34], rows[34:]]
    bench.write_steps(bench.laid)
    given = {name: plain(bench.arguments(name, **changes)) for name, changes in TRAININGS.items()}
    start = "from tests.unit.test_ranks import several; several()"
    launch(start, {"params": {"device": "auto"}, "trainings": given}, 2, bench.folder / "log")
    for name in ("alone", "packed"):
        bench.train(f"one-{name}", **{**TRAININGS[name], "processes": 1})
    return bench


def test_each_step_is_shared_and_has_exactly_the_rows_of_the_file(trained, base, contract):
    tokenizer = AutoTokenizer.from_pretrained(base)
    expected = [[sum(encode(tokenizer, contract, record), []) for record in step] for step in trained.laid]
    for name in TRAININGS:
        first, second = (read_json(trained.folder / f"{name}-rows{rank}.json") for rank in range(2))
        assert first == [step[::2] for step in expected]
        assert second == [step[1::2] for step in expected]
    assert second[-1] == []  # the last step has one row


# measured: docs/gpu.md, Several GPUs for one training
@pytest.mark.parametrize(("name", "of_loss", "of_adapter"), [("alone", 1e-6, 1e-5), ("packed", 1e-3, 0.05)])
def test_two_processes_give_the_losses_and_the_adapter_of_one(trained, name, of_loss, of_adapter):
    one, two = (history(trained.folder / f"{file}.jsonl") for file in (f"one-{name}", name))
    assert [line["tokens"] for line in one] == [line["tokens"] for line in two]
    for key in ("loss", "heldout_loss"):
        losses = [[line[key] for line in lines if key in line] for lines in (one, two)]
        assert losses[1] == pytest.approx(losses[0], rel=of_loss)
    one, two = (
        load_file(trained.folder / file / "adapter/adapter_model.safetensors") for file in (f"one-{name}", name)
    )
    apart = max(((one[key] - two[key]).norm() / one[key].norm()).item() for key in one)
    assert apart < of_adapter


def test_each_process_has_random_numbers_of_its_own(trained):
    """Dropout and noise: not those of one process twice, so another training, but one of the same losses, nearly."""
    assert trained.digest("noisy") != trained.digest("packed")
    assert [Ranks(rank, 2).seed(position) for position in (7, 8) for rank in (0, 1)] == [14, 15, 16, 17]
    assert Ranks().seed(7) == 7


@contextlib.contextmanager
def killing(bench, name, rank, step):
    """Kill a rank with -9 once there is a checkpoint of a step; yields a list of all ranks, and then of the moment."""
    known = []

    def kill():
        ranks = {}
        while len(ranks) < 2:  # found beforehand: ten steps are soon done
            for process in psutil.Process().children():
                with contextlib.suppress(psutil.Error):  # it may have ended
                    if RANK in (command := process.cmdline()):
                        ranks[command[4]] = process
            time.sleep(0.1)
        while not any(int(p.name[5:]) >= step for p in bench.folder.glob(f"work-{name}/*/step-*")):
            time.sleep(0.001)
        known.extend(ranks.values())
        known.append(time.monotonic())
        ranks[str(rank)].kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    yield known
    thread.join(10)


@pytest.mark.parametrize("rank", [0, 1])  # the first one writes the checkpoints
def test_with_one_process_killed_all_end_and_the_same_command_goes_on_to_the_same_bytes(trained, rank):
    name, log = f"killed-{rank}", trained.folder / "log"
    given = trained.arguments(name, **TRAININGS["noisy"])
    params = given.pop("params")
    with (
        killing(trained, name, rank, 1) as known,
        pytest.raises(GradusError, match=rf"process {rank + 1} of the 2 of this training was killed \(SIGKILL\)"),
    ):
        train_in_processes(given, params, log)
    assert time.monotonic() - known.pop() < 30  # other tests run beside this one
    assert len(known) == 2
    assert not any(process.is_running() for process in known)
    assert not (trained.folder / name).exists()
    train_in_processes(given, params, log)
    assert read_json(trained.folder / f"{name}.json")["resumed_at_step"] >= 1
    assert trained.digest(name) == trained.digest("noisy")
    losses = [[line["loss"] for line in history(trained.folder / f"{file}.jsonl")] for file in ("noisy", name)]
    assert losses[0] == losses[1]
    assert not list(trained.folder.glob(".*.part"))
    assert not (trained.folder / f"work-{name}").exists()


CHILD = """
import os, sys, time
from scripts.train.ranks import _end_with
_end_with(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(99)
"""
PARENT = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())]).wait()
"""


def test_processes_end_with_the_job_that_started_them_however_it_ended():
    command = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as job:
        rank = psutil.Process(int(job.stdout.readline()))
        os.kill(job.pid, signal.SIGKILL)
        rank.wait(20)


def failed(told=None, code=1):
    """Return a rank's end as torch describes it; `told`: the error that it wrote down."""
    data = {"message": told, "extraInfo": {"py_callstack": "Traceback …"}} if told else "<NONE>"
    return SimpleNamespace(error_file_data={"message": data}, exitcode=code)


LOST = failed(code=module.LOST)


@pytest.mark.parametrize(
    ("failures", "kind", "text"),
    [
        # of several, what went wrong first; the others only noticed, or were stopped
        ({0: LOST, 1: failed(code=-9)}, GradusError, "process 2 of the 2 of this training was killed (SIGKILL); the"),
        ({0: failed(code=-11), 1: failed(code=-15)}, GradusError, "process 1 of the 2 of this training was killed"),
        (
            {0: failed("LostRank: no /dev/shm", LOST.exitcode), 1: LOST},
            GradusError,
            "the 2 processes of this training could not exchange their gradients: no /dev/shm.",
        ),
        ({0: LOST, 1: failed("GradusError: the disk is full")}, GradusError, "the disk is full"),
        ({0: failed(code=-15), 1: failed("ValueError: no")}, RuntimeError, "ValueError: no, in process 2 of 2\n"),
        ({0: LOST, 1: failed(code=-15)}, GradusError, "process 1 of the 2 of this training ended (3). The others"),
    ],
)
def test_the_error_is_that_of_the_process_that_failed_first(failures, kind, text):
    error = _failure(failures, 2)
    assert type(error) is kind
    assert str(error).startswith(text)


def test_shares_of_a_step_are_the_step_also_if_it_has_fewer_rows_than_processes():
    rows = [{"input_ids": [n] * (n + 1), "labels": [n] * (n + 1)} for n in range(5)]
    for size in (1, 2, 5):
        whole = collate(rows[:size])
        shares = [Ranks(rank, 3).share(whole) for rank in range(3)]
        found = [row.tolist() for share in shares for row in share["labels"].split(share["lengths"].tolist())]
        assert sorted(found) == [row["labels"] for row in rows[:size]]
    assert Ranks().share(whole) is whole


def test_memory_is_that_of_all_processes_and_on_gpus_that_of_a_card():
    from scripts.train.estimate import LIBRARIES, of_all

    one = {"weights": 10, "libraries": LIBRARIES, "margin": 3}
    assert of_all(one, 1, "cpu") == of_all(one, 4, "cuda") == one
    assert of_all(one, 4, "cpu") == {"weights": 40, "libraries": 5 * LIBRARIES, "margin": 12}
