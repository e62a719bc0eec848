"""The real DAG on real rows with a model of random weights, a few steps of each phase, through to an answered GGUF."""

import hashlib
import json
import re
import resource
import shutil
import subprocess
import sys
import time

import psutil
import pytest

ALL_HARD_ROWS = """
curriculum:
  phases:
    - {name: easy, levels: [easy], rows: 16}
    - {name: medium, levels: [easy, medium], rows: 16}
    - {name: hard, levels: [hard], rows: null}
"""


@pytest.fixture(scope="module")
def project(reference, tmp_path_factory):
    """Its own copy of the finished run, whose rows the tests change."""
    return reference.copy_to(tmp_path_factory.mktemp("changing") / "copy", linked=False)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "logs" not in path.parts and not path.name.startswith(".snakemake")
    }


def test_metrics_have_models_splits_and_n(project):
    metrics = json.loads((project.results / "metrics.json").read_text())
    assert list(metrics) == ["base", "tuned"]
    for splits in metrics.values():
        assert list(splits) == ["eval-hard", "eval-unseen", "test"]
        for found in splits.values():
            assert list(found) == ["exact", "operation", "option_f1", "stopped", "valid"]
            for metric in found.values():
                assert metric["n"] == 4
                assert 0 <= metric["value"] <= 1


def test_every_split_is_what_it_says(project):
    folder = project.results / "curriculum"
    rows = {name: lines(folder / f"{name}.jsonl") for name in ("train", "valid", "test", "eval-hard", "eval-unseen")}
    assert all(rows.values())
    assert {row["difficulty"] for row in rows["eval-hard"]} == {2}
    assert not {row["group"] for row in rows["eval-unseen"]} & {row["group"] for row in rows["train"]}
    responses = {row["response"] for row in rows["train"]}
    assert not any(row["response"] in responses for name in rows if name != "train" for row in rows[name])


def test_no_prompt_names_its_command(project):
    for row in lines(project.results / "data" / "dataset.jsonl"):
        name = row["group"].split("/")[1]
        if "-" in name:
            assert not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", row["prompt"]), row


def test_every_value_of_the_command_is_in_the_prompt(project):
    from scripts.data.converters.awscli import literal_values
    from scripts.tasks.aws_commands import parse_command

    for row in lines(project.results / "data" / "dataset.jsonl"):
        for value in literal_values(parse_command(row["response"])):
            assert value in row["prompt"], row


def test_tuned_and_base_went_the_same_road(project):
    for model in ("base", "tuned"):
        answers = lines(project.results / f"evaluate/{model}/Q4_K_M/test.answers.jsonl")
        assert len(answers) == 4
        assert all(answer["tokens"] <= 24 and answer["prompt_tokens"] > 20 for answer in answers)
    first, second = (lines(project.results / f"evaluate/{m}/Q4_K_M/test.answers.jsonl") for m in ("base", "tuned"))
    assert [a["id"] for a in first] == [a["id"] for a in second]
    assert [a["text"] for a in first] != [a["text"] for a in second]


def test_llama_cpp_and_transformers_see_the_same_tokens(project):
    from transformers import AutoTokenizer

    from scripts.common.chat import read_contract
    from scripts.common.generate import render_prompts
    from scripts.common.isolate import run_isolated
    from scripts.common.prompts import conversations
    from scripts.common.records import Record
    from scripts.train.packing import encode

    contract = read_contract(project.results / "data/chat_contract.json")
    prompts = ["list users", 'a "b" {{c}} {% d %}', "päckchen 📦 漢字\n\ttab  end "]
    gguf = project.results / "export/base/Q4_K_M.gguf"
    tokenizer = AutoTokenizer.from_pretrained(project.results / "base")
    records = [Record(prompt, "", "qa") for prompt in prompts]
    records.append(
        Record("and now?", "", "qa", context=contract.messages("hi")[1:] + [{"role": "assistant", "content": "ho"}])
    )
    found = run_isolated(
        "tokenizing", tokenize_all, str(gguf), render_prompts(gguf, contract, conversations(contract, records))
    )
    assert found == [encode(tokenizer, contract, record)[0] for record in records]


