"""Comparing runs, pinned packages, Snakemake's records, locks."""

import copy
import json
import modulefinder
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.common import code, guard, packages
from scripts.common.code import code_fingerprint, imported_names, local_files
from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import write_json
from scripts.common.machine import fingerprint
from scripts.common.packages import differing_from_lock, normalize
from scripts.reproduce import reference
from scripts.reproduce.compare_runs import compare_bits, compare_metrics
from scripts.reproduce.verify import made
from scripts.version.restore import set_dates
from scripts.version.version import describe_run, merge_runs

FINGERPRINT = {"lock": "a", "threads": {"train": 2}, "instruction_set": ["avx2", "avx512f"]}


def manifest(**artifacts):
    return {
        "fingerprint": copy.deepcopy(FINGERPRINT),
        "artifacts": {f"results/r/{name.replace('_', '.')}": {"sha256": sha} for name, sha in artifacts.items()},
    }


def test_equal_runs_are_equal_and_times_do_not_count():
    one = manifest(rows_jsonl="1", report_html="2")
    two = manifest(rows_jsonl="1", report_html="3")
    assert compare_bits(one, two) == {"equal": True, "files": {"results/r/rows.jsonl": "1"}, "differing": {}}


def test_of_two_that_want_a_reference_run_one_makes_it(tmp_path, monkeypatch):
    made = []

    def run(folder, cores):
        made.append(folder)
        time.sleep(0.3)
        return 0.3

    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    monkeypatch.setattr(reference, "lay_out", lambda folder, base: folder.mkdir(exist_ok=True) or folder)
    monkeypatch.setattr(reference, "run", run)
    with ThreadPoolExecutor(2) as both:
        assert list(both.map(reference.reference, ["random", "random"])) == [tmp_path / "random"] * 2
    assert made == [tmp_path / "random"]


def test_the_seconds_of_an_experiments_trainings_do_not_count_and_its_effects_do():
    names = ("main/a/seed1/spent.json", "spent.csv", "effects.json", "experiment.md")
    one, two = ({"fingerprint": {}, "artifacts": {}} for _ in range(2))
    for run, sha in ((one, "1"), (two, "2")):
        run["artifacts"] = {f"results/r/experiment/{name}": {"sha256": sha} for name in names}
    differing = compare_bits(one, two)["differing"]
    assert set(differing) == {"results/r/experiment/effects.json", "results/r/experiment/experiment.md"}


def test_another_byte_and_a_missing_file_are_named():
    found = compare_bits(manifest(rows_jsonl="1", a_gguf="2"), manifest(rows_jsonl="9"))
    assert not found["equal"]
    assert found["differing"] == {"results/r/rows.jsonl": ["1", "9"], "results/r/a.gguf": ["2", None]}


