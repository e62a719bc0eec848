"""Arms are data; all spend the same steps and tokens; each shows what its definition says."""

import itertools
import math
import random
from collections import Counter

import pytest

from scripts.common.curriculum import read_curriculum
from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_json
from scripts.common.records import Record
from scripts.config.check import check_config
from scripts.curriculum.arms import Arm, lay_out_phases, ledger

LEVELS = ["easy", "medium", "hard"]


def section(**curriculum):
    config = {"run": "r", "base_model": {"source": "path:b"}, "data": {"files": ["r.jsonl"]}, "curriculum": curriculum}
    return check_config(config, [])["curriculum"]


DEFINED = section()["definitions"]
BUILT_IN = {name: arm for name, arm in DEFINED.items() if arm.get("difficulty") != "model"}  # those known in advance


def graded(*counts, seed=1):
    """Rows of so many of each level; harder ones are longer, so that equal rows are not equal tokens."""
    made = [level for level, count in enumerate(counts) for _ in range(count)]
    rows = [Record(f"p{n}", f"r{n}", "qa", difficulty=level) for n, level in enumerate(made)]
    lots = random.Random(seed)
    lengths = {r.id: lots.randrange(20, 60) + 40 * (r.difficulty or 0) for r in rows}
    scores = {r.id: (r.difficulty or 0) + lots.random() for r in rows}
    return rows, lengths, scores


def phases_of(levels=LEVELS, sizes=None, epochs=None):
    """One cumulative phase for each level, as by default, with budgets in rows."""
    found = read_curriculum(section(levels=list(levels)))
    for phase in found.phases:
        phase.rows = (sizes or {}).get(phase.name)
        phase.epochs = (epochs or {}).get(phase.name, 1)
    return found


def lay(rows, arm="curriculum", sizes=None, batch=8, seed=1, epochs=None, curriculum=None):
    records, lengths, scores = rows
    definition = Arm(**BUILT_IN[arm]) if isinstance(arm, str) else arm
    phases = curriculum or phases_of(LEVELS, sizes, epochs)
    return dict(lay_out_phases(records, definition, phases, seed, batch, lengths, scores))


def spent(phases, rows=None, curriculum=None):
    return ledger(phases, curriculum or phases_of(), (rows or ROWS)[1])


def flat(phases):
    return [r.id for steps in phases.values() for step in steps for r in step]


ROWS = graded(200, 300, 150)
SIZES = {"easy": 120, "medium": 300, "hard": 500}


@pytest.mark.parametrize("arm", BUILT_IN)
@pytest.mark.parametrize("sizes", [SIZES, {"easy": 400, "medium": 900, "hard": 1500}])
def test_every_arm_spends_the_same_steps_and_tokens(arm, sizes):
    reference, found = (spent(lay(ROWS, name, sizes))["all"] for name in ("curriculum", arm))
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
    assert spent(ours)["all"]["tokens"] == spent(control)["all"]["tokens"]
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
    last = spent(disjoint)["hard"]["by_difficulty"]
    earlier = sum(ROWS[1][r.id] for step in disjoint["hard"] for r in step if r.difficulty < 2)
    assert last["hard"] > 0
    assert earlier / spent(disjoint)["hard"]["tokens"] == pytest.approx(0.2, abs=0.03)


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
    long = spent(lay(ROWS, "long-easy", SIZES))
    assert long["easy"]["steps"] / long["all"]["steps"] == pytest.approx(0.6, abs=0.01)
    assert long["easy"]["tokens"] / long["all"]["tokens"] == pytest.approx(0.6, abs=0.01)
    narrow = spent(lay(ROWS, "narrow-easy", SIZES))
    assert narrow["easy"]["distinct_rows"] == 20


@pytest.mark.parametrize("order", ["file", "difficulty"])
def test_rows_of_a_phase_can_come_in_order(order):
    records, _, scores = ROWS
    place = {r.id: n for n, r in enumerate(records)} if order == "file" else scores
    for steps in lay(ROWS, Arm(order=order), {"easy": 100, "medium": 200, "hard": 300}).values():
        values = [place[r.id] for step in steps for r in step]
        assert values == sorted(values)


