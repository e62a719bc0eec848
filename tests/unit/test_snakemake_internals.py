"""What we rely on of Snakemake, held against what it does. If one of these fails, Snakemake has changed."""

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts.common.hashing import ROOT
from scripts.common.snakemake_internals import (
    INCOMPLETE,
    STORE,
    TIMESTAMP,
    ancestors,
    code_of,
    mark_incomplete,
    plan_job,
    read_metadata,
    record_file,
    script_object,
    write_metadata,
)

LONG = "out/" + "very-" * 45 + "long.txt"
SNAKEFILE = f"""
import atexit, sys
sys.path.insert(0, {str(ROOT)!r})
from scripts.common.snakemake_internals import leave_out_pandas
leave_out_pandas()
if "pytest" not in sys.modules:
    atexit.register(lambda: open("pandas.txt", "w").write(str(sys.modules.get("pandas"))))
if not workflow.overwrite_configfiles:
    configfile: "config.yaml"
with open("seen.txt", "w") as handle:
    print(workflow.is_main_process, workflow.basedir, *workflow.overwrite_configfiles, workflow.cores, file=handle)
sys.path.insert(0, {str(ROOT)!r})
from scripts.common.snakemake_internals import planned_values
onstart:
    with open("planned.txt", "w") as handle:
        print(sorted(planned_values(workflow, "first", "name")), planned_values(workflow, "none", "name"), file=handle)
checkpoint first:
    input: "given.txt"
    output: file="out/{{name}}.txt", folder=directory("out/{{name}}.d")
    log: "logs/{{name}}.log"
    params: code="0123456789abcdef", part=lambda w: {{"a": [config["value"], w.name]}}
    script: "first.py"
rule second:
    input: "out/a.txt"
    output: {LONG!r}
    log: "logs/second.log"
    script: "second.py"
"""


def run(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--rerun-incomplete", "--nolock", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which Snakemake has made a few files."""
    folder = tmp_path_factory.mktemp("workflow")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "config.yaml").write_text("value: 1\n")
    (folder / "given.txt").write_text("")
    (folder / "first.py").write_text(
        "import os\nos.mkdir(snakemake.output.folder)\nopen(snakemake.output.file, 'w').close()\n"
    )
    (folder / "second.py").write_text("open(snakemake.output[0], 'w').close()\n")
    run(folder, "--configfile", "config.yaml", "--", LONG, "out/b.txt")
    return folder


def test_a_workflow_tells_us_its_config_files_and_cores(folder):
    assert (folder / "seen.txt").read_text() == f"True {folder} {folder}/config.yaml 1\n"


def test_a_run_knows_at_its_start_which_jobs_it_will_run(folder):
    assert (folder / "planned.txt").read_text() == "['a', 'b'] set()\n"


def test_a_record_is_where_we_look_and_holds_what_we_read(folder):
    records = read_metadata(folder / STORE)
    assert set(records) == {"out/a.txt", "out/a.d", "out/b.txt", "out/b.d", LONG}
    assert record_file(LONG, folder / STORE).is_file()
    assert record_file(LONG).parent != record_file("a").parent  # in pieces
    record = records["out/a.txt"]
    assert record["rule"] == "first"
    assert record["input"] == ["given.txt"]
    assert record["log"] == ["logs/a.log"]
    assert code_of(record) == "0123456789abcdef"  # a checkpoint's params are recorded, too
    assert 0 < record["starttime"] <= record["endtime"]
    assert (folder / "out/a.d" / TIMESTAMP).is_file()


def test_records_and_marks_that_we_write_are_taken_for_its_own(folder):
    records = read_metadata(folder / STORE)
    for path in records:
        record_file(path, folder / STORE).unlink()
    write_metadata(records, folder / STORE)
    assert read_metadata(folder / STORE) == records
    assert "Nothing to be done" in run(folder, "-n", "--", LONG)
    assert (folder / "pandas.txt").read_text() == "None"  # params are compared without it
    records[LONG]["params"] = ["'another'"]
    write_metadata(records, folder / STORE)
    mark_incomplete(["out/b.txt"], folder / INCOMPLETE)
    told = run(folder, "-n", "--", LONG, "out/b.txt")
    assert "Params have changed" in told
    assert "incomplete" in told.lower()


