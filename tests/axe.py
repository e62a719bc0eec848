"""axe-core, which finds accessibility faults in a page: from npm, of one version, checked by its hash."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

NAME = "axe-core-4.14.1.tgz"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
CACHE = Path(".work/cache/npm")
GRAVE = ("serious", "critical")


def axe():
    """Return the script; skip the test where it cannot be had."""
    archive = CACHE / NAME
    if not archive.is_file():
        if shutil.which("npm") is None:
            pytest.skip("needs npm, to get axe-core")
        CACHE.mkdir(parents=True, exist_ok=True)
        package = NAME.removesuffix(".tgz").replace("core-", "core@")
        command = ["npm", "pack", package, "--silent", "--pack-destination", str(CACHE)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"npm cannot get {package}: no network?")
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    assert found == SHA512, f"{archive} is not what it was"
    with tarfile.open(archive) as opened:
        return opened.extractfile("package/axe.min.js").read().decode()


def faults(browser, script):
    """Return the serious and critical faults of the open page, each with the elements that have it."""
    if not browser.run("typeof axe === 'object'"):
        browser.run(f"{script}; 0")
    found = json.loads(browser.run("axe.run().then(found => JSON.stringify(found.violations))", wait=True))
    return [
        (fault["id"], [(node["target"], node["failureSummary"]) for node in fault["nodes"]])
        for fault in found
        if fault["impact"] in GRAVE
    ]
