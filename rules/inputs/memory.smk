"""Memory that jobs declare, for all rules. No rules."""

from scripts.common.weights import weights_mb


def memory(fixed, times=0.0, *names):
    """The `mem_mb` of a rule: `fixed`, and `times` the size of the largest weights in the inputs `names`.

    Planning knows no sizes of files that are still to be made; Snakemake asks again when a job is ready to start.
    """

    def mem_mb(wildcards, input):
        found = [[input[name]] if isinstance(input[name], str) else input[name] for name in names]
        return fixed + int(times * max(map(weights_mb, sum(found, [])), default=0))

    return mem_mb