def test_a_second_run_is_compared_with_the_first_ones_manifest(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, text in ((one, "1"), (two, "2")):
        folder.mkdir()
        (folder / "same").write_text("same")
        (folder / "other").write_text(text)
    (one / "not-made-again").write_text("")
    names = ["same", "other", "not-made-again"]
    found = compare_bits(made(one, names, {}), made(two, names, {}))
    assert set(found["differing"]) == {"other", "not-made-again"}
    assert made(two, names, {})["artifacts"].keys() == {"same", "other"}


def test_a_folders_files_are_compared_one_by_one():
    one = {
        "fingerprint": {},
        "artifacts": {"results/r/hf": {"sha256": "x", "files": {"a": {"sha256": "1"}, "b": {"sha256": "2"}}}},
    }
    two = copy.deepcopy(one)
    two["artifacts"]["results/r/hf"]["files"]["b"]["sha256"] = "3"
    assert compare_bits(one, two)["differing"] == {"results/r/hf/b": ["2", "3"]}


def test_bits_of_different_machines_are_not_compared_and_the_reason_is_given():
    one, two = manifest(rows_jsonl="1"), manifest(rows_jsonl="1")
    two["fingerprint"]["threads"]["train"] = 1
    two["fingerprint"]["instruction_set"] = ["avx2"]
    with pytest.raises(GradusError) as refused:
        compare_bits(one, two)
    text = str(refused.value)
    assert 'threads: {"train": 2} against {"train": 1}' in text
    assert 'instruction_set: ["avx512f"] against []' in text
    assert "--tolerance" in text


def test_the_command_says_so_with_its_exit_code(tmp_path):
    metrics = {"base": {"test": {"exact": {"value": 0.25, "n": 4}}}}
    for name, threads, value in (("one", 2, 0.25), ("two", 2, 0.25), ("three", 1, 0.29)):
        folder = tmp_path / name
        folder.mkdir()
        made = manifest(rows_jsonl="1")
        made["fingerprint"]["threads"]["train"] = threads
        metrics["base"]["test"]["exact"]["value"] = value
        (folder / "manifest.json").write_text(json.dumps(made))
        (folder / "metrics.json").write_text(json.dumps(metrics))

    def compare(other, *more):
        command = [
            sys.executable,
            "-m",
            "scripts.reproduce.compare_runs",
            tmp_path / "one/manifest.json",
            tmp_path / other / "manifest.json",
        ]
        done = subprocess.run([*map(str, command), *more], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert compare("two") == (0, "1 files, 0 differ\n")
    code, text = compare("three")
    assert code == 2
    assert "made under different conditions" in text
    assert compare("three", "--tolerance", "0.05") == (0, "1 metrics, 0 differ; largest difference 0.040\n")
    code, text = compare("three", "--tolerance", "0.01")
    assert code == 1
    assert "base/test/exact: 0.25 against 0.29" in text
    assert compare("nowhere")[0] == 2


def test_metrics_that_are_not_the_same_ones_are_refused():
    with pytest.raises(GradusError, match="different metrics"):
        compare_metrics({"a": {"value": 1}}, {"b": {"value": 1}}, 0.1)


def test_a_metric_that_no_row_counts_for_is_compared_too():
    one = {"exact": {"value": 0.5}, "checks": {"value": None}}
    assert compare_metrics(one, one, 0.1)["equal"]
    assert compare_metrics(one, one | {"checks": {"value": 0.0}}, 0.1)["differing"] == {"checks": [None, 0.0]}


def test_the_fingerprint_holds_what_shapes_bits(monkeypatch):
    first = fingerprint({"train": 2, "evaluate": 1}, "AVX2 = 1")
    assert len(first["lock"]) == 64
    assert first["not_as_locked"] == {}
    assert first["threads"] == {"train": 2, "evaluate": 1}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    second = fingerprint({"train": 2, "evaluate": 1}, "AVX2 = 1")
    assert first != second
    assert second["dispatch"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/anywhere")  # torch sets it itself once it is imported
    assert fingerprint({"train": 2, "evaluate": 1}, "AVX2 = 1") == second
    assert differing_from_lock({"torch": "0.1", "numpy": packages.read_lock()[0]["numpy"]}) == {"torch": "0.1"}


def test_lock_and_environment_name_packages_alike():
    """One name for each package, however its own metadata spell it."""
    installed = packages.installed_packages()
    assert {"pyyaml", "llama-cpp-python", "jinja2", "torch"} <= set(installed)
    assert all(name == normalize(name) for name in [*installed, *packages.read_lock()[0]])
    unknown = set(installed) - set(packages.read_lock()[0])
    assert unknown <= {"pip", "setuptools", "wheel"} | {name for name in unknown if name.startswith("nvidia-")}


def test_a_package_stands_for_all_that_it_brings():
    versions = packages.needed_versions(["transformers", "yaml"])
    assert {"transformers", "tokenizers", "safetensors", "pyyaml"} <= set(versions)
    assert "torch" not in versions
    assert "torch" in packages.needed_versions(["peft"])
    assert packages.needed_versions(["no_such_package"]) == {}


def test_every_package_that_the_scripts_import_is_pinned():
    imported = set()
    for file in (ROOT / "scripts").rglob("*.py"):
        if "bench" not in file.parts:
            names = imported_names(file.read_text(), ".".join(file.parent.relative_to(ROOT).parts))
            imported |= {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    unknown = {name for name in imported if packages.package_of(name) not in packages.read_lock()[0]}
    others = {"unsloth", "rocrate_validator", "inspect_ai", "codecarbon", "vllm", "snakemake_executor_plugin_slurm"}
    assert unknown == {"scripts", *others}  # in environments of their own, or the user's


class LocalModules(modulefinder.ModuleFinder):
    """Python's own search for what a script imports, which stops at what is not ours."""

    def find_module(self, name, path, parent=None):
        if parent is None and name != "scripts":
            raise ImportError
        return super().find_module(name, path, parent)


def test_every_local_module_that_a_script_can_reach_is_in_its_fingerprint():
    missing = {}
    for script in (ROOT / "scripts").glob("**/*.py"):
        finder = LocalModules([str(ROOT)])
        finder.run_script(str(script))
        files = [Path(module.__file__) for module in finder.modules.values() if module.__file__]
        reached = {file / "__init__.py" if file.is_dir() else file for file in files}
        missing[script.relative_to(ROOT)] = reached - {path for path, _, _ in local_files(script)}
    assert not any(missing.values()), missing


def test_imports_of_every_form_are_seen(tmp_path):
    for name in ("__init__", "a", "b", "deep/__init__", "deep/c", "deep/d", "deep/e", "unused"):
        file = tmp_path / "pack" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    (tmp_path / "pack/a.py").write_text("import pack.deep.c\nimport numpy.linalg\ndef f():\n    from pack import b\n")
    (tmp_path / "pack/deep/c.py").write_text("from . import d\nfrom .e import *\n")
    (tmp_path / "pack/b.py").write_text("import pack.a as again\n")
    found = {
        path.relative_to(tmp_path / "pack").as_posix() for path, _, _ in local_files(tmp_path / "pack/a.py", tmp_path)
    }
    assert found == {"__init__.py", "a.py", "b.py", "deep/__init__.py", "deep/c.py", "deep/d.py", "deep/e.py"}


def test_an_edit_is_seen_past_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "CACHE", tmp_path / "cache/code.json")
    (tmp_path / "a.py").write_text("x = 1\n")
    hashes = []
    for text in (None, "x = 2\n", None):
        if text:
            (tmp_path / "a.py").write_text(text)
        code._files.cache_clear()
        hashes += [sha256 for _, sha256, _ in local_files(tmp_path / "a.py", tmp_path)]
        code._files().save()
    code._files.cache_clear()
    assert hashes[0] != hashes[1] == hashes[2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: "[]",
        lambda kept: kept[:-9],
        lambda kept: "null",
        lambda kept: json.dumps(json.loads(kept) | {"files": []}),
        lambda kept: json.dumps(json.loads(kept) | {"files": dict.fromkeys(json.loads(kept)["files"], {})}),
        lambda kept: json.dumps(json.loads(kept) | {"code": "another version"}),
    ],
)
def test_a_cache_that_is_damaged_or_of_another_version_is_dropped(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(code, "CACHE", tmp_path / "cache/code.json")
    (tmp_path / "a.py").write_text("import json\n")
    code._files.cache_clear()
    before = list(local_files(tmp_path / "a.py", tmp_path))
    code._files().save()
    kept = code.CACHE.read_text().replace('["json"]', '["nonsense"]')
    assert "nonsense" in kept
    code.CACHE.write_text(damage(kept))
    code._files.cache_clear()
    assert list(local_files(tmp_path / "a.py", tmp_path)) == before
    code._files.cache_clear()


def test_another_version_changes_the_fingerprint_of_what_needs_it(monkeypatch, tmp_path):
    before = {name: code_fingerprint(name) for name in ("train/train_phase", "data/split")}
    lock = tmp_path / "requirements.lock"
    lock.write_text(packages.LOCK.read_text().replace("\nbitsandbytes==0", "\nbitsandbytes==1"))
    monkeypatch.setattr(packages, "LOCK", lock)
    packages.read_lock.cache_clear()
    packages._needs.cache_clear()
    after = {name: code_fingerprint(name) for name in before}
    packages.read_lock.cache_clear()
    packages._needs.cache_clear()
    assert after["train/train_phase"] != before["train/train_phase"]
    assert after["data/split"] == before["data/split"]


def test_restored_files_get_dates_in_the_order_of_their_making(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("late", "early"):
        (tmp_path / name).write_text("")
    set_dates(["early", "folder", "late"])
    dates = [Path(name).stat().st_mtime_ns for name in ("early", "folder/.snakemake_timestamp", "late")]
    assert dates == sorted(set(dates))


def test_a_lock_is_held_as_long_as_its_process_lives(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from scripts.common import guard; guard.mark(); "
        "guard.hold(sys.argv[2]); print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(ROOT), str(lock)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    monkeypatch.setenv(guard.VARIABLE, "")
    guard.mark()
    with pytest.raises(GradusError, match=rf"another run is active in this folder \(process {other.pid}\)"):
        guard.hold(lock)
    other.kill()
    other.wait()
    assert guard.hold(lock) == (0, [])
    guard._held.pop().close()


def test_a_file_server_with_another_clock_is_said(tmp_path):
    file = tmp_path / "lock"
    file.touch()
    now = file.stat().st_mtime
    assert guard.clock_warnings(file, now + 1) == []
    assert "the file server's clock is 60 s behind this machine's" in guard.clock_warnings(file, now + 60)[0]
    assert "is 60 s ahead of" in guard.clock_warnings(file, now - 60)[0]


def test_dvc_yaml_keeps_other_runs_and_has_no_stages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in "ab":
        write_json(f"results/{run}/metrics.json", {})
    write_json("results/b/verdict.json", {})
    first = merge_runs(
        {}, "a", describe_run("a", {"gguf": "results/a/ollama/model.gguf"}, ["results/a/figures/loss.svg"])
    )
    both = merge_runs(first, "b", describe_run("b", {"gguf": "results/b/ollama/model.gguf"}, []))
    again = merge_runs(both, "b", describe_run("b", {"gguf": "results/b/ollama/model.gguf"}, []))
    assert both == again
    assert set(both) == {"metrics", "plots", "artifacts"}
    assert both["metrics"] == ["results/a/metrics.json", "results/b/metrics.json", "results/b/verdict.json"]
    assert set(both["artifacts"]) == {"a-gguf", "b-gguf"}


def test_without_locks_nobody_is_taken_for_dead(tmp_path, monkeypatch):
    """A network file system may have none; the last run can then still be alive, and its jobs are left alone."""

    def none(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(guard.fcntl, "flock", none)
    monkeypatch.setattr(guard, "jobs_of", lambda run: pytest.fail("looked for jobs to end"))
    (tmp_path / "lock").write_text("host:1:2.0")
    monkeypatch.setenv(guard.VARIABLE, "host:3:4.0")
    left, warnings = guard.hold(tmp_path / "lock")
    assert left is None and "has no locks, so a second run in it would not be noticed" in warnings[0]
