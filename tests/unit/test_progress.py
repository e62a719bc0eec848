"""What a run prints, driven by Snakemake's events, and on Snakemake itself."""

import io
import json
import logging
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
import time
from collections import Counter

import pytest

from scripts.common.hashing import ROOT
from scripts.common.speed import FP32_SPEED, TRAINED_PER_S
from scripts.progress import handler
from scripts.progress.ending import ending
from scripts.progress.handler import Progress, read_stages
from scripts.progress.output import MOST as READ
from scripts.progress.output import Bar, Outputs, read_bar, without_bars
from scripts.progress.screen import Screen
from scripts.progress.times import MOST, TYPICAL, Planned, Times, clock, last_times, rough

STAGES = {"fetch": "data", "split": "data", "train_phase": "train", "report": "report"}


GONE = "99999999"  # the number of no process


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Run:
    """A run driven by hand: the time is what the test says."""

    def __init__(self, stream, jobs, past=None, outputs=None):
        self.stream, self.at, self.jobs = stream, 1000.0, dict(enumerate(jobs, 1))
        self.progress = Progress(STAGES, logging.StreamHandler(stream), stream, lambda: self.at)
        self.left = [Planned(job, rule, (f"out/{rule}",)) for job, rule in self.jobs.items()]
        self.progress._keep_ticking = lambda: None  # the test ticks
        self.progress.begin(lambda: self.left, Times(past or {}), outputs)
        self.done = 0

    def send(self, event=None, text="", level=logging.INFO, **more):
        record = logging.LogRecord("snakemake", level, "", 0, text, None, None)
        vars(record).update(more, **({"event": event} if event else {}))
        self.progress.handle(record)

    def start(self, job, **more):
        rule = self.jobs[job]
        told = {"rule_msg": f"Doing {rule}", "log": [f"logs/{rule}.log"]} | more
        self.send("job_info", rule_name=rule, jobid=job, **told)

    def fail(self, job, status=1):
        text = f"CalledProcessError in file rules/data.smk: returned non-zero exit status {status}."
        self.send("error", text, logging.ERROR)
        self.send("job_error", "", logging.ERROR, rule_name=self.jobs[job], jobid=job, log=["logs/it.log"])

    def finish(self, job):
        self.done += 1
        self.send("job_finished", job_id=job)
        self.send("progress", done=self.done, total=len(self.jobs))

    def text(self):
        return self.stream.getvalue()


def block(text):
    """What a terminal shows at the end: each block is drawn in the place of the one before it."""
    shown = []
    for piece in re.split(r"(\x1b\[\d+F\x1b\[J)", text):
        if found := re.fullmatch(r"\x1b\[(\d+)F\x1b\[J", piece):
            del shown[-int(found[1]) :]
        else:
            shown += piece.splitlines()
    return shown


def test_without_a_terminal_there_is_a_line_per_job_and_a_second_one_for_a_long_one(monkeypatch):
    run = Run(io.StringIO(), ["fetch", "train_phase", "all"])
    for noise in (
        "Select jobs to execute...",
        "Execute 2 jobs...",
        "Complete log(s): x",
        "Activating conda environment: .work/x",
    ):
        run.send(text=noise)
    run.send("workflow_started", "Workflow has started!")
    run.send("shellcmd", "None")
    run.start(1)
    run.at += 3
    run.finish(1)
    run.start(2)
    run.at += 75
    run.finish(2)
    run.start(3, rule_msg=None, log=[])
    run.finish(3)
    run.progress.close()
    run.progress.close()  # Snakemake closes handlers more than once
    lines = [re.sub(r"\[\d\d:\d\d:\d\d\]", "[at]", line) for line in run.text().splitlines()]
    assert lines == [
        "[at] data: Doing fetch",
        "[at] train: Doing train_phase",
        "[at] train: took 1:15: Doing train_phase (2 of 3 jobs done)",
        "3 of 3 jobs done in 1:18",
    ]
    assert "\x1b" not in run.text()
    assert "\r" not in run.text()


