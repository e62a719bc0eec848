"""Checkpoints within a phase: written completely or not at all, and sufficient to resume to the same bytes.

A phase's checkpoints are folders such as `step-000120` in a work folder that no rule declares (Snakemake would delete
it with a failed job's outputs), in a subfolder named after a fingerprint of all that shapes the result. A checkpoint
holds the adapter, the optimizer state, the loss history, and state.json: position, held-out losses, and the files'
sha256. The learning rate and the random numbers of a step are functions of its position, so they need no state.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file
from scripts.common.io import atomic_path, read_json, write_json


@dataclass
class Progress:
    """How far a phase has progressed. Steps count from the start of the phase."""

    step: int = 0
    seconds: float = 0.0  # spent in steps, over all attempts
    best_step: int | None = None  # the step with the lowest held-out loss so far; None before the first evaluation
    best_loss: float | None = None
    evaluations_since_best: int = 0
    stopped_early: bool = False
    files: dict[str, str] = field(default_factory=dict)  # sha256 of each file of the checkpoint


class Checkpoints:
    """The checkpoints of one phase with one fingerprint."""

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        """`keep`: how many of the newest checkpoints to keep; those with the best adapter so far are kept as well."""
        self.folder, self.keep = Path(folder), keep

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint at `step`."""
        return self.folder / f"step-{step:06d}"

    def save(self, model: Any, optimizer: torch.optim.Optimizer, history: str | Path, progress: Progress) -> None:
        """Write the checkpoint of `progress.step` completely or not at all, then delete checkpoints not needed."""
        with atomic_path(self.path(progress.step)) as part:
            part.mkdir()
            save_trained(model, optimizer, part)
            shutil.copy(history, part / "history.jsonl")
            progress.files = {
                file.relative_to(part).as_posix(): sha256_file(file)
                for file in sorted(part.rglob("*"))
                if file.is_file()
            }
            write_json(part / "state.json", asdict(progress))
        self._prune()

    def _complete(self) -> list[Progress]:
        """Return the checkpoints whose files are all present and unchanged, newest first."""
        complete = []
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                progress = Progress(**read_json(folder / "state.json"))
                if any(sha256_file(folder / name) != digest for name, digest in progress.files.items()):
                    raise ValueError("a file has changed since it was written")
            except (OSError, ValueError, TypeError, GradusError) as error:
                logging.warning("checkpoint %s is not used: %s", folder, error)
            else:
                complete.append(progress)
        return complete

    def newest(self) -> Progress | None:
        """Return the progress of the newest complete checkpoint whose best one is complete as well, or None."""
        complete = self._complete()
        steps = {progress.step for progress in complete}
        return next((p for p in complete if p.best_step is None or p.best_step in steps), None)

    def _prune(self) -> None:
        folders = sorted(self.folder.glob("step-*"), reverse=True)
        wanted = set(folders[: self.keep])
        for folder in folders[: self.keep]:
            best = json.loads((folder / "state.json").read_text(encoding="utf-8"))["best_step"]
            if best is not None:
                wanted.add(self.path(best))
        for folder in folders:
            if folder not in wanted:
                shutil.rmtree(folder)


def save_trained(model: Any, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Write the adapter and the optimizer's state into `folder`, as safetensors."""
    model.save_pretrained(folder / "adapter", safe_serialization=True)
    save_optimizer(optimizer, folder / "optimizer.safetensors")


def _entries(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of a parameter's state. bitsandbytes nests its 8-bit moments and their scales one deeper."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _entries(value)
        else:
            yield name, value


def save_optimizer(optimizer: torch.optim.Optimizer, path: str | Path) -> None:
    """Write the state of every parameter (Adam's moments, step counts, 8-bit scales) as safetensors.

    Raises TypeError for a value that would be lost.
    """
    tensors = {}
    for number, values in optimizer.state_dict()["state"].items():
        for name, value in _entries(values):
            if not isinstance(value, torch.Tensor | int) or isinstance(value, bool):
                raise TypeError(f"the optimizer's {name} is {value!r}, neither a tensor nor an integer")
            tensors[f"{number}.{name}"] = torch.as_tensor(value).detach().cpu().clone().contiguous()
    save_file(tensors, path)


def load_optimizer(optimizer: torch.optim.Optimizer, path: str | Path) -> None:
    """Give `optimizer` the state that `save_optimizer` wrote for the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in load_file(path).items():
        number, _, name = key.partition(".")
        # torch counts steps in a floating-point tensor, bitsandbytes in a Python integer
        counted = value.dtype == torch.int64 and value.dim() == 0
        state.setdefault(int(number), {})[name] = int(value) if counted else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
