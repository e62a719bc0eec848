"""Give each record its split, by hashes alone, so that a rerun or a new order changes nothing.

In: records. Out: records with `split` (train, valid, test, eval-unseen), those left out, and counts.
Near-copies are joined to clusters and a cluster never stands on both sides of a split. `eval-unseen` takes
whole groups: nothing of them is trained on. The score rule carves eval-hard
out of `test`.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from datasketch import MinHash, MinHashLSH
from tqdm import tqdm

from scripts.common.io import write_json, write_jsonl
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records


def unit_hash(*parts: object) -> float:
    """Return a number from 0 to 1 (excluded) that depends on `parts` alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def shingles(text: str, size: int) -> frozenset[str]:
    """Return the set of `size`-character pieces of a text, blanks made one and case dropped."""
    text = " ".join(text.lower().split())
    return frozenset(text[i : i + size] for i in range(max(1, len(text) - size + 1)))


def cluster(texts: Sequence[str], threshold: float, size: int = 4) -> list[int]:
    """Return for each text the index of the first text of its cluster.

    Two texts whose shingle sets have a Jaccard similarity of `threshold` (0 to 1) or more are near-copies;
    clusters are the connected components. MinHash finds candidates with some slack; the exact similarity decides.
    """
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    sets = [shingles(text, size) for text in texts]
    index = MinHashLSH(threshold=max(0.1, threshold - 0.2), num_perm=128)
    first: dict[frozenset[str], int] = {}
    for i, pieces in enumerate(tqdm(sets, desc="near-copies", unit="row", mininterval=1)):
        if pieces in first:
            parent[i] = root(first[pieces])
            continue
        first[pieces] = i
        sketch = MinHash(num_perm=128, seed=1)
        sketch.update_batch([piece.encode() for piece in sorted(pieces)])
        for j in index.query(sketch):
            if len(pieces & sets[j]) >= threshold * len(pieces | sets[j]):
                low, high = sorted((root(i), root(j)))
                parent[high] = low
        index.insert(i, sketch)
    return [root(i) for i in range(len(texts))]


def split(
    records: Sequence[Record],
    seed: int,
    near_copy_field: str,
    near_copy_threshold: float,
    valid_share: float,
    test_share: float,
    unseen_share: float,
) -> tuple[list[Record], list[dict[str, Any]], dict[str, Any]]:
    """Return records with their split, those left out with the reason, and counts.

    A split that a row brings is kept. Near-copies of a held-out row are left out of every other split.
    """
    labels = cluster([getattr(record, near_copy_field) for record in records], near_copy_threshold)
    members: dict[int, list[Record]] = defaultdict(list)
    for record, label in zip(records, labels, strict=True):
        members[label].append(record)
    given = {record.id for record in records if record.split}
    for record in records:
        if not record.split and record.group and unit_hash(seed, "unseen", record.group) < unseen_share:
            record.split = "eval-unseen"
    for items in members.values():
        free = [record for record in items if not record.split]
        if free:
            draw = unit_hash(seed, "cluster", min(record.id for record in items))
            chosen = "test" if draw < test_share else "valid" if draw < test_share + valid_share else "train"
            for record in free:
                record.split = chosen
    kept, left_out = [], []
    for items in members.values():
        present = {record.split for record in items}
        # strictest first: what an evaluation of unseen groups holds may be nowhere else
        strictest = next(s for s in ("eval-unseen", "eval-hard", "test", "valid", "train") if s in present)
        for record in items:
            if record.split == strictest or record.id in given:
                kept.append(record)
            else:
                reason = f"near-copy of a row in {strictest}"
                left_out.append({"id": record.id, "source": record.source, "split": record.split, "reason": reason})
    order = {record.id: i for i, record in enumerate(records)}
    kept.sort(key=lambda record: order[record.id])
    counts = {
        "records": len(records),
        "clusters": len(members),
        "largest_cluster": max(map(len, members.values())),
        "splits": dict(Counter(record.split for record in kept)),
        "left_out": len(left_out),
    }
    return kept, left_out, counts


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        done, dropped, summary = split(list(read_records(job.input.records)), job.params.seed, **job.params.split)
        write_jsonl(job.output.records, (record.to_json() for record in done))
        write_jsonl(job.output.left_out, dropped)
        write_json(job.output.counts, summary)