def test_a_terminal_shows_a_line_per_stage_that_is_drawn_again(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 20)))
    run = Run(Terminal(), ["fetch", "split", "train_phase"], past={"out/train_phase": 300.0, "out/split": 2.0})
    run.start(1)
    run.at += 2
    run.finish(1)
    run.start(3, rule_msg="Training the hard phase of a curriculum with a long name")
    run.at += 60
    run.progress.tick()
    assert block(run.text()) == [
        "stage     jobs     time         left",
        "data       1/2     0:02       <1 min",
        "train      0/1     1:00       ~4 min  Training the hard pha",
        "all        1/3     1:02       ~4 min",
    ]
    run.send(level=logging.WARNING, text="a warning stays above")
    assert block(run.text())[0] == "a warning stays above"
    assert len(block(run.text())) == 5
    run.left = [Planned(2, "split", ("out/split",))]
    run.start(2)
    for job in (3, 2):
        run.finish(job)
    run.progress.close()
    assert [line.split() for line in block(run.text())[2:]] == [
        ["data", "2/2", "0:02", "done"],
        ["train", "1/1", "1:00", "done"],
        ["all", "3/3", "1:02"],
    ]


def test_a_terminal_that_cannot_draw_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    run = Run(Terminal(), ["fetch"])
    run.start(1)
    assert "\x1b" not in run.text()


def test_a_block_is_as_wide_as_the_terminal_that_it_is_drawn_on(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((200, 50)))
    main, side = pty.openpty()
    with open(main, "rb"), open(side, "w") as stream:
        for size, columns in (((20, 30), 30), ((0, 0), 200)):  # one that knows its size, one that does not
            termios.tcsetwinsize(side, size)
            screen = Screen(stream)
            screen.draw(["x" * 300])
            print("end", file=stream, flush=True)
            shown = ""
            while not shown.endswith("end\r\n"):
                shown += os.read(main, 1000).decode()
            assert shown == "x" * (columns - 1) + "\r\nend\r\n"


def test_the_time_left_comes_from_the_jobs_own_bar_if_it_has_one(monkeypatch, tmp_path):
    monkeypatch.setenv("TERM", "xterm")
    outputs = Outputs(tmp_path)
    run = Run(Terminal(), ["train_phase", "train_phase"], outputs=outputs)
    run.start(1)
    assert block(run.text())[-1].endswith(" ~8 min?"), "nothing like it has run"
    outputs.of_job[1] = tmp_path / "7"
    (tmp_path / "7").write_text(
        "noise\n\r 10%|#   | 1/10 [00:10<01:30,  0.1it/s]\r 25%|##  | 2/8 [01:00<40:00,  0.1it/s]"
    )
    run.at += 600
    run.progress.tick()
    train, everything = block(run.text())[-2:]
    assert "25% Doing train_phase" in train
    assert everything.endswith(" ~1 h 30 min")  # 40 minutes left, and 50 for the other


def test_a_failed_job_is_told_with_its_message_its_log_and_how_to_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [".venv/bin/snakemake", "--cores", "all", "--configfile", "my task.yaml"])
    run = Run(io.StringIO(), ["fetch", "split"], outputs=Outputs(tmp_path))
    run.start(1)
    (tmp_path / GONE).write_text(
        "rows:  10%|#  | 1/10 [00:10<01:30,  0.1it/s]\nGradus: rows.csv:3: empty;\nfill it in\n\n"
    )
    run.send("error", "CalledProcessError in file rules/data.smk: returned non-zero exit status 1.", logging.ERROR)
    run.send("job_error", "", logging.ERROR, rule_name="fetch", jobid=1, log=["logs/fetch.log"])
    run.send(text="Exiting because a job execution failed. Look above for error messages", level=logging.ERROR)
    run.send("error", "WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR)
    run.progress.close()
    told = run.text().partition("Doing fetch\n")[2]
    assert told == (
        "\nFailed: Doing fetch (data)\nGradus: rows.csv:3: empty;\nfill it in\n\nLog: logs/fetch.log\n\n"
        "1 job failed; what is finished is kept. The same command goes on from there:\n"
        "  .venv/bin/snakemake --cores all --configfile 'my task.yaml'\n"
    )


@pytest.mark.parametrize(
    ("printed", "status", "expected"),
    [
        ("Traceback (most recent call last):\nImportError: no torch\n", 1, "ImportError: no torch"),
        ("", 137, "It was killed; perhaps memory ran out."),
        ("a library's warning\n", 137, "a library's warning\nIt was killed; perhaps memory ran out."),
        ("Gradus: too large\n", 137, "Gradus: too large\n\nLog:"),
        ("", 3, "It ended with exit status 3."),
    ],
)
def test_a_job_that_ends_without_a_message_is_told_too(tmp_path, printed, status, expected):
    run = Run(io.StringIO(), ["fetch"], outputs=Outputs(tmp_path))
    run.start(1)
    (tmp_path / GONE).write_text(printed)
    run.fail(1, status)
    assert expected in run.text()


def test_on_a_full_disk_where_no_job_can_say_it_the_run_does(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 0))
    run = Run(io.StringIO(), ["fetch"], outputs=Outputs(tmp_path))
    run.start(1)
    run.send("job_error", "", logging.ERROR, rule_name="fetch", jobid=1, log=["logs/fetch.log"])
    assert "Gradus: the disk is full" in run.text()


