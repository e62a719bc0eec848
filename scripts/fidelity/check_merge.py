"""Check a merge: all targeted tensors changed, no others did, and the merged model predicts as base + live adapter.

In: the checkpoint that was merged into, the one that was trained on, the last phase's folder, the merged checkpoint,
held-out rows (of `valid`; training rows if it is empty). Out: the gates' values, and how far the merged model is from
the model during training.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from scripts.common.chat import ChatContract, read_contract
from scripts.common.device import choose_device, secure_repeatability
from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.layerwise import predict
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.common.weights import find_tensors, read_tensor
from scripts.fidelity.divergence import Divergence, probes


def targeted(adapter: Path) -> set[str]:
    """Return the base's tensors that an adapter changes."""
    with safe_open(adapter / "adapter_model.safetensors", "pt") as handle:
        names = [name.removeprefix("base_model.model.") for name in handle.keys()]  # noqa: SIM118
    return {name.partition(".lora_")[0] + ".weight" for name in names if ".lora_" in name}


def compare_tensors(base: Path, adapter: Path, merged: Path) -> dict[str, Any]:
    """Count the tensors and the targeted ones, and which targeted and other tensors changed."""
    before, after, wanted = find_tensors(base), find_tensors(merged), targeted(adapter)
    changed = {
        name
        for name in before.keys() & after.keys()
        if not torch.equal(read_tensor(before[name], name), read_tensor(after[name], name))
    }
    others = (changed - wanted) | (before.keys() ^ after.keys())
    tied = [bool(read_json(folder / "config.json").get("tie_word_embeddings")) for folder in (base, merged)]
    broken = tied[0] and (not tied[1] or "lm_head.weight" in after.keys() - before.keys())
    return {
        "tensors": len(before),
        "targeted": len(wanted),
        "targeted_changed": len(changed & wanted),
        "others_changed": sorted(others),
        "tied": tied[0],
        "ties_broken": int(broken),
    }


def answer_logits(
    folder: Path, adapter: Path | None, rows: Sequence[tuple[list[int], int]], device: str = "cpu"
) -> Iterator[torch.Tensor]:
    """Yield fp32 logits at the answer tokens of each row: a checkpoint's bf16 weights, computed in fp32 on `device`."""
    keep = [len(ids) - start for ids, start in rows]
    return predict(folder, adapter, [ids[:-1] for ids, _ in rows], keep, torch.float32, device=device)


def diverge(
    reference: Iterable[torch.Tensor], other: Sequence[torch.Tensor], rows: Sequence[tuple[list[int], int]]
) -> dict[str, Any]:
    """Return how far `other` is from `reference` on the rows."""
    gathered = Divergence()
    for p, q, (ids, start) in zip(reference, other, rows, strict=True):
        gathered.add(p.numpy(), q.numpy(), ids[start:])
    return gathered.summary()


def check_merge(
    base: Path,
    trained_on: Path,
    adapter: Path,
    merged: Path,
    records: list[Record],
    contract: ChatContract,
    tokens: int,
    wanted: str = "auto",
) -> dict[str, Any]:
    """Return the gates' values and the measurements behind them. `wanted`: `train.device`."""
    device = choose_device(wanted)
    secure_repeatability(device)
    tensors = compare_tensors(base, adapter, merged)
    rows = probes(str(base), contract, records, tokens)
    merged_logits = list(answer_logits(merged, None, rows, device))
    live = diverge(answer_logits(base, adapter, rows, device), merged_logits, rows)
    same = trained_on == base
    seen = live if same else diverge(answer_logits(trained_on, adapter, rows, device), merged_logits, rows)
    return {
        "values": {
            "merge.targets_changed": round(tensors["targeted_changed"] / max(1, tensors["targeted"]), 6),
            "merge.others_changed": len(tensors["others_changed"]),
            "merge.ties_broken": tensors["ties_broken"],
            "merge.mean_kl": live["mean_kl"],
            "merge.max_kl": live["max_kl"],
        },
        "tensors": tensors,
        "rows": len(rows),
        "live_against_merged": live,
        "trained_against_merged": seen,
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        torch.set_num_threads(job.params.threads)
        write_json(
            job.output.facts,
            check_merge(
                Path(job.input.base),
                Path(job.input.trained_on),
                Path(job.input.last) / "adapter",
                Path(job.input.merged),
                list(read_records(job.input.records)) or list(read_records(job.input.instead)),
                read_contract(job.input.contract),
                job.params.tokens,
                job.config["train"]["device"],
            ),
        )
