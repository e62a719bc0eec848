"""Killed with -9 at random moments in every stage, the same command goes on, and the bytes are those of an undisturbed run."""

import os
import random
import re
import signal
import subprocess
import time

import psutil

from scripts.common.guard import VARIABLE
from tests.fault.conftest import ALL, SEED

KILLS = 30 if ALL else 4  # planned; some rules are over before they are seen
# one rule at least of each stage; the others by lot
ALWAYS = ["ingest", "deduplicate", "score", "phase", "prepare_base", "round_base", "train_phase", "merge"]
ALWAYS += ["convert_gguf", "quantize", "answer", "check_merge", "report", "hf"]
LONG = [
    "prepare_base",
    "round_base",
    "train_phase",
    "merge",
    "convert_gguf",
    "answer",
    "check_merge",
]  # are always seen
WAYS = ["snakemake", "everything", "job"]


def plan(manifest):
    """Return {rule: (seconds after its start, what is killed)}, by lot; the seconds within what the rule took undisturbed."""
    lots = random.Random(SEED)
    took = {}
    for facts in manifest["artifacts"].values():
        took[facts["rule"]] = max(took.get(facts["rule"], 0), facts["seconds"])
    if not ALL:
        rules = ["train_phase", *lots.sample(sorted(set(LONG) - {"train_phase"}), KILLS - 1)]
        return {rule: (round(lots.uniform(0, took[rule] / 2), 1), WAYS[n % 3]) for n, rule in enumerate(rules)}
    rules = [rule for rule in ALWAYS if rule in took]
    rules += lots.sample(sorted(set(took) - set(rules)), KILLS - len(rules))
    return {rule: (round(lots.uniform(0, took[rule] + 0.5), 1), lots.choice(WAYS)) for rule in rules}


def processes(main):
    """Return the main process's jobs, deepest last."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE, "").split(":")[1:2] == [str(main)] and process.pid != main:
                found.append(process)
        except psutil.Error:
            continue
    return sorted(found, key=lambda process: process.create_time())


def kill(process, way):
    """Kill -9 Snakemake alone, all its jobs too, or the innermost job alone."""
    jobs = processes(process.pid)
    if way == "job" and jobs:
        jobs[-1].kill()
        return
    process.kill()
    for job in jobs if way == "everything" else []:
        job.kill()


def rules_at_work(main):
    """Return the rules whose jobs run now."""
    found = set()
    for process in processes(main):
        try:
            started = re.search(r"\.snakemake/scripts/\w+\.(\w+)\.py", " ".join(process.cmdline()))
        except psutil.Error:
            continue
        if started:
            found.add(re.sub("_awscli$", "", started[1]))  # a script bears its rule's name, but for a converter's
    return found


def run_until_killed(folder, pending, *arguments, **more):
    """Run snakemake, by Project.command; kill it in the first rule that is pending. Return (rule or None, exit code, text)."""
    with open(folder.folder / "run.log", "w+") as log:
        command = folder.command(*arguments, **more)
        process = subprocess.Popen(command, cwd=folder.folder, stdout=log, stderr=subprocess.STDOUT)
        rule = None
        while process.poll() is None:
            hit = rules_at_work(process.pid) & set(pending) if rule is None else None
            if hit:
                rule = sorted(hit)[0]
                seconds, way = pending[rule]
                time.sleep(seconds)
                kill(process, way)
            time.sleep(0.1)
        log.seek(0)
        return rule, process.wait(), log.read()


def test_killed_at_random_moments_in_every_stage(reference, laid_out, same, table):
    pending = plan(reference.manifest())
    planned = len(pending)
    table("killed in", "after", "what", "the run after it")
    ended = 0
    for _ in range(3 * KILLS):
        rule, code, text = run_until_killed(laid_out, pending)
        if rule is None:
            break
        seconds, way = pending.pop(rule)
        assert "LockException" not in text
        table(rule, f"{seconds} s", f"kill -9 {way}", "went on" if code else "had ended by then")
        ended += bool(code)
    assert rule is None, pending
    assert code == 0, text[-3000:]
    assert ended >= planned * 2 / 3, pending
    count = same(laid_out)
    table("all of these", "", f"{ended} kills, seed {SEED}", f"{count} files are the same bytes")
    left = [path for path in laid_out.folder.rglob("*.part") if ".snakemake" not in path.parts]
    assert not left
    assert laid_out.snakemake("--dry-run")[1].count("Nothing to be done")


def test_a_killed_runs_jobs_are_ended_by_the_next_run_and_two_runs_exclude_each_other(laid_out, table):
    target = "results/tiny/base"
    with open(laid_out.folder / "first.log", "w") as log:
        first = subprocess.Popen(laid_out.command(target), cwd=laid_out.folder, stdout=log, stderr=subprocess.STDOUT)
    while "prepare_base" not in rules_at_work(first.pid):
        assert first.poll() is None
        time.sleep(0.1)
    for job in processes(first.pid):
        job.suspend()  # so that it outlives what follows
    code, text = laid_out.snakemake(target)
    assert code != 0
    assert f"another run is active in this folder (process {first.pid})" in text
    assert "Traceback" not in text
    jobs = processes(first.pid)
    assert jobs
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    time.sleep(1)
    assert any(job.is_running() for job in jobs)
    code, text = laid_out.snakemake(target)
    assert code == 0, text
    assert re.search(r"process(es)? of a killed run (was|were) still active and (has|have) been stopped", text)
    assert not any(job.is_running() and job.status() != psutil.STATUS_ZOMBIE for job in jobs)
    table("two runs in a folder", "", "the second", "is refused")
    table("a killed run's jobs", "", f"{len(jobs)} processes left", "ended by the next run")