def test_a_message_of_a_job_that_succeeds_is_told_once(tmp_path):
    run = Run(io.StringIO(), ["fetch", "split"], outputs=Outputs(tmp_path))
    run.start(1)
    (tmp_path / GONE).write_text("a library's warning\nGradus: the advice: go on\n")
    run.finish(1)
    run.start(2)
    run.finish(2)
    assert run.text().count("Gradus: the advice: go on") == 1
    assert "a library's warning" not in run.text()


def test_jobs_that_end_together_are_told_apart(tmp_path):
    outputs = Outputs(tmp_path)
    run = Run(io.StringIO(), ["fetch", "split"], outputs=outputs)
    run.start(1)
    run.start(2)
    (tmp_path / GONE).write_text("Gradus: rows.csv:3: empty\n")  # of one of them
    (tmp_path / str(os.getpid())).write_text("Gradus: said by a job that still runs\n")
    run.finish(1)
    (tmp_path / "99999998").write_text("Gradus: the advice\n")
    assert "Gradus" not in run.text()
    run.send("job_error", "", logging.ERROR, rule_name="split", jobid=2, log=["logs/split.log"])
    run.progress.close()
    assert "Gradus: rows.csv:3: empty" in run.text()
    assert "Gradus: the advice" in run.text()
    assert "still runs" not in run.text()


def test_what_another_job_said_is_not_the_reason_of_a_failure(tmp_path):
    run = Run(io.StringIO(), ["fetch", "split"], outputs=Outputs(tmp_path))
    run.start(1)
    run.start(2)
    for name, text, at in ((GONE, "Gradus: the advice", 1), ("99999998", "Gradus: rows.csv:3: empty", 2)):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (at, at))
    run.finish(1)
    run.fail(2)
    before, _, told = run.text().partition("\nFailed: ")
    assert before.endswith("\nGradus: the advice\n")
    assert told.startswith("Doing split (data)\nGradus: rows.csv:3: empty\n\nLog: ")


def test_a_job_that_succeeds_when_it_is_tried_again_has_not_failed(tmp_path):
    outputs = Outputs(tmp_path)
    run = Run(io.StringIO(), ["fetch"], outputs=outputs)
    run.start(1)
    outputs.of_job[1] = tmp_path / "99999998"
    outputs.of_job[1].write_text("Gradus: the server is down\n")
    run.fail(1)
    run.send(text="Trying to restart job 1.")
    run.start(1)
    assert list(run.progress.planned) == [1], "it is left again"
    (tmp_path / GONE).write_text("Gradus: the second time\n")
    run.finish(1)
    assert "Gradus: the second time" in run.text()
    run.progress.close()
    assert "Failed: Doing fetch" in run.text()
    assert "CalledProcessError" not in run.text()
    assert run.text().endswith("\n1 of 1 jobs done in 0:00\n")


def test_an_error_of_no_job_is_told():
    run = Run(io.StringIO(), ["fetch"])
    run.send("error", "CalledProcessError in onsuccess: git returned 128", logging.ERROR)
    run.progress.close()
    assert run.text() == "CalledProcessError in onsuccess: git returned 128\n"
    run = Run(io.StringIO(), ["fetch"])
    run.start(1)
    run.fail(1)
    run.progress.close()
    assert "CalledProcessError" not in run.text()


