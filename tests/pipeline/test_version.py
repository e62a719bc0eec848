"""DVC, manifest, crate, archive, trace: on the real run, with a real remote, a real clone and a server that speaks S3."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from scripts.common.hashing import ROOT, sha256_file, sha256_folder
from scripts.common.io import write_json, write_jsonl
from scripts.common.packages import normalize
from scripts.report.curves import write_curves
from scripts.reproduce.reference import RANDOM_BASE
from scripts.version.version import version
from tests.project import Project

TOOLS = ROOT / ".venv" / "tools" / "bin"
pytestmark = pytest.mark.skipif(not (TOOLS / "dvc").is_file(), reason="`make tools` installs DVC")
FILES = [
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots/curves.json",
    ".dvcignore",
    ".gitignore",
    "Makefile",
    "README.md",
    "LICENSE",
    "pyproject.toml",
]


def run(folder, *command, code=0, **environment):
    """Run a command; return what it printed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def commit(folder, words):
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", words)


def clone(source, target):
    """Return a clone of the project as a Project, which has nothing but what git has."""
    run(source.parent, "git", "clone", "--quiet", source, target)
    return Project(target)


def record(project, words):
    """`snakemake version`, and a commit."""
    code, text = project.snakemake("all", "version")
    assert code == 0, text
    assert "To store it, run: git add dvc.yaml" in text
    commit(project.folder, words)


@pytest.fixture(scope="module")
def versioned(project, tmp_path_factory):
    """The run in a repository of its own, recorded and pushed to a folder; a copy, so that nothing is done to the run."""
    made = project.copy_to(tmp_path_factory.mktemp("versioned") / "project")
    for name in FILES:
        (made.folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, made.folder / name)
    config = made.folder / ".dvc/config"
    config.write_text(config.read_text().replace("../../gradus-store", str(made.folder.parent / "store")))
    run(made.folder, "git", "init", "--quiet")
    commit(made.folder, "Start")
    record(made, "First")
    run(made.folder, TOOLS / "dvc", "push", "--quiet")
    return made


def test_git_has_small_pointers_and_no_second_dag(versioned):
    listed = run(versioned.folder, "git", "ls-files").split()
    pointers = [name for name in listed if name.endswith(".dvc")]
    assert "results/tiny.dvc" in pointers
    assert any(name.startswith("data/raw/pypi-awscli") for name in pointers)
    assert all((versioned.folder / name).stat().st_size < 1000 for name in pointers)
    known = yaml.safe_load((versioned.folder / "dvc.yaml").read_text())
    assert set(known) == {"metrics", "plots", "artifacts"}
    assert known["artifacts"]["tiny-gguf"]["path"] == "results/tiny/ollama/model.gguf"
    assert {"results/tiny/curves/loss", "results/tiny/curves/heldout_loss"} < {next(iter(p)) for p in known["plots"]}
    shown = run(versioned.folder, TOOLS / "dvc", "metrics", "show", "--json")
    files = json.loads(shown)[""]["data"]
    assert files["results/tiny/metrics.json"]["data"]["base"]["test"]["exact"]["n"] == 4
    assert files["results/tiny/verdict.json"]["data"]["verdict"] == "not shown"


