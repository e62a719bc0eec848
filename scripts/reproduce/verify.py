"""`make verify`: run the small pipeline on the real model twice, in two folders, and compare every byte.

The first run is on all cores (the reference run, which may exist already), the second on one core, so that Snakemake
schedules jobs differently. With `python -m scripts.reproduce.verify TARGET …`, the second run makes only these files
and what they need.
Out: results/verify.json, {equal, files, differing, fingerprint, sources}.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT, sha256_file
from scripts.common.io import read_json, write_json
from scripts.common.project import source_fingerprint
from scripts.reproduce.compare_runs import artifacts, compare_bits
from scripts.reproduce.reference import RESULTS, lay_out, reference, run

FOLDER = ROOT / ".work" / "verify"
RESULT = ROOT / "results" / "verify.json"


def made(folder: Path, names: Iterable[str], fingerprint: Any) -> dict[str, Any]:
    """Return a manifest of those files in `names` that exist in `folder`."""
    existing = [name for name in names if (folder / name).is_file()]
    return {
        "fingerprint": fingerprint,
        "artifacts": {name: {"sha256": sha256_file(folder / name)} for name in existing},
    }


def verify(targets: Sequence[str] = ()) -> bool:
    """Run twice, write results/verify.json, return whether all files are equal. `targets`: those of the second run."""
    first = reference("real")
    second = lay_out(FOLDER, "real")
    print("Gradus: second run, on 1 core; this takes a few minutes …", flush=True)
    seconds = run(second, 1, *targets)
    print(f"Gradus: second run done in {seconds / 60:.1f} minutes", flush=True)
    manifest = read_json(first / RESULTS / "manifest.json")
    again = made(second, artifacts(manifest), manifest["fingerprint"])
    names = again["artifacts"] if targets else artifacts(manifest)
    result = compare_bits(made(first, names, manifest["fingerprint"]), again)
    result |= {"fingerprint": manifest["fingerprint"], "sources": source_fingerprint()}
    write_json(RESULT, result)
    counts = f"{len(result['files'])} files compared, {len(result['differing'])} differ"
    print(f"Gradus: {counts}; see {RESULT.relative_to(ROOT)}")
    for name, pair in result["differing"].items():
        print(f"  {name}: {pair[0]} against {pair[1]}")
    return bool(result["equal"])


if __name__ == "__main__":
    try:
        sys.exit(not verify(sys.argv[1:]))
    except GradusError as error:
        sys.exit(f"Gradus: {error}")
