"""Memory and time that jobs declare, for all rules. On one machine, memory decides which jobs start together; a cluster
ends a job that takes more than it declared. A job that is tried again declares as many times as much. No rules.
"""

from math import prod

from scripts.common.weights import weights_mb

LONGEST = 3 * 24 * 60  # minutes


def sizes_mb(input, names):
    """The size in MB of the largest file, or of the largest weights in a folder, among each of the inputs `names`.

    Planning knows no sizes of files that are still to be made; Snakemake asks again when a job is ready to start.
    """
    found = [[input[name]] if isinstance(input[name], str) else input[name] for name in names]
    return [max(map(weights_mb, files), default=0) for files in found]


def memory(fixed, times=0.0, *names):
    """A function for `mem_mb`: `fixed`, and `times` the size of the largest weights in the inputs `names`."""

    def mem_mb(wildcards, input, attempt):
        return attempt * (fixed + int(times * max(sizes_mb(input, names), default=0)))

    return mem_mb


def minutes(fixed, times=0.0, *names):
    """A function for `runtime`, in minutes: `fixed`, and `times` the product of the sizes in MB of the inputs `names`.

    Several times what two slow cores take, and three days at most: a cluster refuses a job that asks for more than its
    partition allows. On one machine nothing comes of it.
    """

    def runtime(wildcards, input, attempt):
        needed = times * prod(sizes_mb(input, names)) if names else 0
        return min(attempt * (fixed + int(needed)), LONGEST)

    return runtime
