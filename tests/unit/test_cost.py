"""What the run cost, and the report's tables as files, of plain data."""

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.common.energy import Samples, share_out, start_measuring
from scripts.common.errors import GradusError
from scripts.common.html import write_page
from scripts.progress.handler import read_stages
from scripts.report.cost import draw_timeline, list_jobs
from scripts.report.sections.cost import at_work, busy, cost
from scripts.report.tables import (
    Column,
    Table,
    as_csv_rows,
    as_latex,
    details,
    experiment,
    interval,
    judged,
    percent,
    rated,
    rows_in,
    shipping,
    side_by_side,
    speed,
    trainings,
    write_tables,
)

ROOT = Path(__file__).resolve().parents[2]
RUN = Path("results/mine")
STAGES = {"fetch": "data", "train_phase": "train", "answer": "evaluate"}
SUMMARY = {"tokens": 900, "seconds": {"steps": 90.0, "all": 150.0}, "device": "cpu"}


def record(rule, log, start, end):
    return {"rule": rule, "log": [log], "starttime": start, "endtime": end}


def records():
    """A source fetched the day before; two jobs at once; two outputs of one job."""
    log = "results/mine/logs/train_phase/curriculum-1-easy.log"
    return {
        "data/raw/rows": record("fetch", "data/logs/fetch/rows.log", 1000.0, 1006.0),
        "a": record("train_phase", log, 90000.0, 90600.0),
        "b": record("train_phase", log, 90000.1, 90600.5),
        "c": record("answer", "results/mine/logs/answer/base-Q4_K_M-test.log", 90300.0, 90720.0),
    }


def benchmark(folder, name, memory, seconds):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.tsv").write_text(f"s\th:m:s\tmax_rss\tcpu_time\n1\t0:00:01\t{memory}\t{seconds}\n")


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    benchmark(RUN / "benchmarks", "train_phase-curriculum-1-easy", 2048.0, 1100.5)
    benchmark(RUN / "benchmarks", "answer-base-Q4_K_M-test", "NA", "NA")
    return list_jobs(records(), RUN, STAGES)


def test_a_job_has_its_stage_its_times_and_what_its_benchmark_says(found):
    fetch, train, answer = found["jobs"]
    assert found["began"] == "1970-01-01T00:16:40+00:00"
    assert (fetch["stage"], fetch["rule"], fetch["job"], fetch["start"], fetch["seconds"]) == (
        "data",
        "fetch",
        "rows",
        0,
        6,
    )
    assert (train["job"], train["start"], train["seconds"]) == ("curriculum-1-easy", 89000.0, 600.5)
    assert (train["cpu_seconds"], train["peak_mib"]) == (1100.5, 2048.0)
    assert (answer["job"], answer["cpu_seconds"], answer["peak_mib"]) == ("base-Q4_K_M-test", None, None)


def test_jobs_at_once_count_once_at_work_and_pauses_are_left_out(found):
    told = cost(found, [SUMMARY, SUMMARY])
    assert told["total"]["minutes"] == pytest.approx((6 + 600.5 + 420) / 60)
    assert told["total"]["busy_minutes"] == pytest.approx((6 + 720) / 60)
    assert (told["pauses"], told["pause_minutes"]) == (1, pytest.approx(88994 / 60))
    assert told["total"]["peak_gib"] == 2.0
    assert told["longest"][0]["name"] == told["total"]["longest"] == "train_phase curriculum-1-easy"
    assert [row["stage"] for row in told["stages"]] == ["data", "train", "evaluate"]
    assert told["training"]["tokens_per_s"] == 10.0
    assert told["training"]["start_minutes"] == 2.0
    assert told["energy"] is None


def test_the_jobs_of_a_stage_that_ran_one_in_the_other_are_at_work_as_long_as_the_longer():
    jobs = [{"start": 0.0, "seconds": 100.0}, {"start": 10.0, "seconds": 20.0}, {"start": 150.0, "seconds": 10.0}]
    assert busy(jobs) == 110.0
    assert at_work(jobs) == [(0.0, 160.0)]  # 50 seconds are no pause


def test_without_records_the_section_says_so(tmp_path):
    told = cost(list_jobs({}, RUN, STAGES), [SUMMARY])
    text = printed(tmp_path, told)
    assert "records of the jobs are gone" in text
    assert draw_timeline([], ["data"])


def printed(folder, told):
    for name in ("cost.html.j2", "macros.html.j2"):
        shutil.copy(ROOT / "scripts/report/templates" / name, folder)
    write_page(folder / "cost.html.j2", {"cost": told, "figures": {}}, folder / "cost.html")
    return (folder / "cost.html").read_text()


