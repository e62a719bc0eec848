"""Arms are data; all spend the same steps and tokens; each shows what its definition says."""

import itertools
import math
import random
from collections import Counter

import pytest

from scripts.common.errors import GradusError
from scripts.common.records import LEVELS, Record
from scripts.config.check import check_config
from scripts.curriculum.arms import Arm, lay_out, ledger

NONE = dict.fromkeys(LEVELS)
BUILT_IN = check_config({"run": "r", "base_model": {"source": "path:b"}, "data": {"files": ["r.jsonl"]}}, [])[
    "curriculum"
]["definitions"]


def graded(easy, medium, hard, seed=1):
    """Rows of three levels; harder ones are longer, so that equal rows are not equal tokens."""
    made = [0] * easy + [1] * medium + [2] * hard
    rows = [Record(f"p{n}", f"r{n}", "qa", difficulty=level) for n, level in enumerate(made)]
    lots = random.Random(seed)
    lengths = {r.id: lots.randrange(20, 60) + 40 * (r.difficulty or 0) for r in rows}
    scores = {r.id: (r.difficulty or 0) + lots.random() for r in rows}
    return rows, lengths, scores


def lay(rows, arm="curriculum", sizes=None, batch=8, seed=1, **more):
    records, lengths, scores = rows
    definition = Arm(**BUILT_IN[arm]) if isinstance(arm, str) else arm
    return lay_out(records, definition, seed, sizes or NONE, batch, lengths, scores, **more)


def flat(phases):
    return [r.id for steps in phases.values() for step in steps for r in step]


ROWS = graded(200, 300, 150)
SIZES = {"easy": 120, "medium": 300, "hard": 500}


@pytest.mark.parametrize("arm", BUILT_IN)
@pytest.mark.parametrize("sizes", [SIZES, {"easy": 400, "medium": 900, "hard": 1500}])
def test_every_arm_spends_the_same_steps_and_tokens(arm, sizes):
    reference, found = (ledger(lay(ROWS, name, sizes), ROWS[1])["all"] for name in ("curriculum", arm))
    assert found["steps"] == reference["steps"]
    assert abs(found["tokens"] - reference["tokens"]) <= max(ROWS[1].values())
    assert all(step for steps in lay(ROWS, arm, sizes).values() for step in steps)


@pytest.mark.parametrize("arm", BUILT_IN)
def test_the_same_seed_lays_out_the_same_rows_and_another_seed_others(arm):
    assert flat(lay(ROWS, arm, SIZES)) == flat(lay(ROWS, arm, SIZES))
    assert flat(lay(ROWS, arm, SIZES)) != flat(lay(ROWS, arm, SIZES, seed=2))


def levels_of(steps):
    return Counter(LEVELS[r.difficulty] for step in steps for r in step)


def test_phases_are_cumulative_and_complete_by_default():
    phases = lay(graded(6, 10, 4))
    assert [sum(map(len, phases[name])) for name in LEVELS] == [6, 16, 20]
    assert [len(step) for step in phases["hard"]] == [8, 8, 4]
    assert set(levels_of(phases["medium"])) == {"easy", "medium"}


def test_epochs_go_through_a_pool_more_than_once():
    phases = lay(graded(6, 10, 4), epochs={"easy": 2, "medium": 0.5, "hard": 1})
    assert [sum(map(len, phases[name])) for name in LEVELS] == [12, 8, 20]
    assert set(Counter(r.id for step in phases["easy"] for r in step).values()) == {2}


def test_a_budget_repeats_nothing_before_all_was_seen_and_then_goes_round_again():
    seen = Counter(flat(lay(graded(60, 100, 40), sizes={"easy": 20, "medium": 60, "hard": 120})))
    assert max(seen.values()) == 1
    again = lay(graded(4, 1, 1), sizes={"easy": 10, "medium": None, "hard": None})
    assert sorted(Counter(r.id for step in again["easy"] for r in step).values()) == [2, 2, 3, 3]


def test_an_edited_hard_row_leaves_the_other_phases_alone():
    rows, lengths, scores = graded(20, 30, 10)
    sizes = {"easy": 10, "medium": 20, "hard": 30}
    new = Record("another", "row", "qa", difficulty=2)
    before = lay((rows, lengths, scores), sizes=sizes)
    after = lay(([*rows[:-1], new], {**lengths, new.id: 50}, {**scores, new.id: 2.5}), sizes=sizes)
    for phase in ("easy", "medium"):
        assert before[phase] == after[phase]


def test_shuffled_is_the_curriculums_own_rows_in_another_order():
    ours, control = (lay(ROWS, arm, SIZES) for arm in ("curriculum", "shuffled"))
    assert Counter(flat(ours)) == Counter(flat(control))
    assert flat(ours) != flat(control)
    assert ledger(ours, ROWS[1])["all"]["tokens"] == ledger(control, ROWS[1])["all"]["tokens"]
    assert [len(step) for steps in ours.values() for step in steps] == [
        len(s) for steps in control.values() for s in steps
    ]
    assert levels_of(control["easy"])["hard"] > 10