def tokenize_all(gguf, prompts):
    from scripts.common.decode import Decoder

    decoder = Decoder(gguf, 1, 1, 512)
    return [decoder.tokenize(prompt) for prompt in prompts]


def test_decoding_together_is_decoding_alone(project, tmp_path):
    """Sequences that are decoded together do not see each other; llama-cpp-python's own class says the same."""
    from scripts.common.chat import read_contract
    from scripts.common.generate import render_prompts
    from scripts.common.isolate import run_isolated
    from scripts.common.prompts import conversations
    from scripts.common.records import Record
    from scripts.export.convert_gguf import convert

    contract = read_contract(project.results / "data/chat_contract.json")
    # in fp32: where it rounds more, two nearly equally likely tokens can change places, and random weights have many
    origin = dict.fromkeys(("name", "base_model", "base_source", "license", "data_license", "description"), "random")
    origin |= {"finetune": None, "datasets": [], "quantized_by": "Gradus", "tags": ["test"]}
    gguf = str(tmp_path / "f32.gguf")
    convert(project.results / "base", origin, None, gguf, "f32")
    asked = ["list users", "say hello", "What is two and two? Answer briefly."]
    prompts = render_prompts(gguf, contract, conversations(contract, [Record(prompt, "", "qa") for prompt in asked]))
    together, alone, library = run_isolated("decoding", decode_three_ways, gguf, prompts)
    assert together == alone == library


def decode_three_ways(gguf, prompts):
    import llama_cpp

    from scripts.common.generate import answer_all

    together = [answer.text for answer in answer_all(gguf, prompts, 12, 3, 1)]
    alone = [answer_all(gguf, [prompt], 12, 1, 1)[0].text for prompt in prompts]
    model = llama_cpp.Llama(gguf, n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False, use_extra_bufts=False)
    library = []
    for prompt in prompts:
        ids = model.tokenize(prompt.encode(), add_bos=False, special=True)
        library.append(model.create_completion(ids, max_tokens=12, temperature=0)["choices"][0]["text"])
    return together, alone, library


def test_the_report_stands_alone_and_shows_what_matters(project):
    text = (project.results / "report.html").read_text()
    assert len(re.findall(r'class="chart" data-chart="[a-z]+"[^>]*><svg', text)) == 8
    assert "gates passed" in text
    assert text.count('class="trained"') > 5
    assert not re.search(r'(?:src|href)="(?!#)', re.sub("<script.*?</script>", "", text, flags=re.DOTALL))
    for word in ("tuned", "eval-unseen", "tokens/s", "bits a weight", "left out: no command in the example"):
        assert word in text
    answers = json.loads(re.search(r'id="answers-data">(.*?)</script>', text)[1])
    assert [answers["splits"][row["split"]] for row in answers["rows"]].count("test") == 4


def test_the_ollama_folder_is_complete(reference):
    folder = reference.results / "ollama"
    text = (folder / "Modelfile").read_text()
    assert "FROM ./model.gguf" in text
    assert "You turn a request into one AWS CLI command." in text
    assert (folder / "model.gguf").samefile(reference.results / "export/tuned/Q4_K_M.gguf")


