"""Two, three and five phases: seeds, disk, figures, methods; and settings of training that shape nothing."""

import pytest

from scripts.common.plots import COLORS, level_colors
from scripts.config.check import load_schema
from scripts.report.figures import draw_difficulty, draw_loss
from scripts.train.shaping import NOT_SHAPING, not_shaping, shaping

TRAIN = load_schema()["properties"]["train"]["properties"]


def test_settings_are_divided_into_those_that_shape_and_the_others():
    train = dict.fromkeys(TRAIN, 1)
    assert set(NOT_SHAPING) <= set(TRAIN)
    assert {**shaping(train), **not_shaping(train)} == train
    assert not set(shaping(train)) & set(NOT_SHAPING)
    for changed in ("memory_gib", "report_to", "checkpoint_minutes", "checkpoint_steps"):
        assert shaping({**train, changed: 2}) == shaping(train)
    assert shaping({**train, "learning_rate": 2}) != shaping(train)


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
    from scripts.train.methods import METHODS

    phase = load_schema()["properties"]["curriculum"]["properties"]["phases"]["items"]["properties"]
    assert list(METHODS) == phase["method"]["enum"]


def test_disk_grows_with_the_phases():
    from scripts.train.estimate import disk_bytes

    assert disk_bytes(100, 40, 3) == 6 * 30 + 500
    assert disk_bytes(100, 40, 5) - disk_bytes(100, 40, 3) == 2 * 30
