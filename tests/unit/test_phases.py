"""Two, three and five phases: seeds, disk, figures, methods; and settings of training that shape nothing."""

import pytest

from scripts.common.code import local_files
from scripts.common.hashing import ROOT
from scripts.common.plots import COLORS, level_colors
from scripts.common.preference import METHODS as PREFERENCE_METHODS
from scripts.config.schema import load_schema
from scripts.report.figures import draw_difficulty, draw_loss
from scripts.train.shaping import NOT_SHAPING, not_shaping, shaping

TRAIN = load_schema()["properties"]["train"]["properties"]


def test_settings_are_divided_into_those_that_shape_and_the_others():
    train = dict.fromkeys(TRAIN, 2)
    assert set(NOT_SHAPING) <= set(TRAIN)
    assert {**shaping(train), **not_shaping(train)} == train
    assert not set(shaping(train)) & set(NOT_SHAPING)
    for changed in NOT_SHAPING:
        assert shaping({**train, changed: 3}) == shaping(train)
    assert shaping({**train, "learning_rate": 3}) != shaping(train)
    # what was trained before there could be several processes stays valid, and so do plans of experiments
    assert "processes" not in shaping({**train, "processes": 1})
    assert shaping({**train, "processes": 2}) != shaping({**train, "processes": 1})  # it trains again


def test_three_levels_keep_their_colors():
    assert level_colors(3) == COLORS[:3]
    assert level_colors(2) == [COLORS[0], COLORS[2]]
    assert len(set(level_colors(7))) == 7


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_figures_draw_any_number_of_levels_and_phases(count):
    names = [f"level-{n}" for n in range(count)]
    bars = draw_difficulty({"train": dict.fromkeys(names, 3), "test": {names[0]: 1}}, names).to_dict()
    assert bars["encoding"]["color"]["sort"] == names
    assert sum(row["rows"] for rows in bars["datasets"].values() for row in rows) == 3 * count + 1
    history = [{"loss": 2.0}, {"loss": 1.0, "heldout_loss": 1.5}]
    curves = draw_loss({("curriculum", "1"): [(name, history) for name in names]}).to_dict()
    assert curves["layer"][0]["encoding"]["color"]["sort"] == names
    lines, held_out = curves["datasets"].values()
    assert [row["step"] for row in lines] == list(range(1, 2 * count + 1))
    assert [row["loss"] for row in held_out] == [1.5] * count


def test_methods_are_those_that_the_config_offers():
    from scripts.train.methods import MODULES, find_method

    phase = load_schema()["properties"]["curriculum"]["properties"]["phases"]["items"]
    assert list(MODULES) == phase["else"]["properties"]["method"]["enum"]
    assert list(PREFERENCE_METHODS) == phase["then"]["properties"]["method"]["enum"] == list(MODULES)[1:]
    assert all(find_method(name) for name in MODULES)


def test_code_for_pairs_is_no_part_of_what_supervised_phases_depend_on():
    from scripts.train.methods import code_of

    def covered(script):
        return {path.relative_to(ROOT / "scripts").as_posix() for path, _, _ in local_files(ROOT / "scripts" / script)}

    supervised, pairs = covered("train/train_phase.py"), {"train/preference.py", "common/pairs.py"}
    assert "train/sft.py" in supervised
    assert not (pairs | {"common/preference.py"}) & supervised
    assert code_of("sft") == []
    assert pairs <= covered(*code_of("dpo"))


def test_disk_grows_with_the_phases():
    from scripts.train.estimate import disk_bytes

    one = {"trainings": 1, "merged": 1, "exported": 2, "quants": ["Q4_K_M"] * 3}
    assert disk_bytes(1600, 40, 3, **one) == 6 * 30 + 5 * 1600 + 3 * 550
    assert disk_bytes(1600, 40, 5, **one) - disk_bytes(1600, 40, 3, **one) == 2 * 30
    assert disk_bytes(1600, 40, 3, 4, 4, 5, ["Q8_0"]) == 15 * 30 + 11 * 1600 + 950


def test_disk_of_a_packed_7b_is_that_of_its_bf16_files():
    """What is in memory in 4 bits is written in 16: base, merged model, GGUFs of both, and the folder for the Hub."""
    from scripts.train.estimate import disk_bytes

    need = disk_bytes(15_230_000_000, 650_000_000, 3, trainings=1, merged=1, exported=2, quants=["Q4_K_M"] * 3)
    assert 90e9 < need < 110e9


def test_what_is_written_counts_arms_seeds_quants_and_experiments():
    from scripts.config.check import check_config
    from scripts.train.estimate import written

    given = {
        "run": "x",
        "base_model": "smollm2-135m",
        "chat": {"system_prompt": "Be brief."},
        "data": {"files": ["path:rows.jsonl"], "task": "qa"},
        "models": {"base": {}, "tuned": {"trained": {"arms": ["curriculum", "shuffled"], "seeds": [1, 2]}}},
        "export": {"more_quants": ["Q8_0"]},
    }
    found = written(check_config(given, []))
    assert found["quants"] == ["Q4_K_M"] * 6 + ["Q8_0"]
    assert (found["phases"], found["trainings"], found["merged"], found["exported"]) == (3, 4, 4, 5)