def test_the_readmes_figures_are_printed(project):
    command = [sys.executable, "-m", "scripts.report.measured", "results/tiny"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tables = ("| test (4) | what it is | exact |", "| tuned | trained: curriculum, seed 1 |", "| train_phase | 3 |")
    for words in (*tables, "Before training, the advice was", "after Holm's correction", "tokens/s"):
        assert words in done.stdout


def test_nothing_changed_starts_no_job_within_five_seconds(project):
    """Of computing: other tests run beside this one."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, text = project.snakemake()
    assert code == 0
    assert "Nothing to be done" in text
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= 5


def test_an_edited_raw_row_trains_only_the_phases_that_see_it(project):
    """For real: everything cheap is done again, then Snakemake compares and leaves easy and medium alone."""
    file = project.results / "data/converted/awscli.jsonl"
    before = file.read_text()
    kept = {
        phase: hashes(project.results / f"train/curriculum/seed1/{phase}/trained/adapter")
        for phase in ("easy", "medium", "hard")
    }
    seen = lines(project.results / "curriculum/curriculum/seed1/hard.jsonl")
    hard = {row["source"] for row in seen if row["difficulty"] == 2}
    rows = [json.loads(line) for line in before.splitlines()]
    chosen = next(row for row in rows if row["source"] in hard)
    chosen["response"] += " --debug"
    file.write_text("".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows))
    code, text = project.snakemake("results/tiny/train/curriculum/seed1/hard/trained")
    assert code == 0, text
    log = max((project.folder / ".snakemake/log").glob("*.log"), key=lambda path: path.stat().st_mtime)
    done = re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", log.read_text())
    again = {
        "ingest",
        "mask",
        "deduplicate",
        "split",
        "decontaminate",
        "score",
        "audit",
        "estimate",
        "phase",
        "train_phase",
    }
    assert set(done) == again
    assert done.count("train_phase") == 1
    for phase in ("easy", "medium"):
        assert hashes(project.results / f"train/curriculum/seed1/{phase}/trained/adapter") == kept[phase]


def test_appended_rows_rerun_only_the_phases_whose_rows_they_change(project, tmp_path):
    """Fresh data, for real: a new hard row is trained on in the hard phase; an exact copy of a known row nowhere."""
    copy = project.copy_to(tmp_path / "copy")
    (copy.folder / "all.yaml").write_text(ALL_HARD_ROWS)
    target, configs = "results/tiny/train/curriculum/seed1/hard/trained", ("tiny.yaml", "all.yaml")
    code, text = copy.snakemake(target, configs=configs)
    assert code == 0, text
    raw = copy.results / "data/converted/awscli.jsonl"
    known = lines(raw)
    new = {
        "prompt": "Purge whatever waits in the queue of Gradus",
        "response": "aws sqs purge-queue --queue-url gradus",
    }
    trained = {}
    for row in (known[0], {**new, "difficulty": 2, "split": "train", "source": "new"}):
        text = "".join(json.dumps(r, sort_keys=True, ensure_ascii=False) + "\n" for r in [*lines(raw), row])
        raw.unlink()  # a hard link to the project's
        raw.write_text(text)
        code, text = copy.snakemake(target, configs=configs)
        assert code == 0, text
        jobs = re.findall(r"Training curriculum, seed 1: (\w+)", text)
        trained[row["source"]] = sorted(set(jobs))
    assert trained == {known[0]["source"]: [], "new": ["hard"]}
    rows = lines(copy.results / "curriculum/curriculum/seed1/hard.jsonl")
    assert [row["source"] for row in rows].count("new") == 1


def test_arms_of_a_run_spend_the_same_and_the_report_proves_it(project, tmp_path):
    """The ledgers of all arms that are built in, by the real rule on real rows."""
    copy = project.copy_to(tmp_path / "copy")
    arms = ["curriculum", "growing-random", "shuffled", "uniform", "reversed", "disjoint", "competence", "long-easy"]
    models = {"base": {}, "tuned": {"trained": {"arm": "curriculum", "seed": 1}}}
    models["others"] = {"trained": {"arms": arms, "seeds": [1]}}
    (copy.folder / "arms.yaml").write_text(json.dumps({"models": models}))
    targets = [f"results/tiny/curriculum/{arm}/seed1/ledger.json" for arm in arms]
    code, text = copy.snakemake(*targets, configs=("tiny.yaml", "arms.yaml"))
    assert code == 0, text
    spent = {
        arm: json.loads((copy.folder / target).read_text())["all"] for arm, target in zip(arms, targets, strict=True)
    }
    assert {part["steps"] for part in spent.values()} == {12}
    tokens = [part["tokens"] for part in spent.values()]
    assert max(tokens) - min(tokens) <= 300  # within the longest row
    assert spent["curriculum"] != spent["reversed"]
    summaries = [json.loads(p.read_text()) for p in project.results.glob("train/curriculum/seed1/*/summary.json")]
    assert spent["curriculum"]["tokens"] == sum(summary["tokens"] for summary in summaries)


def test_five_phases_are_planned(fresh):
    """One training job a phase, each on its own rows and the adapter of the phase before; two are trained below."""
    levels = ["a", "b", "c", "d", "e"]
    text = f"curriculum: {{levels: {json.dumps(levels)}, phases: null}}\nscore: {{thresholds: null}}\n"
    (fresh.folder / "levels.yaml").write_text(text)
    planned = fresh.planned(configs=("tiny.yaml", "levels.yaml"))
    assert (planned["train_phase"], planned["phase"]) == (len(levels), 1)
    last = f"results/tiny/train/curriculum/seed1/{levels[-1]}/trained"
    assert fresh.planned(last, configs=("tiny.yaml", "levels.yaml"))["train_phase"] == len(levels)


def test_the_audit_is_a_page_that_stands_alone(project):
    text = (project.results / "data/audit.html").read_text()
    assert text.count("<svg") == 2
    assert not re.search(r'(?:src|href)="(?!#)', text)
    assert re.search(r"only \d+ training rows", text)


def test_raw_rows_do_not_stay_unmasked(project):
    assert not (project.results / "data/records.jsonl").exists()
    assert (project.results / "data/dataset.jsonl").exists()


def trains(process):
    try:
        return "train_phase" in " ".join(process.cmdline())
    except psutil.Error:  # has ended meanwhile
        return False


def test_a_killed_training_goes_on_to_the_same_bytes_with_one_core_or_two(project, tmp_path):
    """Snakemake throws a failed job's outputs away; the checkpoints stay, and the next run goes on from them."""
    copy = project.copy_to(tmp_path / "copy")
    (copy.folder / "often.yaml").write_text("train: {checkpoint_steps: 1}\n")
    target, configs = "results/tiny/train/curriculum/seed1/easy/trained", ("tiny.yaml", "often.yaml")
    shutil.rmtree(copy.folder / target)
    process = copy.start(target, configs=configs)
    jobs = []
    while not list(copy.folder.glob(".work/train/tiny/curriculum-1-easy/*/step-000002")):
        assert process.poll() is None, process.stdout.read()
        jobs = jobs or [child for child in psutil.Process(process.pid).children(recursive=True) if trains(child)]
        time.sleep(0.01)
    assert jobs
    for job in jobs:
        job.kill()
    text, _ = process.communicate()
    assert process.returncode != 0, text
    assert not (copy.folder / target).exists()
    code, text = copy.snakemake(target, configs=configs, cores=1)
    assert code == 0, text
    resumed = json.loads((copy.folder / target).with_name("summary.json").read_text())["resumed_at_step"]
    assert 2 <= resumed < 4
    for name in ("adapter/adapter_model.safetensors", "optimizer.safetensors"):
        found, expected = (made.folder / target / name for made in (copy, project))
        assert found.read_bytes() == expected.read_bytes()
    assert not list(copy.folder.glob(".work/train/tiny/*"))


def test_a_bad_row_ends_the_run_before_training(fresh):
    """The many kinds of bad rows: tests/unit/test_hostile.py."""
    (fresh.folder / "rows.jsonl").write_text('{"prompt": "q", "response": "r"}\n{"prompt": "a", "response": ""}\n')
    (fresh.folder / "rows.yaml").write_text("data: {files: [rows.jsonl]}\n")
    code, text = fresh.snakemake("--until", "ingest", configs=("tiny.yaml", "rows.yaml"))
    assert code != 0
    assert "rows.jsonl:2: response: empty" in text
    assert "Traceback" not in text
    assert not (fresh.results / "data/records.jsonl").exists()


def test_held_out_rows_that_training_asks_too_end_the_run_with_the_pairs(fresh):
    rows = [{"prompt": f"What is the colour of {'very ' * n}late {n}?", "response": f"{n}"} for n in range(20)]
    for name, changed in (("train", ""), ("eval", " now")):
        file = fresh.folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps({**row, "response": row["response"] + changed}) + "\n" for row in rows))
    (fresh.folder / "leak.yaml").write_text(
        "data: {task: qa, allow_few: true, files: [{path: train.jsonl, role: train}, {path: eval.jsonl, role: eval}]}\n"
        "decontaminate: {found: stop}\n"
    )
    code, text = fresh.snakemake("results/tiny/data/dataset.jsonl", configs=("tiny.yaml", "leak.yaml"))
    assert code != 0
    assert "Gradus: 20 of 20 held-out rows ask what training rows ask" in text
    assert "test eval.jsonl:1 ~ train train.jsonl:1 (near-copy 1)" in text
    assert "Traceback" not in text
    assert len(lines(fresh.results / "data/contradictions.jsonl")) == 20


