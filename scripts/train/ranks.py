"""Several processes, the ranks, for one training: each computes its share of a step's rows, all take the same step.

Every rank has the whole model and goes through the whole file, as a single process does. In each step it takes every
n-th row, and gradients and loss are added up over the ranks; so all of them clip, update and log the same numbers.

This is what torch's DistributedDataParallel does, but in one sum after the backward pass: that class averages over
ranks, not tokens, wants as many backward passes on each, and sums in other groups after its first step, so that a
resumed training would not have the same bits. An adapter's gradients are small, so there is little to overlap.
"""

import hashlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist

from scripts.common.device import choose_device
from scripts.common.errors import GradusError, first_line
from scripts.common.io import read_json
from scripts.common.logs import explain, explain_gpu
from scripts.train.packing import IGNORED

LOST = 3  # exit code of a rank that lost another one, which is never what went wrong first
BY_TOKEN = ("input_ids", "labels")  # of a step: with a value for each token, not each row
PATIENCE = timedelta(minutes=30)  # a rank that does not answer for so long is lost
FORMAT = "%(levelname)s process {rank}, %(name)s: %(message)s"


class LostRank(Exception):
    """Another rank ended or does not answer."""


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of torch.distributed, for whatever is wrong with another rank
        if explain_gpu(error):  # of this rank's own GPU, which tells what went wrong only when it is asked again
            raise
        raise LostRank(first_line(error)) from None


class Ranks:
    """The processes of a training, seen from one of them. Without arguments: a training in this process alone."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        """`rank`: this process's number, of `count`."""
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        """Whether this rank writes what there is to write."""
        return self.rank == 0

    def seed(self, position: int) -> int:
        """Return a seed for a position in training that no other rank has."""
        return position * self.count + self.rank

    def share(self, inputs: Mapping[str, torch.Tensor], together: int = 1) -> Mapping[str, torch.Tensor]:
        """Return this rank's rows of a step that `collate` prepared: every n-th; maybe none, if there are few.

        `together`: how many rows in succession belong together. Tensors with a value for each row are divided alike.
        """
        if self.count == 1:
            return inputs
        lengths = inputs["lengths"]
        rows = torch.arange(len(lengths), device=lengths.device) // together % self.count == self.rank
        tokens = rows.repeat_interleave(lengths)
        return {name: values[tokens if name in BY_TOKEN else rows] for name, values in inputs.items()}

    def add_up(self, sums: torch.Tensor, parameters: Sequence[torch.nn.Parameter] = ()) -> torch.Tensor:
        """Give the parameters the sum of all ranks' gradients; return the sums of what each has in `sums`, (n,)."""
        if self.count == 1:
            return sums
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([sums, *(gradient.reshape(-1) for gradient in gradients)])
        with _together():
            dist.all_reduce(flat)
        parts = flat[len(sums) :].split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return flat[: len(sums)]

    def mean(self, measure: Callable[[Any], float], rows: Any) -> float:
        """Return `measure` of a dataset of rows, their mean loss per completion token; each rank measures a share."""
        if self.count == 1:
            return measure(rows)
        mine = rows.select(range(self.rank, len(rows), self.count))
        tokens = sum(label != IGNORED for row in mine for label in row["labels"][1:])
        sums = torch.tensor([measure(mine) * tokens if tokens else 0.0, tokens], dtype=torch.float64)
        with _together():
            dist.all_reduce(sums)
        return float(sums[0] / sums[1])

    def require_same(self, what: str, *values: Any) -> None:
        """Raise GradusError if values differ between ranks; `what` is said of them. A model stands for its adapter."""
        if self.count == 1:
            return
        found = hashlib.sha256()
        for value in values:
            if isinstance(value, torch.nn.Module):
                for parameter in value.parameters():
                    if parameter.requires_grad:
                        found.update(parameter.detach().cpu().numpy().tobytes())
            else:
                found.update(json.dumps(value).encode())
        mine = torch.frombuffer(bytearray(found.digest()), dtype=torch.uint8)
        all_of_them = [torch.empty_like(mine) for _ in range(self.count)]
        with _together():
            dist.all_gather(all_of_them, mine)
        if any(not torch.equal(mine, other) for other in all_of_them):
            raise GradusError(f"the {self.count} processes of this training {what}")


ALONE = Ranks()