def test_the_section_is_a_template_of_its_own(found, tmp_path):
    text = printed(tmp_path, cost(found, [SUMMARY]))
    assert "3 jobs took <b>12.1 minutes</b> (17.1 if run one at a time); the largest needed <b>2.00 GiB</b>" in text
    assert "<b>10 tokens a second</b> on cpu" in text
    assert "1 pause in which nothing ran (1483 minutes) is left out" in text
    assert "codecarbon" not in text


def test_energy_is_shared_by_the_jobs_that_run_at_once():
    sample = {"start": 100.0, "end": 200.0, "kwh": 0.4, "kg": 0.2, "how": []}
    one, two, none = share_out([sample], [(0.0, 200.0), (150.0, 300.0), (300.0, 400.0)])
    assert one == {"kwh": pytest.approx(0.4 * 100 / 150), "kg": pytest.approx(0.2 * 100 / 150), "seconds": 100.0}
    assert two == {"kwh": pytest.approx(0.4 * 50 / 150), "kg": pytest.approx(0.2 * 50 / 150), "seconds": 50.0}
    assert none == {"kwh": 0.0, "kg": 0.0, "seconds": 0.0}
    (alone,) = share_out([sample], [(150.0, 175.0)])  # the machine was idle for the rest of the sample
    assert alone["kwh"] == pytest.approx(0.1)
    both = share_out([sample], [(150.0, 175.0), (150.0, 175.0)])  # two jobs take no more of the idle time than one
    assert [job["kwh"] for job in both] == pytest.approx([0.05, 0.05])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            ["CPU(Cpu Load), 8 W", "RAM()"],
            ["<b>An estimate, no measurement:</b>", "8 W: estimated from its load and rated"],
        ),
        (["CPU(Intel Rapl)", "RAM()"], ["CPU(Intel Rapl): read from a meter", "RAM(): estimated from its size"]),
    ],
)
def test_energy_without_a_meter_is_called_an_estimate(found, tmp_path, how, words):
    sample = {"start": 90000.0, "end": 90600.0, "kwh": 0.02, "kg": 0.01, "how": how}
    told = cost(list_jobs(records(), RUN, STAGES, [sample]), [SUMMARY])
    assert told["energy"]["wh"] == pytest.approx(20)
    assert told["energy"]["measured_share"] == pytest.approx(900.0 / 1026.5, abs=0.001)
    text = printed(tmp_path, told)
    assert all(word in text for word in words)
    assert ("estimate, no" in text) == ("Load" in how[0])


def test_a_country_without_codecarbon_stops_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(GradusError) as caught:
        start_measuring("DEU", tmp_path / "energy.jsonl")
    assert "pip install -c envs/requirements.lock codecarbon==" in str(caught.value)


def test_samples_are_differences_of_totals(tmp_path):
    class Total:
        energy_consumed, emissions = 0.5, 0.2

    samples = Samples(tmp_path / "energy.jsonl")
    samples.how = ["CPU()"]
    samples.out(Total, None)
    Total.energy_consumed, Total.emissions = 0.75, 0.3
    samples.out(Total, None)
    first, second = map(json.loads, (tmp_path / "energy.jsonl").read_text().splitlines())
    assert (first["kwh"], second["kwh"]) == (0.5, 0.25)
    assert second["kg"] == pytest.approx(0.1)
    assert first["end"] == second["start"]


def test_codecarbon_measures_without_network_until_the_run_ends(tmp_path):
    pytest.importorskip("codecarbon")
    unshare = ["unshare", "-rn"] if shutil.which("unshare") else []
    script = (
        "import sys; from pathlib import Path; from scripts.common.energy import measure;"
        "measure('DEU', Path(sys.argv[1]), sys.stdin, 1.0)"
    )
    command = [*unshare, sys.executable, "-c", script, str(tmp_path / "energy.jsonl")]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
    patience = time.monotonic() + 60
    while not (tmp_path / "energy.jsonl").is_file() and time.monotonic() < patience:
        time.sleep(0.2)
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    samples = [json.loads(line) for line in (tmp_path / "energy.jsonl").read_text().splitlines()]
    assert sum(sample["kwh"] for sample in samples) > 0
    assert all(sample["how"] for sample in samples)