def test_a_fresh_clone_after_dvc_pull_has_nothing_to_rerun(versioned, tmp_path):
    copy = clone(versioned.folder, tmp_path / "clone")
    assert not list(copy.results.glob("*"))  # there is nothing yet
    run(copy.folder, TOOLS / "dvc", "pull", "--quiet")
    code, text = copy.snakemake("--dry-run")
    assert code == 0
    assert "was restored by DVC and is complete" in text
    assert "Nothing to be done" in text
    for name in ("ollama/model.gguf", "metrics.json"):
        assert sha256_file(copy.results / name) == sha256_file(versioned.results / name)
    code, text = copy.snakemake()  # and not only in a dry run; nor is it verified twice
    assert code == 0
    assert "Nothing to be done" in text
    assert "restored" not in text
    more = copy.folder / "more.yaml"  # Snakemake knows how each file was made: what changed reruns, and no more
    more.write_text("report: {examples: 2}\n")
    assert set(copy.planned(configs=("tiny.yaml", "more.yaml"))) == {"report", "manifest", "crate", "all"}
    damaged = next((copy.folder / ".dvc/cache/files/md5").glob(f"*/{md5_of(copy.results / 'ollama/model.gguf')[2:]}"))
    damage(damaged)
    shutil.rmtree(copy.results)
    shutil.rmtree(copy.folder / ".snakemake")
    run(copy.folder, TOOLS / "dvc", "checkout", "--quiet")
    code, text = copy.snakemake("--dry-run")
    assert code != 0
    assert "Traceback" not in text
    assert (
        f"its object in DVC's cache, {damaged}, is corrupted. Delete both, then run: dvc fetch results/tiny.dvc" in text
    )
    assert "is corrupted" in run(copy.folder, sys.executable, "-m", "scripts.version.dvc", code=1)
    for file in (damaged, copy.results / "ollama/model.gguf", copy.results / "export/tuned/Q4_K_M.gguf"):
        file.unlink()
    run(copy.folder, TOOLS / "dvc", "fetch", "--quiet", "results/tiny.dvc")
    run(copy.folder, TOOLS / "dvc", "checkout", "--quiet", "results/tiny.dvc")
    assert copy.planned() == {}


def md5_of(path):
    from scripts.version.dvc import md5

    return md5(path)