def test_growing_random_has_growing_sets_of_the_same_size_of_any_difficulty():
    phases = lay(ROWS, "growing-random", {"easy": 400, "medium": 900, "hard": 1500})
    pools = [{r.id for step in phases[name] for r in step} for name in LEVELS]
    assert [len(pool) for pool in pools] == [200, 500, 650]  # as many as are easy; easy or medium; all
    assert pools[0] < pools[1] < pools[2]
    share = levels_of(phases["easy"])
    assert share["hard"] / share.total() == pytest.approx(150 / 650, abs=0.1)


def test_uniform_reversed_and_disjoint_draw_from_what_they_say():
    assert set(levels_of(lay(ROWS, "uniform", SIZES)["easy"])) == set(LEVELS)
    assert set(levels_of(lay(ROWS, "reversed", SIZES)["easy"])) == {"hard"}
    assert set(levels_of(lay(ROWS, "reversed", SIZES)["medium"])) == {"medium", "hard"}
    disjoint = lay(ROWS, "disjoint", SIZES)
    assert set(levels_of(disjoint["easy"])) == {"easy"}
    last = ledger(disjoint, ROWS[1])["hard"]["by_difficulty"]
    earlier = sum(ROWS[1][r.id] for step in disjoint["hard"] for r in step if r.difficulty < 2)
    assert last["hard"] > 0
    assert earlier / ledger(disjoint, ROWS[1])["hard"]["tokens"] == pytest.approx(0.2, abs=0.03)


def test_competence_grows_with_the_root_of_time():
    phases = lay(ROWS, "competence", SIZES)
    steps = [step for name in LEVELS for step in phases[name]]
    ranked = sorted(ROWS[2].values())
    for number, step in enumerate(steps):
        share = math.sqrt(number * (1 - 0.01) / len(steps) + 0.01)
        assert max(ROWS[2][r.id] for r in step) <= ranked[math.ceil(share * len(ranked)) - 1]
    assert {r.difficulty for step in steps[:3] for r in step} == {0}
    assert {r.difficulty for step in steps[-20:] for r in step} == {0, 1, 2}


def test_shares_and_pool_shares_make_phases_long_or_narrow():
    long = ledger(lay(ROWS, "long-easy", SIZES), ROWS[1])
    assert long["easy"]["steps"] / long["all"]["steps"] == pytest.approx(0.6, abs=0.01)
    assert long["easy"]["tokens"] / long["all"]["tokens"] == pytest.approx(0.6, abs=0.01)
    narrow = ledger(lay(ROWS, "narrow-easy", SIZES), ROWS[1])
    assert narrow["easy"]["distinct_rows"] == 20


@pytest.mark.parametrize("order", ["file", "difficulty"])
def test_rows_of_a_phase_can_come_in_order(order):
    records, _, scores = ROWS
    place = {r.id: n for n, r in enumerate(records)} if order == "file" else scores
    for steps in lay(ROWS, Arm(order=order), {"easy": 100, "medium": 200, "hard": 300}).values():
        values = [place[r.id] for step in steps for r in step]
        assert values == sorted(values)


def test_an_arm_of_ones_own_is_a_few_lines_of_config():
    config = {
        "run": "r",
        "base_model": {"source": "path:b"},
        "data": {"files": ["r.jsonl"]},
        "curriculum": {"definitions": {"mine": {"replay": 0.5, "order": "difficulty"}}},
        "models": {"base": {}, "tuned": {"trained": {"arm": "mine", "seed": 1}}},
    }
    checked = check_config(config, [])
    assert checked["curriculum"]["definitions"]["mine"] == {"replay": 0.5, "order": "difficulty"}
    assert "uniform" in checked["curriculum"]["definitions"]
    config["models"]["tuned"]["trained"]["arm"] = "nine"
    with pytest.raises(GradusError, match="no arm 'nine' in curriculum.definitions; known: mine, curriculum"):
        check_config(config, [])
    config["curriculum"]["definitions"]["mine"]["repaly"] = 1
    with pytest.raises(GradusError, match="repaly: no such key; did you mean replay"):
        check_config(config, [])


def test_an_empty_phase_says_what_to_do():
    with pytest.raises(GradusError, match="easy phase would be empty"):
        lay(graded(0, 3, 3))
    with pytest.raises(GradusError, match="no training row is hard: this arm's easy phase would be empty"):
        lay(graded(9, 9, 0), "reversed")


def test_more_steps_than_rows_is_refused():
    rows = graded(50, 50, 50)
    lengths = {r.id: 10 if r.difficulty == 0 else 100 for r in rows[0]}
    with pytest.raises(GradusError, match=r"optimizer steps, but this arm has only .* Raise train.batch_size"):
        lay((rows[0], lengths, rows[2]), "reversed", batch=1)


def test_cutting_gives_every_row_once_in_order():
    from scripts.curriculum.arms import Dealer

    records, lengths, scores = ROWS
    dealer = Dealer(1, lengths, scores)
    for count, steps in itertools.product([10, 57, 200], [1, 7, 10]):
        cut = dealer.cut(records[:count], steps)
        assert [r for step in cut for r in step] == records[:count]
        assert len(cut) == steps
        assert all(cut)
