"""Fix the plan of the experiment, before its first training.

In: what all trainings share (rows of each split, scores, base, chat contract). Out: experiment.json: the plan, with the
sha256 of each of these, and the plan's own hash. Every training writes the hash into its result, so results of two
plans are never mixed.

A plan that differs from the one that trainings in this folder were made with stops the run. Earlier plans are kept in
`experiment/plans`, which no rule declares.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file, sha256_folder, sha256_json
from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to

SHOWN = 8  # differences that are listed


def make_plan(settings: Mapping[str, Any], files: Mapping[str, str | Path]) -> dict[str, Any]:
    """Return {hash, plan}: the settings, and the sha256 of each file or folder."""
    contents = {
        name: sha256_folder(path) if Path(path).is_dir() else sha256_file(path) for name, path in sorted(files.items())
    }
    plan = {**settings, "files": contents}
    return {"hash": sha256_json(plan), "plan": plan}


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield `path: old → new` for each value that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield f"{path}: {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def require_same(made: Mapping[str, Any], folder: Path) -> None:
    """Raise GradusError if a training in the folder was made with another plan, naming both and what differs."""
    others: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*/*/seed*/result.json")):
        if (known := read_json(file)["plan"]) != made["hash"]:
            others.setdefault(known, []).append(file.parent.relative_to(folder).as_posix())
    if not others:
        return
    lines = []
    for known, trained in others.items():
        kept = folder / "plans" / f"{known[:12]}.json"
        changed = list(differences(read_json(kept)["plan"], made["plan"])) if kept.is_file() else ["(its plan is gone)"]
        more = [f"… and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else []
        lines += [
            f"{len(trained)} trainings ({trained[0]}, …) were made with plan {known[:12]}; the config has plan "
            f"{made['hash'][:12]} now. What differs:",
            *(f"  {line}" for line in [*changed[:SHOWN], *more]),
        ]
    raise GradusError(
        "\n  ".join(
            [
                "the plan of this experiment was changed after trainings were made with it.",
                *lines,
                "Nothing was deleted or mixed. Undo the change, give the new plan another `run:` name, or delete "
                f"{folder}, which starts the experiment over.",
            ]
        )
    )


if job := find_job(globals()):
    with logging_to(job.log[0]):
        fixed = make_plan(job.params.plan, dict(job.input.items()))
        place = Path(job.params.folder)
        require_same(fixed, place)
        write_json(place / "plans" / f"{fixed['hash'][:12]}.json", fixed)
        write_json(job.output.plan, fixed)
