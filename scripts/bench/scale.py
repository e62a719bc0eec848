"""`python -m scripts.bench.scale [rows …]`: measure time and memory from ingest to audit as the number of rows grows.

Generates the given numbers of rows (default: 10,000, 100,000 and 1,000,000), runs the real rules on them and prints a
table; results/bench/scale.json has every rule's seconds and peak memory: resident (max_rss, pages that processes share
counted for each) and own (max_pss, such pages divided). The rows are synthetic: sentences of random words with
Zipf frequencies, 60 to 600 characters; one in ten is nearly a copy of an earlier row, one in a hundred is an exact
duplicate, one in fifty contains an email address, and one in ten thousand cannot be read.
"""

import csv
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from tqdm import tqdm

from scripts.common.hashing import ROOT
from scripts.common.io import atomic_open, write_json

WORDS = 20_000
CONFIG = """run: scale-{count}
base_model: smollm2-135m
data: {{task: qa, files: [.work/scale/{count}.jsonl], package: {{source: null}}}}
mask: {{allow: []}}
deduplicate: {{by: prompt}}
split: {{by: group, valid_share: 0.1, test_share: 0.1, unseen_share: 0.1}}
"""


def make_rows(count: int, seed: int = 1) -> Iterator[str]:
    """Yield `count` lines of JSONL, the same ones every time."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgkqjxz", k=rng.randrange(2, 11))) for _ in range(WORDS)]
    weights = list(accumulate(1 / (rank + 10) for rank in range(WORDS)))
    earlier: list[dict[str, Any]] = []
    for number in range(count):
        kind = rng.random()
        if kind < 0.0001:
            yield '{"prompt": "cut off\n'
            continue
        if kind < 0.11 and earlier:
            row = dict(rng.choice(earlier))
            if kind >= 0.01:
                row["prompt"] += f" {rng.choice(words)}"
                row["response"] += f" {number}"
        else:
            prompt, response = (" ".join(rng.choices(words, cum_weights=weights, k=rng.randrange(8, 60))) for _ in "ab")
            row = {"prompt": prompt, "response": response, "group": f"group {rng.randrange(max(10, count // 20))}"}
            if kind > 0.98:
                row["prompt"] += f" {rng.choice(words)}{number}@some-company.org"
        if len(earlier) < 1000:
            earlier.append(row)
        else:
            earlier[number % 1000] = row
        yield json.dumps(row) + "\n"


def run(count: int) -> dict[str, Any]:
    """Run `count` rows from ingest to audit; return total minutes, and seconds and peak memory (GiB, resident and own)
    of each rule.
    """
    folder = ROOT / ".work" / "scale"
    with atomic_open(folder / f"{count}.jsonl") as handle:
        for line in tqdm(make_rows(count), total=count, desc="generating rows", unit="row", mininterval=1):
            handle.write(line)
    (folder / f"{count}.yaml").write_text(CONFIG.format(count=count), encoding="utf-8")
    results = ROOT / "results" / f"scale-{count}"
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", str(folder / f"{count}.yaml")]
    target = f"results/scale-{count}/data/audit.json"
    subprocess.run([*command, "--", f"results/scale-{count}/data/chat_contract.json"], cwd=ROOT, check=True)
    began = time.monotonic()
    subprocess.run([*command, "--forcerun", "ingest", "--", target], cwd=ROOT, check=True)
    minutes = (time.monotonic() - began) / 60
    rules = {}
    for path in sorted((results / "benchmarks").glob("*.tsv")):
        with open(path, encoding="utf-8") as table:
            for row in csv.DictReader(table, delimiter="\t"):
                resident, own = (
                    round(float(row[name]) / 1024, 2) if row[name] not in ("-", "NA") else 0.0
                    for name in ("max_rss", "max_pss")
                )
                rules[path.stem] = {"seconds": round(float(row["s"]), 1), "peak_gib": resident, "own_gib": own}
    rules.pop("prepare_tokenizer", None)
    peaks = {name: max(rule[name] for rule in rules.values()) for name in ("peak_gib", "own_gib")}
    return {"minutes": round(minutes, 2), **peaks, "rules": rules}


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    measured = {}
    for count in [int(argument) for argument in arguments] or [10_000, 100_000, 1_000_000]:
        measured[count] = run(count)
        write_json(ROOT / "results" / "bench" / "scale.json", {str(key): value for key, value in measured.items()})
    names = list(next(iter(measured.values()))["rules"])
    print(f"| rows | minutes | peak memory of a rule (GiB): resident | own | {' | '.join(f'{n} (s)' for n in names)} |")
    print("|--:|" + "--:|" * (3 + len(names)))
    for count, row in measured.items():
        seconds = " | ".join(f"{row['rules'][name]['seconds']:g}" for name in names)
        print(f"| {count:,} | {row['minutes']:.1f} | {row['peak_gib']:.2f} | {row['own_gib']:.2f} | {seconds} |")


if __name__ == "__main__":
    main(sys.argv[1:])