# digests of layouts by the code that knew three phases only (commit 043cdae): the default must stay these steps
DIGESTS = {
    "curriculum": ["2d2584b6d5baaff2", "536a87ae76de2921", "227ce5147494e062"],
    "growing-random": ["8d4deab3e67b906e", "ba3004cdaaa1712e", "4de768cbf5043fc5"],
    "shuffled": ["845a6953ada53eab", "71cd2ff1985db3df", "3133fd1c1600769b"],
    "uniform": ["2ec99b98d772ec5f", "40c6878ebde70ed8", "01cb2ddc14535051"],
    "reversed": ["c4dcd66ff0dfceba", "623e87e0db3cbe78", "ae281f81d23e157c"],
    "disjoint": ["4bbe2c0651ce9179", "f0823b991b686b21", "33996cb4194a5d31"],
    "competence": ["4f4777dee72d0672", "5cdfd50b33b71300", "300395a27698f6b7"],
    "long-easy": ["0df3acca80a485bb", "84d7349e7890b93d", "cade2e45e6abccc1"],
    "narrow-easy": ["7e76e2589731bf8c", "0196b69f707295a3", "828b4f61572e4cb9"],
}


def digest_of(phases):
    return sha256_json([[n, [[r.id for r in step] for step in steps]] for n, steps in phases.items()])[:16]


@pytest.mark.parametrize("arm", BUILT_IN)
def test_three_levels_lay_out_the_same_steps_as_ever(arm):
    sizes = {"easy": 400, "medium": 900, "hard": 1500}
    found = [lay(ROWS, arm, SIZES), lay(ROWS, arm, sizes, seed=2), lay(ROWS, arm, batch=4, seed=7)]
    assert [digest_of(phases) for phases in found] == DIGESTS[arm]


def test_an_arm_that_names_its_phases_lays_out_the_same_steps_as_ever():
    mine = Arm(
        levels={"easy": ["easy"], "medium": ["medium"], "hard": ["medium", "hard"]},
        replay=0.1,
        order="difficulty",
        shares={"easy": 1, "medium": 2, "hard": 2},
        pool_shares={"medium": 0.5},
    )
    assert digest_of(lay(ROWS, mine, SIZES)) == "3914e4233a0096c3"


MANY = {
    2: (graded(120, 180), phases_of(["plain", "tricky"])),
    3: (ROWS, phases_of(LEVELS, SIZES)),
    5: (graded(60, 90, 120, 50, 40), phases_of(["a", "b", "c", "d", "e"], {"a": 40, "b": 90, "c": 160, "e": 300})),
}


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize("arm", BUILT_IN)
def test_every_arm_is_defined_for_any_number_of_phases(count, arm):
    """Steps, tokens and ledger add up for two, three and five phases."""
    rows, curriculum = MANY[count]
    phases = lay(rows, arm, curriculum=curriculum)
    reference, found = (spent(p, rows, curriculum) for p in (lay(rows, curriculum=curriculum), phases))
    assert list(phases) == curriculum.names
    assert found["all"]["steps"] == reference["all"]["steps"] == sum(found[name]["steps"] for name in curriculum.names)
    assert abs(found["all"]["tokens"] - reference["all"]["tokens"]) <= max(rows[1].values())
    assert list(found["all"]["by_difficulty"]) == curriculum.levels
    assert sum(found["all"]["by_difficulty"].values()) == found["all"]["rows"]
    assert all(found[name]["steps"] for name in curriculum.names)


@pytest.mark.parametrize("count", MANY)
def test_symbolic_arms_follow_from_the_phases(count):
    rows, curriculum = MANY[count]
    levels, first, last = curriculum.levels, curriculum.names[0], curriculum.names[-1]

    def drawn(arm):
        return Arm(**BUILT_IN[arm]).drawn_levels(curriculum)

    assert drawn("uniform") == dict.fromkeys(curriculum.names, levels)
    assert [drawn("reversed")[name] for name in (first, last)] == [levels[-1:], levels]
    assert drawn("disjoint") == {name: [name] for name in levels}
    long = spent(lay(rows, "long-easy", curriculum=curriculum), rows, curriculum)
    assert long[first]["steps"] / long["all"]["steps"] == pytest.approx(0.6, abs=0.02)
    assert max(abs(long[n]["steps"] - long[last]["steps"]) for n in curriculum.names[1:]) <= 1