def join(rank: int, count: int, device: str, meeting: Path) -> Ranks:
    """Return the ranks of a training on this machine once all have come; `meeting`: a file of their own.

    They talk over the loopback interface only. Raises GradusError if two would share a GPU.
    """
    loopback = next(
        name for name, given in psutil.net_if_addrs().items() if any(each.address == "127.0.0.1" for each in given)
    )
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = loopback
    store = dist.FileStore(str(meeting), count)
    with _together():
        # given to torch like this, accelerate does not see it: each rank's Trainer is that of a single process
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
        if device == "cuda":
            store.set(f"gpu {rank}", os.environ.get("CUDA_VISIBLE_DEVICES", "the only one"))
            taken = {store.get(f"gpu {other}") for other in range(count)}
            if len(taken) < count:
                raise GradusError(
                    f"train.processes is {count}, but only {len(taken)} GPUs are free for this training. Lower it, or "
                    "wait until other jobs are done (docs/gpu.md, Several GPUs for one training)"
                )
    return Ranks(rank, count)


def _end_with(parent: int) -> None:
    """End this process soon after the one that started it, however that one ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_rank(train: Callable[[Mapping[str, Any], Ranks], None]) -> None:
    """Train as one of the processes that `launch` started, with its arguments; `train` takes them and the ranks.

    What goes wrong is written where `launch` looks for it.
    """
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    folder, log = Path(sys.argv[1]), sys.argv[5]
    rank, count, parent = (int(number) for number in sys.argv[2:5])
    _end_with(parent)
    logging.captureWarnings(True)
    logging.basicConfig(
        filename=log, level=logging.WARNING if rank else logging.INFO, format=FORMAT.format(rank=rank + 1), force=True
    )
    # transformers advises its own way to use several processes, which this is not
    advised = logging.getLogger("transformers.training_args")
    advised.addFilter(lambda record: "torch.distributed process group" not in record.getMessage())
    given = read_json(folder / "arguments.json")
    try:
        train(given, join(rank, count, choose_device(given["params"]["device"]), folder / "meeting"))
    except LostRank as error:
        get_error_handler().record_exception(error)
        logging.warning("another process is lost: %s", error)
        os._exit(LOST)
    except Exception as error:
        known = str(error) if isinstance(error, GradusError) else explain(error)
        get_error_handler().record_exception(GradusError(known) if known else error)
        logging.warning("ended: %s", first_line(error))
        os._exit(1)  # not after the other ranks, for which torch might wait
    dist.destroy_process_group()


def launch(start: str, arguments: Mapping[str, Any], count: int, log: str | Path) -> None:
    """Train with so many processes, and end them all if one fails. `start`: the code that each runs, which calls
    `run_rank`; `arguments`: for JSON; `log`: the job's, to which they add.

    Raises GradusError with what went wrong, or RuntimeError with the traceback of a bug.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std, start_processes

    # it would tell on the terminal what is told below
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    log = Path(log).resolve()
    logging.basicConfig(filename=log, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "arguments.json").write_text(json.dumps(arguments, default=str), encoding="utf-8")
        ranks = start_processes(
            name="rank",
            entrypoint=sys.executable,
            args={rank: ("-c", start, scratch, rank, count, os.getpid(), log) for rank in range(count)},
            envs={rank: {} for rank in range(count)},
            # what the first prints is the job's output, as of a single process
            logs_specs=DefaultLogsSpecs(scratch, redirects=dict.fromkeys(range(1, count), Std.ALL)),
        )
        try:
            result = ranks.wait(period=0.2)
        except SignalException as error:
            sys.exit(128 + error.sigval)
        finally:
            ranks.close(signal.SIGKILL)
        if result is not None and result.is_failed():
            raise _failure(result.failures, count)


def _failure(failures: Mapping[int, Any], count: int) -> Exception:
    """Return what went wrong first: not that others were lost, or stopped by `launch`."""

    def told(rank: int) -> tuple[str, str]:
        data = failures[rank].error_file_data["message"]
        return (data["message"], data["extraInfo"]["py_callstack"]) if isinstance(data, dict) else ("", "")

    def consequence(rank: int) -> tuple[bool, int]:
        return failures[rank].exitcode in (LOST, -signal.SIGTERM), rank

    rank = min(failures, key=consequence)
    (text, trace), code = told(rank), failures[rank].exitcode
    kind, _, message = text.partition(": ")
    if kind == GradusError.__name__:
        return GradusError(message)
    if kind == LostRank.__name__:
        return GradusError(
            f"the {count} processes of this training could not exchange their gradients: {message}. If that happens "
            "again, train with train.processes: 1."
        )
    if text:
        return RuntimeError(f"{text}, in process {rank + 1} of {count}\n{trace}")
    why = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended ({code})"
    memory = "; the system does that if memory runs out" if code == -signal.SIGKILL else ""
    return GradusError(
        f"process {rank + 1} of the {count} of this training {why}{memory}. The others were stopped. The same command "
        "goes on from the last checkpoint."
    )
