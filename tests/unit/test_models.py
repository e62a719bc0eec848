"""Models are data: what `models` in the config stands for."""

import json

import pytest

from scripts.common.errors import GradusError
from scripts.common.models import (
    KINDS,
    Kind,
    Training,
    check_models,
    compared_with,
    merge_pairs,
    own_checks,
    resolve,
    seeds_of,
    served,
    trainings,
    was_added,
)
from scripts.config.check import check_config
from scripts.config.reading import read_config

ENTRIES = {
    "base": {},
    "tuned": {"trained": {"arm": "curriculum", "seed": 1}},
    "tuned-nf4": {"trained": {"arm": "curriculum", "seed": 1}, "merged_into": "nf4"},
    "order": {"trained": {"arms": ["curriculum", "growing-random"], "seeds": [1, 2]}},
}


def test_a_group_stands_for_one_model_per_arm_and_seed():
    models = resolve(ENTRIES)
    assert list(models) == [
        "base",
        "tuned",
        "tuned-nf4",
        "order-curriculum-1",
        "order-curriculum-2",
        "order-growing-random-1",
        "order-growing-random-2",
    ]
    model = models["order-growing-random-2"]
    assert (model.kind, model.training, model.merged_into) == ("trained", Training("growing-random", 2), "bf16")
    assert model.group == "order"


def test_models_of_the_same_training_share_it():
    found = trainings(resolve(ENTRIES))
    assert found == [
        Training("curriculum", 1),
        Training("curriculum", 2),
        Training("growing-random", 1),
        Training("growing-random", 2),
    ]


def test_seeds_are_counted_in_the_model_s_own_group_and_arm():
    models = resolve(ENTRIES)
    assert seeds_of(models["order-curriculum-2"], models) == 2
    assert seeds_of(models["tuned"], models) == 1  # no group, though another model has the same arm
    assert seeds_of(models["base"], models) == 1


def test_names_say_nothing_about_a_model():
    """An untrained model need not be called base, and a trained one may be."""
    models = resolve({"raw": {}, "base": {"trained": {"arm": "uniform", "seed": 3}, "merged_into": "nf4"}})
    config = {"compare_with": None, "serve": None}
    assert compared_with(config, models).name == "raw"
    assert served(config, models).name == "base"
    assert own_checks(models.values()) == ["base/merge", "raw/gguf", "base/gguf"]
    assert served({**config, "serve": "base"}, models).merged_into == "nf4"


def test_models_of_the_same_weights_share_them_and_their_checks():
    models = resolve(ENTRIES)
    assert models["order-curriculum-1"].weights == "tuned"
    assert models["tuned-nf4"].weights == "tuned-nf4"
    assert "order-curriculum-1/gguf" not in own_checks(models.values())


def test_pairs_that_differ_in_the_merge_alone_are_found():
    pairs = merge_pairs(list(resolve(ENTRIES).values()))
    assert [(one.name, other.name) for one, other in pairs] == [("tuned", "tuned-nf4")]


def test_a_model_that_contenders_adds_is_not_one_of_the_user_s_own(tmp_path):
    def added(more):
        rows = {"run": "mine", "base_model": "smollm2-135m", "data": {"files": ["rows.jsonl"]}, **more}
        (tmp_path / "config.json").write_text(json.dumps(rows))
        config = check_config(read_config(tmp_path / "config.json"), [str(tmp_path / "config.json")])
        models = resolve(config["models"])
        return {name for name, model in models.items() if was_added(config, model)}, config

    names, config = added({})
    assert names == {"few-shot", "nearest"}
    again, _ = added({key: config[key] for key in ("contenders", "models")})
    assert again == names  # so a run from its resolved config is the same run
    trained = {"tuned": {"trained": {"arm": "curriculum", "seed": 1}}}
    own = {"few-shot": {"examples": {"count": 8, "choose": "nearest"}}}
    assert added({"models": {**trained, **own}})[0] == {"nearest"}
    default = {"few-shot": {"examples": {"count": 4, "choose": "nearest"}}}
    assert added({"contenders": False, "models": {**trained, **default}})[0] == set()


def test_two_models_of_one_name_are_refused():
    with pytest.raises(GradusError, match="'a-b-1'"):
        resolve({"a-b-1": {}, "a": {"trained": {"arms": ["b"], "seeds": [1]}}})


def test_a_kind_of_model_is_one_entry_and_answers_in_a_folder_of_its_own(monkeypatch):
    """Two kinds without a GGUF must not write the same file, which Snakemake refuses as ambiguous."""
    for kind in ("nearest", "http"):
        monkeypatch.setitem(KINDS, kind, Kind(exported=False, trained=False, checks=()))
    models = resolve({**ENTRIES, "near": {"nearest": {}}, "far": {"http": {}}})
    assert (models["near"].form("Q4_K_M"), models["far"].form("Q4_K_M")) == ("nearest", "http")
    assert models["base"].form("Q4_K_M") == "Q4_K_M"
    assert "near/gguf" not in own_checks(models.values())


def test_an_entry_of_two_kinds_is_refused(monkeypatch):
    monkeypatch.setitem(KINDS, "nearest", Kind(exported=False, trained=False, checks=()))
    config = {
        "curriculum": {"definitions": {"curriculum": {}}},
        "train": {"base_weights": "bf16"},
        "data": {"task": "qa", "schema": None},
        "models": {"base": {}, "near": {"nearest": {}, "trained": {"arm": "curriculum", "seed": 1}}},
        "compare_with": None,
        "serve": None,
    }
    assert (["models", "near"], "trained and nearest are two kinds of models; use a separate entry for each") in [
        *map(tuple, check_models(config))
    ]


@pytest.mark.parametrize(
    ("task", "grammar", "reason"),
    [
        ("qa", "commands", "`commands` fits only the task command, and data.task is qa"),
        ("command", "labels", "`labels` fits only the task classify, and data.task is command"),
        ("extract", "schema", "`schema` needs data.schema, the JSON schema of the answers; set it"),
        ("command", "commands", None),
        ("classify", "labels", None),
        ("my_task.py", "commands", None),
    ],
)
def test_a_grammar_must_suit_the_task(task, grammar, reason):
    config = {
        "curriculum": {"definitions": {}},
        "train": {"base_weights": "bf16"},
        "data": {"task": task, "schema": None},
        "models": {"base": {}, "held": {"constrained": grammar}},
        "compare_with": None,
        "serve": None,
    }
    found = [why for place, why in check_models(config) if place[-1] == "constrained"]
    assert found == ([reason] if reason else [])