def test_a_job_is_found_by_its_output(folder, monkeypatch):
    monkeypatch.chdir(folder)
    job = plan_job(folder / "Snakefile", "out/c.txt", [], 1)
    assert find_spec("pandas")  # the job may need it
    told = script_object(job)
    assert (job.rule.name, job.rule.script) == ("first", "first.py")
    assert told.output.folder == "out/c.d"
    assert told.params.part == {"a": [1, "c"]}
    assert (told.wildcards.name, told.log[0], told.input[0]) == ("c", "logs/c.log", "given.txt")
    assert plan_job(folder / "Snakefile", "nothing", [], 1) is None


def test_a_files_ancestors_come_with_what_their_jobs_made_besides(tmp_path):
    records = {
        "results/a b": {"rule": "x", "input": [], "log": ["1"]},
        "results/with a b": {"rule": "x", "input": [], "log": ["1"]},  # of the same job
        "results/other": {"rule": "x", "input": [], "log": ["2"]},
        LONG: {"rule": "y", "input": ["results/a b"], "log": ["3"]},
    }
    write_metadata(records, tmp_path)
    (tmp_path / "cut").write_text('{"rule": ')
    assert read_metadata(tmp_path) == records
    assert list(ancestors(records, [LONG])) == [LONG, "results/a b", "results/with a b"]


def test_nothing_else_leans_on_it():
    """Snakemake is imported, and its folder read, in one module."""
    own = {"scripts/common/snakemake_internals.py"}
    found = {
        file.relative_to(ROOT).as_posix()
        for file in Path(ROOT, "scripts").rglob("*.py")
        if any(
            word in file.read_text() for word in ("from snakemake", "import snakemake", '".snakemake"', ".snakemake/")
        )
    }
    assert found == own


WITHOUT_CORES = """
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import OutputSettings, Quietness, ResourceSettings

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    opened = api.workflow(resource_settings=ResourceSettings(nodes=4), snakefile=Path("Snakefile"))
    print(opened._workflow.get_rule("speed").resources["_cores"].value)
"""