def test_a_bad_config_ends_the_run_at_once_and_touches_nothing(project):
    """What is said of the many kinds of faults: tests/unit/test_config.py."""
    before = hashes(project.results)
    (project.folder / "bad.yaml").write_text("trian: {threads: 1}\ntrain:\n  learning_rate: 7\n")
    code, text = project.snakemake(configs=("tiny.yaml", "bad.yaml"))
    assert code != 0
    assert "bad.yaml:1: trian: no such key; did you mean train?" in text
    assert "bad.yaml:3: train.learning_rate: 7 is greater than the maximum of 0.1" in text
    assert "Traceback" not in text
    assert hashes(project.results) == before


def test_a_download_with_another_sha256_is_not_kept(fresh):
    shutil.rmtree(fresh.folder / "data/raw/pypi-awscli-1.46.3", ignore_errors=True)
    (fresh.folder / "bad.yaml").write_text(f"data: {{package: {{sha256: '{'f' * 64}'}}}}\n")
    code, text = fresh.snakemake("data/raw/pypi-awscli-1.46.3", configs=("tiny.yaml", "bad.yaml"))
    assert code != 0
    assert "94c561c1b1b2cf0978ec8d87d956c26c807555438593eec29ea90602b9518cfb" in text
    assert "The download was discarded" in text
    assert not (fresh.folder / "data/raw/pypi-awscli-1.46.3").exists()