def test_a_benchmark_is_found_by_the_name_of_its_jobs_log():
    """scripts/report/cost.py relies on it, and on a stage for each rule."""
    stages = read_stages(ROOT)
    for file in sorted((ROOT / "rules").glob("*.smk")):
        rules = file.read_text().split("\n    benchmark:" if file.stem == "bench" else "\nrule ")
        for text in rules[1:] if file.stem != "bench" else []:
            if "benchmark:" in text:
                log = text.partition("log:")[2].split('"')[1].removeprefix("results/{run}/logs/").removesuffix(".log")
                tsv = text.partition("benchmark:")[2].split('"')[1]
                assert tsv == f"results/{{run}}/benchmarks/{log.replace('/', '-')}.tsv", file
                assert text.split(":")[0] in stages


HARD = Table(
    "Shares & more, 100%",
    [Column("model", "model"), Column("share", "share_of", percent), Column("bounds", "95% interval", interval, True)],
    [
        {"model": "a_b & 50% #1 {x} ~^\\ <y> →\nz", "share": 0.5, "bounds": [0.25, 0.75]},
        {"model": "two", "share": None, "bounds": None},
    ],
)


def test_csv_has_plain_values_and_latex_those_of_the_page():
    assert as_csv_rows(HARD) == [
        ["model", "share", "bounds_low", "bounds_high"],
        [HARD.rows[0]["model"], 0.5, 0.25, 0.75],
        ["two", None, None, None],
    ]
    lines = as_latex(HARD).splitlines()
    assert lines[0] == "% Shares & more, 100%"
    assert any("share\\_of" in line and "95\\% interval" in line for line in lines)
    hard = next(line for line in lines if line.startswith(" a"))
    assert "a\\_b \\& 50\\% \\#1 \\{x\\} \\textasciitilde{}\\^{}\\textbackslash{}" in hard
    assert hard.rstrip().split("&")[-2:] == ["      50.0\\% ", "     25.0–75.0\\% \\\\"]


