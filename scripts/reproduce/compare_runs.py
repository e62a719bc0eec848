"""`python -m scripts.reproduce.compare_runs ONE TWO [--tolerance T]`: compare two runs.

ONE and TWO are manifest.json files. The runs are compared bit by bit if their fingerprints (lock file, CPU, threads,
device) are equal. Otherwise this is refused, with the reason; then compare their metrics within a tolerance.
"""

import argparse
import fnmatch
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import read_json

# files with times or speeds, which differ from run to run; all others must be equal
TIMED = {
    "*/report.html": "speeds and times",
    "*/cost.json": "times",
    "*/figures/timeline.*": "times",
    "*/tables/cost*": "times",
    "*/tables/quants.*": "tokens/s",
    "*/tables/training.*": "seconds and tokens/s",
    "*/tables/answering.*": "seconds and tokens/s",
    "*.speed.json": "tokens/s",
    "*/fidelity/speed.json": "tokens/s",
    "*/experiment/spent.csv": "seconds of each training",
    "*/experiment/*/spent.json": "seconds of a training",
    "*/history.jsonl": "seconds of each step",
    "*/summary.json": "seconds and tokens/s",
}


def artifacts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return {file: sha256} of the run's sources and outputs without times; for a folder, of each file in it."""
    files = {}
    for path, facts in {**manifest.get("sources", {}), **manifest["artifacts"]}.items():
        for inner, more in facts.get("files", {"": facts}).items():
            name = f"{path}/{inner}" if inner else path
            if more["sha256"] and not any(fnmatch.fnmatch(name, pattern) for pattern in TIMED):
                files[name] = more["sha256"]
    return files


def differing_fingerprints(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each part of the fingerprint that differs."""
    first, second = one["fingerprint"], two["fingerprint"]
    for key in sorted(first.keys() | second.keys()):
        a, b = first.get(key), second.get(key)
        if a != b:
            if isinstance(a, list) and isinstance(b, list):
                a, b = sorted(set(a) - set(b)), sorted(set(b) - set(a))
            yield f"{key}: {json.dumps(a)} against {json.dumps(b)}"


def compare_bits(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
    """Return {equal, files: {file: sha256}, differing: {file: [sha256, sha256]}}; null means no such file.

    Raises GradusError if the fingerprints differ: then equal bits cannot be expected.
    """
    if reasons := list(differing_fingerprints(one, two)):
        raise GradusError(
            "the runs cannot be compared bit by bit because they were made under different conditions:\n  "
            + "\n  ".join(reasons)
            + "\nTo compare their metrics instead, use --tolerance 0.05"
        )
    # a temporary file may be left over from a killed run
    temporary = {path for run in (one, two) for path, facts in run["artifacts"].items() if not facts["sha256"]}
    a, b = ({k: v for k, v in artifacts(run).items() if k not in temporary} for run in (one, two))
    differing = {name: [a.get(name), b.get(name)] for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)}
    return {"equal": not differing, "files": a, "differing": differing}


def flatten(metrics: Mapping[str, Any], name: str = "") -> dict[str, float | None]:
    """Return {model/split/metric: value} of a metrics.json; None where no row counts for the metric."""
    if "value" in metrics:
        return {name: None if metrics["value"] is None else float(metrics["value"])}
    return {k: v for key, part in metrics.items() for k, v in flatten(part, f"{name}/{key}".lstrip("/")).items()}


def difference(one: float | None, two: float | None) -> float:
    """Return by how much two values differ: infinitely if only one of them is None."""
    if one is None or two is None:
        return 0.0 if one is two else math.inf
    return abs(one - two)


def compare_metrics(one: Mapping[str, Any], two: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    """Return {equal, metrics: {name: [value, value]}, differing}: those that differ by more than `tolerance`."""
    a, b = flatten(one), flatten(two)
    if a.keys() != b.keys():
        raise GradusError(f"the runs have different metrics: {', '.join(sorted(a.keys() ^ b.keys())[:3])} …")
    pairs = {name: [a[name], b[name]] for name in sorted(a)}
    differing = {name: pair for name, pair in pairs.items() if difference(*pair) > tolerance}
    return {"equal": not differing, "tolerance": tolerance, "metrics": pairs, "differing": differing}


def main() -> None:
    """Print the differences; exit with 0 if there are none, 1 if there are, 2 if the runs cannot be compared."""
    parser = argparse.ArgumentParser(description="Compare two runs by their manifests.")
    parser.add_argument("one", type=Path, help="manifest.json of a run")
    parser.add_argument("two", type=Path, help="manifest.json of another")
    parser.add_argument("--tolerance", type=float, help="compare the runs' metrics.json, by absolute difference")
    given = parser.parse_args()
    try:
        if given.tolerance is None:
            result = compare_bits(read_json(given.one), read_json(given.two))
            print(f"{len(result['files'])} files, {len(result['differing'])} differ")
        else:
            metrics = [read_json(path.parent / "metrics.json") for path in (given.one, given.two)]
            result = compare_metrics(metrics[0], metrics[1], given.tolerance)
            largest = max((difference(*pair) for pair in result["metrics"].values()), default=0)
            print(
                f"{len(result['metrics'])} metrics, {len(result['differing'])} differ; largest difference {largest:.3f}"
            )
    except (GradusError, OSError) as error:
        print(f"Gradus: {error}", file=sys.stderr)
        sys.exit(2)
    for name, (first, second) in result["differing"].items():
        print(f"  {name}: {first} against {second}")
    sys.exit(not result["equal"])


if __name__ == "__main__":
    main()