def test_snakemakes_own_report_has_the_results_and_needs_no_network(project):
    offline = ["unshare", "--map-root-user", "--net"]
    able = (
        subprocess.run([*offline, "true"], capture_output=True, check=False).returncode == 0
        if shutil.which("unshare")
        else False
    )
    command = [*(offline if able else []), *project.command("--report", "own.html")]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = (project.folder / "own.html").read_text()
    (project.folder / "own.html").unlink()
    for words in ("Begin with", "advice before training", "audit of the rows", "comparison of the models"):
        assert words in text
    for table in ("models-test", "against-test", "gates", "quants", "forgetting", "cost", "cost-jobs"):
        assert f'"table": "{table}"' in text
        assert (project.results / f"tables/{table}.tex").is_file()


def test_the_cost_has_every_job_that_the_report_needed(project):
    found = json.loads((project.results / "cost.json").read_text())
    jobs = {(job["rule"], job["job"]): job for job in found["jobs"]}
    trained = [jobs["train_phase", f"curriculum-1-{phase}"] for phase in ("easy", "medium", "hard")]
    assert all(job["seconds"] > 0 and job["peak_mib"] > 100 and job["stage"] == "train" for job in trained)
    assert trained[0]["start"] < trained[1]["start"] < trained[2]["start"]
    assert {"convert", "grade", "compare", "probe", "speed", "fidelity"} <= {rule for rule, _ in jobs}
    assert "tokens a second" in (project.results / "report.html").read_text()
