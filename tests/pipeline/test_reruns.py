"""The table of edits against what must rerun, on the real DAG. docs/reproducibility.md shows it."""

import os

import pytest

EXPORT = {"merge", "convert_gguf", "importance", "quantize", "modelfile", "ollama", "hf"}
CHECKS = {"check_merge", "check_gguf", "check_template", "check_stopping", "check_serving"}
MEASURED = {"reference_logits", "quant_loss", "quantization", "speed", "gate", "fidelity"}
SUMMED_UP = {"compare", "validity", "verdict", "figures", "cost", "report"}
TOLD = {"verdict", "report", "ollama", "hf"}  # who quotes the verdict
RECORDED = {"manifest", "crate", "all"}
ANSWERED = {"answer", "grade", "quantization", "gate", "fidelity", "check_stopping", "check_serving", "ollama", "hf"}
DATA = {
    "ingest",
    "mask",
    "deduplicate",
    "split",
    "decontaminate",
    "audit",
    "score",
    "check_labels",
    "estimate",
    "phase",
    "passages",
}
TRAINED = {"train_phase", "curves", *EXPORT, *CHECKS, *MEASURED, "answer", "grade", "probe", "forgetting"}
# with another version of a package: at least what computes with it and what follows, and never what does not
BASE = {"prepare_base", "round_base"}
ASKED = {"prepare_tokenizer", "chat_contract"}
WITH_TORCH = (
    {"train_phase", "merge", *BASE, "sbom", *RECORDED},
    {"fetch", "convert", "ingest", "split", "deduplicate", "score"},
)
# near-copies, ranks of difficulty, intervals and tests
WITH_SCIPY = ({"deduplicate", "score", "grade", *SUMMED_UP, "sbom", *RECORDED}, {"fetch", "convert", *BASE, *ASKED})


def replace(name, old, new):
    """An edit of a file of the project."""

    def edit(text):
        assert old in text, name
        return text.replace(old, new, 1)

    return name, edit