def test_a_terminated_run_says_once_that_it_waits_and_then_how_to_go_on():
    run = Run(io.StringIO(), ["fetch", "split", "report"])
    run.start(1)
    run.start(2)
    waits = "Will exit after finishing currently running jobs (scheduler)."
    for job in (1, 2):
        run.send(text=waits)
        run.finish(job)
    run.send(text=waits)
    run.send("error", "WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR)
    run.progress.close()
    assert run.text().count(waits) == 1
    assert "WorkflowError" not in run.text()
    assert "\nStopped; what is finished is kept. The same command goes on" in run.text()


def test_an_interrupted_run_says_how_to_go_on_and_blames_no_job(tmp_path):
    run = Run(io.StringIO(), ["fetch", "split"])
    run.start(1)
    run.send(text="Terminating processes on user request, this might take some time.")
    run.send("job_error", "", logging.ERROR, rule_name="fetch", jobid=1, log=["logs/fetch.log"])
    run.progress.close()
    assert "Failed" not in run.text()
    assert "Stopped; what is finished is kept. The same command goes on" in run.text()


def test_errors_before_the_run_are_snakemakes(tmp_path):
    stream = io.StringIO()
    progress = Progress(STAGES, logging.StreamHandler(stream), stream)
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, "my.yaml:3: no such key", None, None)
    record.event = "error"
    progress.handle(record)
    progress.close()
    assert stream.getvalue() == "my.yaml:3: no such key\n"


@pytest.mark.parametrize("everything", [True, False])
def test_the_ending_is_printed_when_all_is_made_even_if_nothing_had_to_be(monkeypatch, everything):
    monkeypatch.setattr(handler, "ending", lambda folder: [f"the ending of {folder}"])
    stream = io.StringIO()
    progress = Progress(STAGES, logging.StreamHandler(stream), stream)
    progress.run, progress.everything = "my-task", lambda: everything
    text = "Nothing to be done (all requested files are present and up to date)."
    progress.handle(logging.LogRecord("snakemake", logging.INFO, "", 0, text, None, None))
    progress.close()
    assert stream.getvalue() == f"{text}\n" + ("\nthe ending of results/my-task\n" if everything else "")


def test_a_run_whose_files_are_of_another_version_still_says_what_to_open(tmp_path):
    lines = ending(tmp_path / "my-task")
    assert lines[0] == "Open:"
    assert len(lines) == 4
    assert "ollama create my-task -f Modelfile" in lines[2]
    (tmp_path / "verdict.json").write_text("[]")
    assert ending(tmp_path)[0] == "Open:"


def test_the_ending_begins_with_the_verdict_and_the_first_reasons(tmp_path):
    told = {"sentence": "Not shown: x.", "reasons": ["⚠ It has forgotten: y.", "Ask about 900 rows.", "more"]}
    (tmp_path / "verdict.json").write_text(json.dumps(told))
    lines = ending(tmp_path)
    assert lines[:5] == ["Not shown: x.", "⚠ It has forgotten: y.", "Ask about 900 rows.", "", "Open:"]


def test_every_rule_of_the_project_has_a_stage_in_the_order_of_the_pipeline():
    found = read_stages(ROOT)
    scripts = {file.stem: file.read_text().split().count("script:") for file in ROOT.glob("rules/*.smk")}
    assert Counter(found.values()) == +Counter(scripts)  # each rule has one
    order = list(dict.fromkeys(found.values()))
    assert order.index("data") < order.index("train") < order.index("export") < order.index("report")
    assert set(TYPICAL) <= set(found)


def test_each_rule_that_may_take_an_hour_is_in_the_table_of_times():
    """But those whose time grows with rows alone: few take them seconds."""
    text = "".join(file.read_text() for file in ROOT.glob("rules/*.smk"))
    parts = re.split(r"^ *(?:rule|checkpoint) (\w+):$", text, flags=re.M)[1:]
    declared = {
        name: re.search(r"runtime=minutes\((\d+)(.*)", part) for name, part in zip(*[iter(parts)] * 2, strict=True)
    }
    long = {name for name, found in declared.items() if found and int(found[1]) >= 60 and "OF_ROWS" not in found[2]}
    assert "train_phase" in long
    assert long <= set(TYPICAL)