def damage(path):
    """Change a byte in the middle; the file's name, size and read-only mode stay."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    with open(path, "r+b") as handle:
        handle.seek(path.stat().st_size // 2)
        byte = handle.read(1)
        handle.seek(-1, 1)
        handle.write(bytes([byte[0] ^ 1]))
    path.chmod(mode)


def test_an_old_commit_brings_its_models_back_and_metrics_are_compared(versioned, tmp_path):
    """A row less to answer changes the metrics of a split, and no others."""
    copy = clone(versioned.folder, tmp_path / "clone")
    run(copy.folder, TOOLS / "dvc", "pull", "--quiet")
    assert copy.planned() == {}
    first = {name: sha256_file(copy.results / name) for name in ("metrics.json", "ollama/Modelfile", "manifest.json")}
    setting = copy.folder / "tiny.yaml"
    setting.write_text(setting.read_text().replace("eval-hard: 4", "eval-hard: 3"))
    record(copy, "Second")
    second = {name: sha256_file(copy.results / name) for name in first}
    assert second["manifest.json"] != first["manifest.json"]
    compared = json.loads(run(copy.folder, TOOLS / "dvc", "metrics", "diff", "--all", "--json", "HEAD~1"))
    rows = compared["results/tiny/metrics.json"]
    assert rows["base.test.exact.n"]["diff"] == 0
    assert rows["base.eval-hard.exact.n"]["diff"] == -1
    run(copy.folder, "git", "checkout", "--quiet", "HEAD~1")
    run(copy.folder, TOOLS / "dvc", "checkout", "--quiet")
    assert {name: sha256_file(copy.results / name) for name in first} == first
    assert copy.planned() == {}
    more = copy.folder / "more.yaml"  # a rerun that nobody records; then back to what was
    more.write_text("report: {examples: 1}\n")
    code, text = copy.snakemake("results/tiny/report.html", configs=("tiny.yaml", "more.yaml"))
    assert code == 0, text
    run(copy.folder, TOOLS / "dvc", "checkout", "--quiet", "--force")
    assert copy.planned() == {}
    run(copy.folder, "git", "checkout", "--quiet", "-")
    run(copy.folder, TOOLS / "dvc", "checkout", "--quiet")
    assert {name: sha256_file(copy.results / name) for name in second} == second
    assert copy.planned() == {}


@pytest.fixture
def s3(tmp_path):
    """A server that speaks S3, on this machine; return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [TOOLS / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(100):
        try:
            urllib.request.urlopen(urllib.request.Request(f"{address}/gradus", method="PUT"), timeout=5).read()
            break
        except OSError:
            time.sleep(0.2)
    yield address
    server.kill()
    server.wait()


def test_a_remote_on_s3(versioned, s3, tmp_path):
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    keys |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    run(versioned.folder, TOOLS / "dvc", "remote", "add", "--local", "--force", "s3", "s3://gradus/store")
    run(versioned.folder, TOOLS / "dvc", "remote", "modify", "--local", "s3", "endpointurl", s3)
    run(versioned.folder, TOOLS / "dvc", "push", "--quiet", "--remote", "s3", "results/tiny.dvc", **keys)
    copy = clone(versioned.folder, tmp_path / "clone")
    shutil.copy(versioned.folder / ".dvc/config.local", copy.folder / ".dvc/config.local")
    run(copy.folder, TOOLS / "dvc", "pull", "--quiet", "--remote", "s3", "results/tiny.dvc", **keys)
    assert sha256_file(copy.results / "ollama/model.gguf") == sha256_file(versioned.results / "ollama/model.gguf")
    assert sha256_folder(copy.results / "hf") == sha256_folder(versioned.results / "hf")


# --- what changed, in DVC's own words


def record_small(seeds, loss, difference):
    """Write a run with a verdict and learning curves, as a finished run has them, and record it by the pipeline's code."""
    place = Path("results/small")
    write_json(place / "metrics.json", {"tuned": {"test": {"exact": {"value": 0.5, "n": 8}}}})
    write_json(place / "manifest.json", {"sources": {}})
    verdict = "worth it" if difference > 0 else "not worth it"
    write_json(place / "verdict.json", {"verdict": verdict, "difference": difference, "interval": [-0.1, 0.3], "n": 8})
    histories = []
    for seed in range(1, seeds + 1):
        for number, phase in enumerate(("easy", "hard")):
            lines = [
                {"step": step, "loss": loss + seed / 8 - number - step / 16, "tokens": 40 * step} for step in (1, 2, 3)
            ]
            lines[-1]["heldout_loss"] = loss + seed / 8 - number
            histories.append(f"results/small/train/shuffled/seed{seed}/{phase}/history.jsonl")
            write_jsonl(histories[-1], lines)
    write_curves(histories, place / "curves.csv")
    if seeds > 1:
        rows = [
            "variant,arm,seed,step,tokens,heldout_loss",
            "main,shuffled,1,3,120,1.5",
            "constant,shuffled,1,3,120,1.75",
        ]
        (place / "experiment").mkdir()
        (place / "experiment/curves.csv").write_text("\n".join(rows) + "\n")
    version("small", [], {}, [], place / "records.json")


def plotted(page):
    """{title: {(revision, arm, seed): [(x, y), …]}} of the page that `dvc plots diff` writes, read as its template does."""
    plots = {}
    for text in page.read_text().split("var spec = ")[1:]:
        spec, _ = json.JSONDecoder().raw_decode(text)
        across, up = (re.search(r"'(\w+)'", spec["transform"][number]["calculate"])[1] for number in (0, 1))
        lines = plots.setdefault(spec["title"], {})
        for point in spec["data"]["values"]:
            if point[up] != "":
                key = (point["rev"], point.get("variant", "main"), point["arm"], point["seed"])
                lines.setdefault(key, []).append((int(point[across]), float(point[up])))
    return plots


def test_dvc_shows_verdict_and_curves_across_commits(tmp_path, monkeypatch):
    for name in FILES[:5]:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{TOOLS}{os.pathsep}{os.environ['PATH']}")
    run(tmp_path, "git", "init", "--quiet")
    record_small(seeds=1, loss=2.0, difference=-0.02)
    commit(tmp_path, "First")
    record_small(seeds=2, loss=1.5, difference=0.11)
    commit(tmp_path, "Second")
    rows = json.loads(run(tmp_path, TOOLS / "dvc", "metrics", "diff", "--json", "HEAD~1"))["results/small/verdict.json"]
    assert rows["difference"] == {"old": -0.02, "new": 0.11, "diff": pytest.approx(0.13)}
    assert (rows["verdict"]["old"], rows["verdict"]["new"]) == ("not worth it", "worth it")
    run(tmp_path, TOOLS / "dvc", "plots", "diff", "HEAD~1", "--out", "plots")
    plots = plotted(tmp_path / "plots/index.html")
    assert set(plots) == {"small: training loss", "small: held-out loss", "small: held-out loss of the experiment"}
    old, new, other = (("HEAD~1", "1"), ("workspace", "1"), ("workspace", "2"))
    held_out = {(rev, seed): line for (rev, _, _, seed), line in plots["small: held-out loss"].items()}
    assert held_out == {
        old: [(3, 2.125), (6, 1.125)],
        new: [(3, 1.625), (6, 0.625)],
        other: [(3, 1.75), (6, 0.75)],
    }
    training = {(rev, seed): line for (rev, _, _, seed), line in plots["small: training loss"].items()}
    assert set(training) == {old, new, other}
    assert [step for step, _ in training[old]] == [1, 2, 3, 4, 5, 6]
    assert training[old][:4] == [(1, 2.0625), (2, 2.0), (3, 1.9375), (4, 1.0625)]
    assert {key[:2] for key in plots["small: held-out loss of the experiment"]} == {
        ("workspace", "main"),
        ("workspace", "constant"),
    }


# --- manifest, crate, SBOM, trace, archive


def test_the_manifest_names_every_file_with_its_hash_and_line_of_descent(project):
    manifest = json.loads((project.results / "manifest.json").read_text())
    made = manifest["artifacts"]
    outside = {"logs", "benchmarks", "workflow"}
    after = {"manifest.json", "config.yaml", "ro-crate-metadata.json", "sbom.cdx.json", "records.json"}
    for file in project.results.rglob("*"):
        inner = file.relative_to(project.results)
        if (
            file.is_file()
            and not file.name.startswith(".")
            and inner.parts[0] not in outside
            and str(inner) not in after
        ):
            path = f"results/tiny/{inner}"
            owner = next((p for p in (path, *(f"results/tiny/{up}" for up in inner.parents)) if p in made), None)
            assert owner, f"{path} is in no manifest"
            facts = made[owner] if owner == path else made[owner]["files"][path.removeprefix(f"{owner}/")]
            assert facts["sha256"] == sha256_file(file)
            assert facts["bytes"] == file.stat().st_size
    assert all(facts["rule"] and (facts["code"] or facts["rule"] == "fetch") for facts in made.values())
    gguf = made["results/tiny/export/tuned/Q4_K_M.gguf"]
    assert (
        gguf["inputs"]["results/tiny/export/tuned/bf16.gguf"] == made["results/tiny/export/tuned/bf16.gguf"]["sha256"]
    )
    assert manifest["config"]["curriculum"]["phases"][0]["rows"] == 16
    assert manifest["packages"]["torch"].startswith("2.")
    assert "AVX2" in manifest["llama_cpp"]["built_with"]
    assert manifest["fingerprint"]["not_as_locked"] == {}
    assert manifest["fingerprint"]["threads"] == {"train": 2, "evaluate": 1}
    assert manifest["git"]["commit"] is None  # the copy is no repository


def test_the_saved_config_is_the_run(project):
    text = (project.results / "config.yaml").read_text()
    (project.folder / "saved.yaml").write_text(text)
    assert project.planned(configs=("saved.yaml",)) == {}


def test_the_gguf_carries_the_hashes_of_dataset_template_and_system_prompt(project):
    from scripts.common.chat import read_contract
    from scripts.common.gguf_info import metadata, open_gguf
    from scripts.common.hashing import sha256_text

    contract = read_contract(project.results / "data/chat_contract.json")
    for quant in ("bf16", "Q4_K_M"):
        said = metadata(open_gguf(project.results / f"export/tuned/{quant}.gguf"))
        assert said["gradus.dataset.sha256"] == sha256_file(project.results / "curriculum/train.jsonl")
        assert said["gradus.chat_template.sha256"] == sha256_text(contract.chat_template)
        assert said["gradus.system_prompt.sha256"] == sha256_text(contract.system_prompt)
        assert said["gradus.chat_contract.sha256"] == contract.hash
    assert "gradus.dataset.sha256" not in metadata(open_gguf(project.results / "export/base/bf16.gguf"))


def test_the_crate_keeps_to_its_profile(project, tmp_path):
    python = TOOLS / "python"
    done = run(project.folder, python, "-m", "scripts.provenance.validate_crate", "results/tiny")
    assert "conforms to workflow-run-crate-0.5" in done
    crate = json.loads((project.results / "ro-crate-metadata.json").read_text())
    listed = {entity["@id"]: entity for entity in crate["@graph"]}
    assert listed["ollama/"]["sha256"]
    assert listed["#run"]["instrument"] == {"@id": "workflow/Snakefile"}
    assert (project.results / "workflow/rules/train.smk").is_file()
    for entity in crate["@graph"]:
        if entity["@id"] == "#run":
            del entity["instrument"]
    (tmp_path / "ro-crate-metadata.json").write_text(json.dumps(crate))
    assert "instrument" in run(project.folder, python, "-m", "scripts.provenance.validate_crate", tmp_path, code=1)


def test_the_sbom_lists_the_environment(project):
    listed = json.loads((project.results / "sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    versions = {part["name"].lower(): part["version"] for part in listed["components"]}
    assert versions["torch"].startswith("2.")
    assert versions["llama_cpp_python"]
    # and so does the manifest
    packages = json.loads((project.results / "manifest.json").read_text())["packages"]
    assert {normalize(name): version for name, version in versions.items()} == packages


def test_a_ggufs_line_of_descent_reaches_raw_rows_and_config(project, tmp_path):
    copy = tmp_path / "somewhere.gguf"
    shutil.copy(project.results / "ollama/model.gguf", copy)
    text = run(project.folder, sys.executable, "-m", "scripts.provenance.trace", copy)
    for words in (
        "is results/tiny/export/tuned/Q4_K_M.gguf of run tiny",
        "results/tiny/train/curriculum/seed1/easy/trained  [train_phase",
        "results/tiny/data/converted/awscli.jsonl  [convert",
        "data/raw/pypi-awscli-1.46.3  [",
        f"{RANDOM_BASE}  [",
        "config results/tiny/config.yaml",
    ):
        assert words in text, words
    with open(copy, "ab") as handle:
        handle.write(b"x")
    refused = run(project.folder, sys.executable, "-m", "scripts.provenance.trace", copy, code=1)
    assert "is not in any results/*/manifest.json" in refused
    assert "gradus.dataset.sha256" in refused


def test_the_archive_is_the_same_bytes_twice_and_runs_offline(project, tmp_path):
    copy = project.copy_to(tmp_path / "copy")
    for name in FILES:
        (copy.folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy.folder / name)
    tar = copy.folder / "results/archives/tiny.tar"
    sums = []
    for _ in range(2):
        code, text = copy.snakemake("archive", "--forcerun", "archive")
        assert code == 0, text
        sums.append(sha256_file(tar))
        os.utime(copy.folder / "Snakefile")
    assert sums[0] == sums[1]
    with tarfile.open(tar) as archive:
        assert {member.mtime for member in archive} == {0}
        archive.extractall(tmp_path / "unpacked", filter="data")
    there = tmp_path / "unpacked/gradus-tiny"
    assert (there / "envs/requirements.lock").is_file()
    # offline: no address is reachable but this machine's own
    offline = ["unshare", "--net"] if shutil.which("unshare") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "snakemake", "results/tiny/curriculum/train.jsonl", "results/tiny/base"]
    run(there, *offline, *command, "--cores", "2", "--configfile", "archive/tiny/config.yaml")
    for name in ("curriculum/train.jsonl", "base/model.safetensors", "tokenizer/tokenizer.json"):
        assert sha256_file(there / "results/tiny" / name) == sha256_file(project.results / name)
