"""Files in S3, for real against a local server; and what other executors would run, planned without a cluster."""

import re
import socket
import subprocess
import time

import pytest
from botocore.session import get_session

from tests.slurm import PYTHON

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="Snakemake's plugins are not installed: `make clusters`")
BUCKET = "gradus"
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "NO_PROXY": "127.0.0.1"}


class Storage:
    """A project whose files are in the bucket of a server on loopback; `client` asks the server itself."""

    def __init__(self, project, endpoint, client):
        self.project, self.endpoint, self.client = project, endpoint, client

    def snakemake(self, *arguments, bucket=BUCKET):
        # the prefix last: the URL's option takes all that follows it
        server = ["--storage-s3-endpoint-url", self.endpoint, "--default-storage-provider", "s3"]
        return self.project.snakemake(
            *server, "--default-storage-prefix", f"s3://{bucket}/runs", *arguments, python=PYTHON
        )

    def upload(self, folder):
        """Put a folder of the project into the bucket, where the run looks for it."""
        for file in folder.rglob("*"):
            if file.is_file():
                key = f"runs/{file.relative_to(self.project.folder)}"
                self.client.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())

    def keys(self):
        return {item["Key"] for item in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])}


@pytest.fixture
def storage(fresh, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([PYTHON, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    began = time.monotonic()
    while socket.socket().connect_ex(("127.0.0.1", port)):
        assert server.poll() is None and time.monotonic() - began < 60
        time.sleep(0.2)
    endpoint = f"http://127.0.0.1:{port}"
    client = get_session().create_client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    yield Storage(fresh, endpoint, client)
    server.terminate()
    server.wait()


def test_a_run_in_s3_makes_the_same_bytes_and_is_then_finished(storage, reference):
    target = "results/tiny/data/dataset.jsonl"
    storage.upload(next(storage.project.folder.glob("data/raw/pypi-awscli-*")))
    code, text = storage.snakemake(target)
    assert code == 0 and "Fetching" not in text, text  # what it needs is in S3 already, a folder
    keys = storage.keys()
    assert {f"runs/{target}", "runs/results/tiny/data/split.json", "runs/results/tiny/logs/mask.log"} <= keys
    assert not (storage.project.folder / target).exists()
    made = storage.client.get_object(Bucket=BUCKET, Key=f"runs/{target}")["Body"].read()
    assert made == (reference.folder / target).read_bytes()
    code, text = storage.snakemake(target)
    assert code == 0 and "Nothing to be done" in text, text


def test_s3_that_cannot_be_used_stops_before_any_job(storage):
    code, text = storage.snakemake("results/tiny/data/dataset.jsonl", bucket="missing")
    assert code == 1 and "S3: bucket missing at" in text and "it does not exist" in text
    storage.endpoint = "http://127.0.0.1:1"
    code, text = storage.snakemake("results/tiny/data/dataset.jsonl")
    assert code == 1 and "S3: no answer from http://127.0.0.1:1; check the network" in text
    assert "Traceback" not in text and "Fetching" not in text


@pytest.mark.parametrize("profile", ["kubernetes", "aws-batch"])
def test_other_executors_plan_a_run_to_the_folder_for_ollama(storage, profile):
    command = ["--workflow-profile", f"profiles/{profile}", "--dry-run", "results/tiny/ollama"]
    code, text = storage.snakemake(*command)
    assert code == 0, text
    found = re.findall(r"^(\w+) +(\d+)$", text.partition("Job stats:")[2], re.MULTILINE)
    jobs = {rule: int(count) for rule, count in found}
    assert jobs["train_phase"] >= 3 and jobs["ollama"] == 1 and {"fetch", "merge", "quantize"} <= set(jobs)
    assert "s3://gradus/runs/results/tiny/ollama" in text