def test_a_job_is_expected_to_take_what_it_took_then_what_its_like_take_then_what_is_typical():
    times = Times({"out/a": 7.0})
    assert times.expect(Planned(1, "answer", ("out/a", "out/b"))) == (7, False)
    typical, other = TYPICAL["answer"], Planned(2, "answer", ("out/c",))
    assert times.expect(other) == (typical, True)
    times.note("importance", 2 * TYPICAL["importance"])  # this machine is half as fast
    assert times.expect(other) == (2 * typical, True)
    times.note("importance", 1e6)
    assert times.expect(other) == (MOST * typical, True)  # and never a silly number
    assert times.expect(other, likes=[50.0]) == (50, False)
    times.note("answer", 30.0)
    assert times.expect(other, likes=[50.0]) == (40, False)
    assert times.expect(Planned(3, "split", ())) == (MOST, False)


def test_a_training_is_expected_to_take_what_its_tokens_take(tmp_path, monkeypatch, cpu_with):
    monkeypatch.chdir(tmp_path)
    hard = Planned(1, "train_phase", ("results/r/train/curriculum/seed1/hard/trained",))
    times = Times({})
    assert times.expect(hard) == (240, True)  # before the rows are chosen
    ledger = tmp_path / "results/r/curriculum/curriculum/seed1/ledger.json"
    ledger.parent.mkdir(parents=True)
    ledger.write_text(json.dumps({"hard": {"tokens": 271_000}}))
    for flag, speed in (("amx_bf16", TRAINED_PER_S), ("avx2", TRAINED_PER_S * FP32_SPEED)):
        cpu_with(flag)
        assert times.expect(hard) == (pytest.approx(15 + 271_000 / speed), True)
    other = Planned(2, "train_phase", ("results/r/train/curriculum/seed1/easy/trained",))
    assert times.expect(other) == (240, True)
    assert Times({hard.outputs[0]: 7.0}).expect(hard) == (7.0, False)


def test_the_last_times_are_those_of_the_same_run():
    records = {
        "results/mine/a": {"starttime": 5.0, "endtime": 8.0},
        "results/mine-too/a": {"starttime": 5.0, "endtime": 9.0},
        "data/raw/x": {"starttime": 5.0, "endtime": 6.0},
        "results/mine/killed": {"starttime": 5.0, "endtime": None},
    }
    assert last_times(records, "mine") == {"results/mine/a": 3.0, "data/raw/x": 1.0}


def test_bars_are_read_as_tqdm_writes_them():
    code = "import time; from tqdm import tqdm\nfor _ in tqdm(range(4), desc='a: b', mininterval=0): time.sleep(.01)\n"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr.decode()
    pieces = [read_bar(piece) for piece in text.split("\r") if piece]
    assert list(dict.fromkeys(piece.percent for piece in pieces)) == [0, 25, 50, 75, 100]
    assert pieces[0].left is None
    assert pieces[-1].left == 0
    assert without_bars(f"before\n{text}after") == "before\nafter"
    assert without_bars(f"{text.rstrip()}Gradus: an error") == "Gradus: an error"
    assert read_bar("\r  2%|1 | 3/147 [01:08<1:07:09, 16.24s/answer]\n") == Bar(2, 4029)
    assert without_bars("\x1b[31mred\x1b[0m\x1b[A") == "red"
    assert read_bar("Gradus: 100 of 100 rows") is None


def test_a_job_that_prints_far_too_much_does_not_hold_up_the_run(tmp_path):
    outputs, began = Outputs(tmp_path), time.process_time()
    (tmp_path / GONE).write_text("lost\n" + "y" * READ + "\nGradus: an error\n" + "1%|" * 70_000)
    assert read_bar((tmp_path / GONE).read_text()[-2000:]) is None
    _, reason = outputs.reason(1)
    assert reason.startswith("Gradus: an error")
    assert without_bars("9" * 200_000) == "9" * 200_000
    assert time.process_time() - began < 5
    (tmp_path / "99999998").write_text("Gradus: lost\n\n" + "y" * READ)
    assert outputs.messages(2, ()) == []