MODELS = "{base: {}, tuned: {trained: {arm: curriculum, seed: 1}}, other: {trained: {arm: shuffled, seed: 1}}}"
TABLE = [
    ("a script: report.py", replace("scripts/report/report.py", '"""', '"""X '), {"report", *RECORDED}),
    ("a script: grade.py", replace("scripts/evaluate/grade.py", '"""', '"""X '),
     {"grade", "advise", "quantization", "gate", "fidelity", "ollama", "hf", *SUMMED_UP, *RECORDED}),
    ("a shared module: modelfile_parser.py", replace("scripts/common/modelfile_parser.py", '"""', '"""X '),
     {"modelfile", "check_template", "gate", "fidelity", "cost", *TOLD, *RECORDED}),
    ("Go is installed", replace("rules/fidelity.smk", 'go=shutil.which("go") is not None', 'go="another answer"'),
     {"check_template", "gate", "fidelity", "cost", *TOLD, *RECORDED}),
    ("a template: data.html.j2", replace("scripts/report/templates/data.html.j2", "What went in", "What came in"), {"report", *RECORDED}),
    ("a template: model_card.md.j2", replace("scripts/export/model_card.md.j2", "#", "##"), {"hf", *RECORDED}),
    ("a config key that is used: evaluate.max_tokens", replace("tiny.yaml", "max_tokens: 24", "max_tokens: 12"),
     {*ANSWERED, "advise", "modelfile", "ollama", "check_template", *SUMMED_UP, *RECORDED}),
    ("a config key that is used: train.learning_rate", replace("tiny.yaml", "learning_rate: 0.002", "learning_rate: 0.001"),
     {*TRAINED, *SUMMED_UP, *RECORDED}),
    ("a config key that the estimate reads, too: train.lora.rank", replace("tiny.yaml", "train:\n", "train:\n  lora: {rank: 4}\n"),
     {*TRAINED, "estimate", "phase", *SUMMED_UP, *RECORDED}),
    ("settings of training that shape nothing", replace("tiny.yaml", "train:\n", "train:\n  memory_gib: 99\n  report_to: wandb\n  checkpoint_minutes: 1\n  checkpoint_steps: 9\n"),
     RECORDED),
    (
        "another model",
        replace("tiny.yaml", "run: tiny\n", f"run: tiny\nmodels: {MODELS}\n"),
        {*TRAINED, "phase", *SUMMED_UP, *RECORDED} - {"speed", "reference_logits", "quant_loss", "quantization", "modelfile", "check_serving", "check_template"},
    ),
    ("the margin of the verdict", replace("tiny.yaml", "max_tokens: 24", "max_tokens: 24\n  margin: 0.02"), {*TOLD, *RECORDED}),
    ("a script: verdict.py", replace("scripts/report/verdict.py", '"""', '"""X '), {*TOLD, *RECORDED}),
    ("a metric: tasks/aws.py", replace("scripts/tasks/aws.py", '"""', '"""X '),
     {"grade", "advise", "quantization", "gate", "fidelity", "ollama", "hf", *SUMMED_UP, *RECORDED}),
    ("a config key that this run does not use: data.license", replace("tiny.yaml", "task: command", "task: command\n  license: MIT"), RECORDED),
    ("a converter that this run does not use: usaddress.py", replace("scripts/data/converters/usaddress.py", '"""', '"""X '), set()),
    ("a config key of what is done with a finished run: hub.private", replace("tiny.yaml", "run: tiny", "run: tiny\nhub: {private: false}"), set()),
    ("a comment in the config", replace("tiny.yaml", "run: tiny\n", "# why\nrun: tiny # its name\n"), set()),
    ("a raw row (the most that it can mean)", replace("results/tiny/data/converted/awscli.jsonl", "aws ", "aws  "),
     {*DATA, "advise", *TRAINED, *SUMMED_UP, *RECORDED}),
    ("a row of the hard phase", replace("results/tiny/curriculum/curriculum/seed1/hard.jsonl", "aws ", "aws  "),
     {*TRAINED, *SUMMED_UP, *RECORDED}),
    ("a package: scipy", replace("envs/requirements.lock", "\nscipy==1.", "\nscipy==2."), WITH_SCIPY),
    ("a package: torch", replace("envs/requirements.lock", "\ntorch==2.", "\ntorch==3."), WITH_TORCH),
    ("a package of the tests alone: pytest", replace("envs/requirements.lock", "\npytest==", "\npytest==1"), {"sbom", *RECORDED}),
]  # fmt: skip


@pytest.fixture(scope="module")
def copy(project, tmp_path_factory):
    """A finished run; each test takes back its edit."""
    copy = project.copy_to(tmp_path_factory.mktemp("reruns") / "copy")
    assert copy.planned() == {}
    return copy


@pytest.mark.parametrize(("what", "edit", "rules"), TABLE, ids=[row[0] for row in TABLE])
def test_an_edit_reruns_what_it_must_and_no_more(copy, what, edit, rules):
    name, change = edit
    before = (copy.folder / name).read_bytes()
    copy.replace(name, change(before.decode()).encode())
    try:
        found = set(copy.planned())
    finally:
        copy.replace(name, before)
    if isinstance(rules, set):
        assert found == rules
    else:
        some, never = rules
        assert found >= some
        assert not found & never


def test_newer_dates_on_every_file_rerun_nothing(copy):
    """In no particular order; and all edits above were taken back."""
    for place in ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "data/raw", "results"):
        top = copy.folder / place
        for file in [top] if top.is_file() else sorted(top.rglob("*"), reverse=True):
            if file.is_file() and file.name != ".snakemake_timestamp":
                os.utime(file)
    assert copy.planned() == {}


def test_a_copy_in_another_place_with_newer_dates_reruns_nothing(project, tmp_path):
    """What a clone is, but for DVC; that way is in test_version.py."""
    copy = project.copy_to(tmp_path / "elsewhere" / "copy")
    for file in (copy.folder / "scripts").rglob("*.py"):
        os.utime(file)
    assert copy.planned() == {}