def test_the_pipeline_is_read_where_no_cores_are_given_as_on_a_cluster():
    done = subprocess.run([sys.executable, "-c", WITHOUT_CORES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("1"), done.stdout + done.stderr


MEMORY = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from scripts.common.snakemake_internals import limit_resource
limit_resource(workflow, "mem_mb", 1000)
rule all:
    input: "a.end", "b.end", "c.end"
rule size:
    output: "size.gguf"
    shell: "truncate -s 600000000 {{output}}"
include: {str(ROOT / "rules/inputs/resources.smk")!r}
rule job:
    input: gguf="size.gguf"
    output: "{{name}}.end"
    resources: mem_mb=memory(100, 1, "gguf")
    shell: "date +%s.%N >>{{output}}; sleep 0.3; date +%s.%N >>{{output}}; echo {{resources.mem_mb}} >>{{output}}"
rule twice:
    input: gguf="size.gguf"
    output: "twice.end"
    retries: 1
    resources: mem_mb=memory(50, 0.5, "gguf"), runtime=minutes(10, 0.001, "gguf", "gguf")
    shell: "echo {{resources.mem_mb}} {{resources.runtime}} >>tries; [ $(wc -l <tries) = 2 ] && touch {{output}}"
"""


def test_jobs_that_do_not_fit_into_memory_together_run_one_after_the_other(tmp_path):
    """Each needs 700 of 1,000 MB, by the size of a file that is only made in this run."""
    (tmp_path / "Snakefile").write_text(MEMORY)
    run(tmp_path, "--cores", "3", "--quiet", "all")
    lines = [(tmp_path / f"{name}.end").read_text().split() for name in "abc"]
    assert {line[2] for line in lines} == {"700"}
    times = sorted((float(line[0]), float(line[1])) for line in lines)
    assert all(before[1] <= after[0] for before, after in zip(times, times[1:], strict=False))
    run(tmp_path, "--cores", "3", "--quiet", "all", "--resources", "mem_mb=650", "-F")  # the command line decides
    assert {(tmp_path / f"{name}.end").read_text().split()[2] for name in "abc"} == {"650"}


def test_a_job_that_is_tried_again_declares_twice_as_much(tmp_path):
    (tmp_path / "Snakefile").write_text(MEMORY)
    run(tmp_path, "--cores", "1", "--quiet", "all", "--resources", "mem_mb=5000", "--", "twice.end")
    assert (tmp_path / "tries").read_text() == "350 370\n700 740\n"


def test_a_job_whose_output_is_dated_before_its_input_fails_with_a_line_about_clocks(tmp_path):
    """As where the nodes of a cluster date files, and their clocks differ (docs/clusters.md)."""
    (tmp_path / "Snakefile").write_text(
        'rule copy:\n    input: "given"\n    output: "copy"\n    shell: "cp {input} {output}"'
    )
    (tmp_path / "given").touch()
    os.utime(tmp_path / "given", (time.time() + 600,) * 2)
    command = [sys.executable, "-m", "snakemake", "--cores", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "This could indicate a clock skew problem" in done.stdout + done.stderr


BEHIND_ANCIENT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from scripts.common.snakemake_internals import plan_behind_ancient
if config.get("mended"):
    plan_behind_ancient()
rule report:
    input: "trained"
    output: "report"
    shell: "cp {{input}} {{output}}"
rule estimate:
    output: "estimate"
    params: rank=config["rank"]
    shell: "touch {{output}}"
rule train:
    input: ancient("estimate")
    output: "trained"
    params: rank=config["rank"], rate=config["rate"]
    shell: "echo {{params.rank}} {{params.rate}} >{{output}}"
"""


def test_what_follows_ancient_inputs_is_planned_by_its_own_reasons(tmp_path):
    """Without our mend, Snakemake makes the estimate and calls the run done; the second assertion fails if it no longer does."""
    (tmp_path / "Snakefile").write_text(BEHIND_ANCIENT)

    def make(rank, rate, *more):
        run(tmp_path, "--config", f"rank={rank}", f"rate={rate}", *more)
        return (tmp_path / "report").read_text()

    assert make(8, 1) == "8 1\n"
    assert make(16, 2) == "8 1\n"
    assert make(16, 2) == "16 2\n"
    assert make(32, 3, "mended=1") == "32 3\n"
    for made in ("trained", "report"):  # and if outputs are missing
        (tmp_path / made).unlink()
    (tmp_path / "estimate").write_text("changed")
    assert make(64, 4, "mended=1") == "64 4\n"
    before = (tmp_path / "trained").stat().st_mtime_ns
    run(tmp_path, "--config", "rank=64", "rate=4", "mended=1", "--forcerun", "estimate")
    assert (tmp_path / "trained").stat().st_mtime_ns == before, "an ancient input alone is no reason"


ORDERED = """
from pathlib import Path
from types import SimpleNamespace
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    config = ConfigSettings(configfiles=[Path("config/runs/known-difficulty.yaml")])
    opened = api.workflow(resource_settings=ResourceSettings(cores=1), config_settings=config, snakefile=Path("Snakefile"))
    rules = {name: opened._workflow.get_rule(name) for name in ("train_arm", "answer_arm", "gate")}
    for arm, seed in (("curriculum", 1), ("growing-random", 1), ("self-paced", 1), ("curriculum", 2), ("self-paced", 8)):
        asked = SimpleNamespace(variant="main", arm=arm, seed=str(seed))
        print(rules["train_arm"].priority(asked), rules["answer_arm"].priority(asked))
    print(rules["gate"].priority)
"""


def test_an_experiment_trains_seed_by_seed_and_lets_gates_go_first():
    done = subprocess.run([sys.executable, "-c", ORDERED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *places, (gate,) = [list(map(float, line.split())) for line in done.stdout.splitlines()[-6:]]
    assert all(train == answer for train, answer in places)
    order = [train for train, _ in places]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == 5
    assert 0 < order[-1] < order[0] == 1 < gate