@pytest.mark.parametrize(
    ("seconds", "exact", "about"),
    [
        (7, "0:07", "<1 min"),
        (89, "1:29", "~1 min"),
        (3700, "1:01:40", "~62 min"),
        (7800, "2:10:00", "~2 h 10 min"),
        (7260, "2:01:00", "~2 h"),
    ],
)
def test_durations(seconds, exact, about):
    assert (clock(seconds), rough(seconds)) == (exact, about)
    assert rough(seconds, guessed=True) == f"{about}?"


JOB = """
import sys, time
log = open(snakemake.log[0], "w", buffering=1)
print("in the log of the job", file=log)
for done in range(4):
    print(f"\\ranswers: {25 * done}%|#  | {done}/4 [00:01<02:00,  1.00row/s]", end="", file=sys.stderr, flush=True)
    time.sleep(0.6)
if snakemake.wildcards.name == "bad":
    sys.exit("Gradus: rows.csv:3: the value is empty")
open(snakemake.output[0], "w").close()
"""
RULES = """
rule answer:
    output: "out/{name}.txt"
    log: "logs/{name}.log"
    message: "{wildcards.name} answers"
    script: "../job.py"
"""
SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from scripts.common.snakemake_internals import (
    OUTPUT, jobs_left, leave_out_pandas, redirect_jobs, replace_stream_handler, targeted_rules,
)
from scripts.progress.handler import Progress, read_stages
from scripts.progress.output import Outputs
from scripts.progress.times import Planned, Times
leave_out_pandas()
progress = replace_stream_handler(workflow, lambda old: Progress(read_stages(Path(".")), old, old.stream))
if progress:
    progress.everything = lambda: print(targeted_rules(workflow), file=open("targeted.txt", "w"))
onstart:
    if progress:
        redirect_jobs()
        progress.begin(lambda: [Planned(*job) for job in jobs_left(workflow)], Times({{}}), Outputs(OUTPUT))
rule all:
    default_target: True
    input: "out/good.txt", *config.get("more", [])
include: "rules/evaluate.smk"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/evaluate.smk").write_text(RULES)
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


def snakemake(*arguments):
    return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]


def test_snakemake_prints_plain_lines_into_a_pipe_and_tells_a_failure(folder):
    command = snakemake("--config", "more=[out/bad.txt]")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert not done.stdout
    lines = done.stderr.splitlines()
    assert sum("evaluate: good answers" in line for line in lines) == 1
    told = done.stderr.partition("Failed: ")[2]
    assert told.startswith("bad answers (evaluate)\nGradus: rows.csv:3: the value is empty\n\nLog: logs/bad.log\n")
    assert len(lines) <= 13
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    log = next(folder.glob(".snakemake/log/*.log")).read_text()
    assert "Finished jobid" in log, "what is left out is in Snakemake's log"
    dry = subprocess.run(snakemake("-n"), cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "Job stats:" in dry or "Nothing to be done" in dry
    shown = subprocess.run([*command, "--show-failed-logs"], cwd=folder, capture_output=True, text=True, check=False)
    assert "in the log of the job" in shown.stderr


def test_snakemake_shows_the_stages_on_a_terminal_with_the_jobs_own_progress(folder):
    main, side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(snakemake(), cwd=folder, stdout=side, stderr=side, stdin=side, env=environment)
    os.close(side)
    text, ends = "", time.monotonic() + 60
    while time.monotonic() < ends:
        try:
            text += os.read(main, 10000).decode()
        except OSError:  # the other end is closed
            break
    os.close(main)
    assert process.wait() == 0
    assert re.search(r"evaluate +0/1 +\S+ +~2 min +\d+% good answers", text), "from the bar that the job prints"
    last = block(text.replace("\r\n", "\n"))[-3:]
    assert last[0].split() == ["stage", "jobs", "time", "left"]
    assert re.fullmatch(r"evaluate +1/1 +\d:\d\d +done", last[1])
    assert "answers: " not in text
    assert (folder / "targeted.txt").read_text() == "{'all'}\n"
