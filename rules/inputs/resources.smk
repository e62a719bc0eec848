"""Memory and time that jobs declare, for all rules. On one machine, memory decides which jobs start together; a cluster
ends a job that takes more than it declared. A job that is tried again declares as many times as much. No rules.
"""

from math import prod
from pathlib import Path

from scripts.common.sources import ROW_FILES
from scripts.common.weights import weights_mb

LONGEST = 3 * 24 * 60  # minutes
# minutes for each MB of rows: 16 times what the slowest data stage takes (docs/data.md, How it scales)
OF_ROWS = 0.05
# minutes for each MB of weights that are read or written: ten times the slowest (docs/training.md, At real sizes)
OF_WEIGHTS = 0.01
# how many times as large compressed rows are as JSON lines: the rows of aws-cli, which shrink more than those of us-address
UNPACKED = {".jsonl.gz": 9, ".parquet": 6}
# the same as OF_WEIGHTS, for each token that a model computes there layer by layer (importance), or that several are compared on
IMPORTANCE, COMPARING = 1e-6, 1e-5


def size_mb(path):
    """The size in MB of a file, or of the weights and rows in a folder; of compressed rows, about what they unpack to."""
    rows = [file for file in Path(path).glob("*") if file.name.endswith(ROW_FILES)]
    times = next((times for ending, times in UNPACKED.items() if str(path).endswith(ending)), 1)
    return times * weights_mb(path) + sum(map(size_mb, rows))


def sizes_mb(input, names, of):
    """The size in MB of each of the inputs `names`; `of` says which size several files have: `max` or `sum`.

    Planning knows no sizes of files that are still to be made; Snakemake asks again when a job is ready to start.
    """
    found = [[input[name]] if isinstance(input[name], str) else input[name] for name in names]
    return [of([0, *map(size_mb, files)]) for files in found]


def memory(fixed, times=0.0, *names, of=max):
    """A function for `mem_mb`: `fixed`, and `times` the size in MB of the largest of the inputs `names`.

    Models are loaded one at a time; of rows in several files, `of=sum` counts all.
    """

    def mem_mb(wildcards, input, attempt):
        return attempt * (fixed + int(times * max(sizes_mb(input, names, of), default=0)))

    return mem_mb


def minutes(fixed, times=0.0, *names, of=max):
    """A function for `runtime`, in minutes: `fixed`, and `times` the product of the sizes in MB of the inputs `names`.

    Several times what two slow cores take, and three days at most: a cluster refuses a job that asks for more than its
    partition allows. On one machine nothing comes of it.
    """

    def runtime(wildcards, input, attempt):
        needed = times * prod(sizes_mb(input, names, of)) if names else 0
        return min(attempt * (fixed + int(needed)), LONGEST)

    return runtime
