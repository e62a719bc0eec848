"""`make verify`: run the small pipeline on the real model twice, in two folders, and compare every byte.

Once on all cores (the reference run, which may be there already) and once on one: Snakemake then runs other jobs side
by side. `python -m scripts.reproduce.verify TARGET …` makes only these files, and what they need, the second time.
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
    """Return what a manifest says of those of the files `names` that a folder has."""
    there = [name for name in names if (folder / name).is_file()]
    return {"fingerprint": fingerprint, "artifacts": {name: {"sha256": sha256_file(folder / name)} for name in there}}


def verify(targets: Sequence[str] = ()) -> bool:
    """Run twice, write results/verify.json, return whether all is equal; `targets`: all that the second run makes."""
    first = reference("real")
    second = lay_out(FOLDER, "real")
    print("Gradus: second run, 1 core: some minutes …", flush=True)
    seconds = run(second, 1, *targets)
    print(f"Gradus: second run done in {seconds / 60:.1f} minutes", flush=True)
    manifest = read_json(first / RESULTS / "manifest.json")
    again = made(second, artifacts(manifest), manifest["fingerprint"])
    names = again["artifacts"] if targets else artifacts(manifest)
    found = compare_bits(made(first, names, manifest["fingerprint"]), again)
    found |= {"fingerprint": manifest["fingerprint"], "sources": source_fingerprint()}
    write_json(RESULT, found)
    counts = f"{len(found['files'])} files compared, {len(found['differing'])} differ"
    print(f"Gradus: {counts}; see {RESULT.relative_to(ROOT)}")
    for name, pair in found["differing"].items():
        print(f"  {name}: {pair[0]} against {pair[1]}")
    return bool(found["equal"])


if __name__ == "__main__":
    try:
        sys.exit(not verify(sys.argv[1:]))
    except GradusError as error:
        sys.exit(f"Gradus: {error}")