def test_phases_need_not_be_levels():
    """Two passes over everything after a warm-up on the easiest: phases that share levels, and one without new ones."""
    phases = [
        {"name": "warm-up", "levels": ["easy"], "rows": 16},
        {"name": "one", "levels": LEVELS},
        {"name": "two", "levels": LEVELS, "epochs": 0.5},
    ]
    found = spent(lay(graded(20, 20, 20), curriculum=read_curriculum(section(phases=phases))))
    assert [found[name]["rows"] for name in ("warm-up", "one", "two")] == [16, 60, 30]


def test_a_phase_without_steps_is_refused():
    with pytest.raises(GradusError, match="this arm's share of 3 optimizer steps leaves none for the medium phase"):
        lay(graded(4, 4, 4), Arm(shares={"first": 0.9}), curriculum=phases_of(LEVELS, dict.fromkeys(LEVELS, 1)))


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
    with pytest.raises(GradusError, match="no training row is hard, so this arm's easy phase would be empty"):
        lay(graded(9, 9, 0), "reversed")


def test_more_steps_than_rows_is_refused():
    rows = graded(50, 50, 50)
    lengths = {r.id: 10 if r.difficulty == 0 else 100 for r in rows[0]}
    with pytest.raises(
        GradusError, match=r"optimizer steps, but this arm fills its tokens with only .* Raise train.batch_size"
    ):
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


class Learner:
    """A stand-in for a model: a row's loss is a number, and it notes which rows it was asked about, and when."""

    def __init__(self, rows):
        self.losses = {row.id: float(int(row.id, 16) % 1000) for row in rows}
        self.asked = []

    def __call__(self, rows):
        self.asked.append({row.id for row in rows})
        return [self.losses[row.id] for row in rows]


def lay_self_paced(measure, sizes=SIZES):
    records, lengths, scores = ROWS
    arm = Arm(**DEFINED["self-paced"])
    return lay_out_phases(records, arm, phases_of(LEVELS, sizes), 1, 8, lengths, scores, measure)


def test_self_paced_takes_the_rows_with_the_lowest_loss_first_and_asks_only_about_rows_not_yet_seen():
    learner = Learner(ROWS[0])
    seen, asked = {}, []
    for phase, steps in lay_self_paced(learner):
        asked.append(len(learner.asked))
        seen[phase] = {row.id for step in steps for row in step}
    assert asked == [1, 2, 2]  # just before each phase; the last draws from all rows, so it needs no measurement
    assert learner.asked[0] == {row.id for row in ROWS[0]}
    assert learner.asked[1] == learner.asked[0] - seen["easy"]
    easiest = sorted(learner.losses, key=learner.losses.get)
    pool = len([row for row in ROWS[0] if row.difficulty == 0])
    assert seen["easy"] <= set(easiest[:pool])
    left = [key for key in easiest if key not in seen["easy"]]
    medium = len([row for row in ROWS[0] if row.difficulty < 2])
    assert seen["medium"] - seen["easy"] <= set(left[: medium - len(seen["easy"])])


def test_self_paced_spends_the_budget_of_the_curriculum():
    reference, found = spent(lay(ROWS, sizes=SIZES))["all"], spent(dict(lay_self_paced(Learner(ROWS[0]))))["all"]
    assert found["steps"] == reference["steps"]
    assert abs(found["tokens"] - reference["tokens"]) <= max(ROWS[1].values())


def test_self_paced_needs_a_model_to_ask():
    with pytest.raises(GradusError, match="only as part of an experiment"):
        lay(ROWS, Arm(**DEFINED["self-paced"]))
