"""An experiment beside a finished run: the same bytes as the run's own training, a kill, a changed plan."""

import json
import signal
import time

import yaml

from scripts.common.hashing import sha256_file

CONFIGS = ("tiny.yaml", "own.yaml")
FOLDER = "results/tiny/experiment"
EXPERIMENT = {"arms": ["curriculum", "growing-random", "self-paced"], "seeds": [1, 2], "answers": [1], "points": 1}


def write(copy, **changes):
    (copy.folder / "own.yaml").write_text(yaml.safe_dump({"experiment": {**EXPERIMENT, **changes}}))


def test_an_experiment_is_trained_killed_resumed_and_compared_and_its_plan_cannot_change(project, tmp_path):
    copy = project.copy_to(tmp_path / "copy")
    write(copy)
    jobs = copy.planned("experiment", configs=CONFIGS)
    assert jobs["train_arm"] == 6
    assert jobs["answer_arm"] == 3
    assert "train_phase" not in jobs, "the run's own training is left alone"

    first = copy.start(f"{FOLDER}/main/curriculum/seed1/result.json", configs=CONFIGS)
    work = copy.folder / ".work/experiment/tiny/main/curriculum/1"
    while not list(work.glob("*/medium/rows.jsonl")):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    code, text = copy.snakemake("experiment", configs=CONFIGS)
    assert code == 0, text

    plan = json.loads((copy.results / "experiment.json").read_text())
    results = {
        (arm, seed): json.loads((copy.folder / FOLDER / f"main/{arm}/seed{seed}/result.json").read_text())
        for arm in EXPERIMENT["arms"]
        for seed in (1, 2)
    }
    assert {result["plan"] for result in results.values()} == {plan["hash"]}
    assert len({(result["steps"], result["seed"]) for result in results.values()}) == 2
    adapter = "train/growing-random/seed1/hard/trained"
    code, text = copy.snakemake(f"results/tiny/{adapter}", configs=CONFIGS)
    assert code == 0, text
    own = sha256_file(copy.results / adapter / "adapter/adapter_model.safetensors")
    assert results["growing-random", 1]["adapter"] == own, "the bytes of the run's own training, phase by phase"
    made = [
        copy.folder / FOLDER / f"main/{arm}/seed{seed}/result.json" for seed in (1, 2) for arm in EXPERIMENT["arms"]
    ]
    assert sorted(made, key=lambda path: path.stat().st_mtime_ns) == made, "seed by seed"
    assert len({result["adapter"] for result in results.values()}) == 6

    effects = json.loads((copy.folder / FOLDER / "effects.json").read_text())
    assert effects["primary"]["arm"] == "curriculum"
    assert effects["primary"]["seeds"] == 2
    exact = [line for line in effects["comparisons"] if line["metric"] != "loss"]
    assert not exact, "one seed answered, which compares no arms"
    assert any(line["metric"] == "exact" and line["seeds"] == 1 for line in effects["arms"])
    assert (copy.folder / FOLDER / "main/self-paced/seed1/answers.jsonl").is_file()
    assert not list((copy.folder / FOLDER).rglob("optimizer.safetensors")), "optimizer states are not kept"
    assert not [file for file in (copy.folder / ".work/experiment/tiny").rglob("*") if file.is_file()], (
        "nor checkpoints"
    )
    assert copy.planned("experiment", configs=CONFIGS) == {}

    write(copy, margin=0.5)
    code, text = copy.snakemake("experiment", configs=CONFIGS)
    assert code != 0
    assert "the plan of this experiment was changed after trainings were made with it" in text
    assert "experiment.margin: 0.01 → 0.5" in text
    assert plan["hash"][:12] in text
    write(copy)
    before = {path: path.stat().st_mtime_ns for path in (copy.folder / FOLDER).rglob("result.json")}
    code, text = copy.snakemake("experiment", configs=CONFIGS)
    assert code == 0, text
    assert {path: path.stat().st_mtime_ns for path in before} == before, "with the old plan nothing is trained again"
