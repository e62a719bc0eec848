"""List the environment's packages, versions and licenses as a CycloneDX SBOM.

In: the current environment. Out: sbom.cdx.json, the same bytes for the same packages.
"""

import subprocess
import sys
from pathlib import Path

from scripts.common.errors import GradusError
from scripts.common.io import atomic_path
from scripts.common.job import find_job
from scripts.common.logs import logging_to

# `python -m cyclonedx_py` with the project's jsonschema: it would check the grammar of each package's addresses for ten
# seconds, which the packages' own metadata give
TOOL = "import scripts.common.validation, runpy; runpy.run_module('cyclonedx_py', run_name='__main__')"


def write_sbom(output: str | Path) -> None:
    """Write the SBOM with CycloneDX's own tool, which validates it against its schema."""
    with atomic_path(output) as part:
        command = [sys.executable, "-c", TOOL, "environment", "--output-reproducible", "--validate"]
        done = subprocess.run(
            [*command, "--output-file", str(part), sys.executable], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise GradusError(
                f"the SBOM could not be written: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
            )


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_sbom(job.output.sbom)