def test_tables_are_the_same_bytes_each_time_and_come_back_from_csv(tmp_path):
    for name in ("one", "two"):
        write_tables({"hard": HARD}, tmp_path / name)
    files = [sorted((tmp_path / name).iterdir()) for name in ("one", "two")]
    assert [[path.name for path in each] for each in files] == [["hard.csv", "hard.tex"]] * 2
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    with files[0][0].open(newline="") as handle:
        assert list(csv.DictReader(handle))[0]["model"] == HARD.rows[0]["model"]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_is_accepted(tmp_path):
    write_tables({"hard": HARD}, tmp_path / "tables")
    text = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{tables/hard}\\end{document}"
    (tmp_path / "paper.tex").write_text(text)
    done = subprocess.run(["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_an_experiments_primary_comparison_comes_first_and_once():
    def comparison(arm, primary):
        found = {
            "arm": arm,
            "control": "growing-random",
            "variant": "main",
            "metric": "loss",
            "split": "test",
            "level": None,
        }
        return {**found, "primary": primary, "difference": -0.02, "interval": [-0.03, -0.01], "seeds": 8, "items": 200}

    primary = comparison("curriculum", True)
    effects = {
        "plan": "ab" * 32,
        "primary": primary,
        "comparisons": [comparison("reversed", False), primary],
        "arms": [],
    }
    tables = experiment(effects)
    rows = as_csv_rows(tables["experiment-comparisons"])
    assert [row[rows[0].index("arm")] for row in rows[1:]] == ["curriculum", "reversed"]
    assert "-0.03 to -0.01" in as_latex(tables["experiment-comparisons"])
    assert as_latex(tables["experiment-arms"]).count("\\\\") == 1  # a header alone
    none = experiment({**effects, "primary": None, "comparisons": [comparison("reversed", False)]})
    rows = as_csv_rows(none["experiment-comparisons"])
    assert [row[rows[0].index("arm")] for row in rows[1:]] == ["reversed"]


def as_dicts(table):
    header, *rows = as_csv_rows(table)
    as_latex(table)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_every_table_of_the_page_is_a_file_too():
    pair = {"name": "f1", "n": 9, "first_value": 0.1, "value": 0.3, "interval": [0.2, 0.4], "p": None}
    pair |= {"difference": 0.2, "difference_interval": None}
    more = [{"group": None, "rows": [{"model": "tuned", "metrics": [pair, {**pair, "name": "exact"}]}]}]
    split = {"split": "test", "metrics": [], "blocks": [], "points": [], "against": [], "more": more}
    way = {
        "arm": "dpo",
        "control": "sft",
        "seeds": 3,
        "items": 9,
        "control_value": 0.1,
        "value": 0.3,
        "difference": 0.2,
    }
    split["over_seeds"] = [{**way, "interval": [-0.1, 0.5], "p": 0.2, "seed_sd": 0.01}]
    found = side_by_side({"first": "base", "served": "tuned", "headline": "exact", "splits": [split]})
    (row,) = as_dicts(found["over-seeds-test"])
    assert (row["arm"], row["seeds"], row["difference"]) == ("dpo", 3, 0.2)
    rows = as_dicts(found["against-first-test"])
    assert [(row["model"], row["metric"], row["difference"]) for row in rows] == [
        ("tuned", "f1", 0.2),
        ("tuned", "exact", 0.2),
    ]
    where = {"model": "tuned", "split": "test"}
    fields = [{"field": "zip", "wanted": 4, "right": 3, "share": 0.75, "invented": 1}]
    matrix = [{"label": "a", "counts": [3, 1]}]
    shown = [{**where, "kind": "fields", "fields": fields, "unknown": 0}]
    shown.append({**where, "kind": "matrix", "labels": ["a"], "rows": matrix})
    tables = details(shown)
    assert as_dicts(tables["fields"]) == [{**where, **fields[0]}]
    assert [(row["answered"], row["count"]) for row in as_dicts(tables["confusion"])] == [("a", 3), ("(other)", 1)]
    assert details([]) == {}
    phase = {"training": "curriculum, seed 1", "phase": "easy", "rows": 7, "levels": [6, 1], "tokens": 9}
    total = {**phase, "phase": "all"}
    tables = trainings(
        {"levels": ["low", "high"], "trainings": [{"phases": [phase], "total": total}]},
        {"trainings": [{"phases": [phase], "total": total}]},
    )
    assert [(row["phase"], row["level high"]) for row in as_dicts(tables["exposures"])] == [("easy", 1), ("all", 1)]
    assert [row["phase"] for row in as_dicts(tables["training"])] == ["easy", "all"]
    scorer = {"name": "length", "n": 30, "failures": ["0.2 (0.1 to 0.3)"], "length": "–"}
    tables = rows_in({"rows": [{"label": "kept", "value": 3}]}, {"columns": ["base"], "scorers": [scorer]})
    assert as_dicts(tables["rows"]) == [{"label": "kept", "value": 3}]
    assert as_dicts(tables["scorers"])[0]["failures of base"] == "0.2 (0.1 to 0.3)"
    blocks = [{"group": None, "rows": [{**where, "n": 3, "bytes": 5_000_000, "cost": None}]}]
    assert as_dicts(shipping(blocks, blocks)["stopping"])[0]["n"] == 3
    tables = speed(blocks, {"blocks": blocks}, [])
    assert (set(tables), as_dicts(tables["sizes"])[0]["bytes"]) == ({"sizes", "answering"}, 5_000_000)
    assert as_dicts(speed(blocks, {"blocks": blocks}, [{**where, "url": "u"}])["apis"])[0]["url"] == "u"


def test_what_a_judge_and_people_say_are_tables_too():
    row = {"model": "tuned", "split": "test", "faithfulness": 4.5, "faithfulness_interval": [4, 5], "n": 9, "unread": 1}
    row |= {"pass": {"value": 0.5, "interval": [0.25, 0.75]}}
    pair = {"a": "tuned", "b": "base", "split": "test", "interval": None, "p": 0.5}
    found = {"name": "judge", "blocks": [{"group": None, "rows": [row]}], "pairs": [{**pair, "win_rate": 0.6}]}
    (answers,) = as_dicts(judged(found)["judge-answers"])
    assert (answers["share"], answers["share_interval_high"], answers["faithfulness_interval_low"]) == (0.5, 0.75, 4)
    assert as_dicts(judged(found)["judge-pairs"])[0]["win_rate"] == 0.6
    tables = rated({"comparisons": [{**pair, "share": 0.7, "preferred": None}], "passes": []})
    assert as_dicts(tables["rating-pairs"])[0]["share"] == 0.7
    assert as_dicts(tables["rating-accepted"]) == []


def test_the_energy_of_an_experiments_trainings_is_of_training(found):
    jobs = [{**job, "kwh": 0.5, "kg": 0.1, "energy_seconds": 1.0} for job in found["jobs"]]
    jobs[2]["rule"] = "train_arm"
    told = cost({**found, "jobs": jobs, "energy_from": ["RAM()"]}, [SUMMARY])
    assert told["energy"]["training_wh"] == pytest.approx(1000)
