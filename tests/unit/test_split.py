"""Duplicates, splits that hold for good, and the gate between training and evaluation."""

import itertools
import random

import pytest

from scripts.common.errors import GradusError
from scripts.common.io import Rows, read_jsonl, write_jsonl
from scripts.common.near_copies import bands, near_copies, shingles
from scripts.common.ngrams import grams
from scripts.common.records import Record, read_records
from scripts.data.decontaminate import Sides, find_augmented, find_pairs, gate, sides_of
from scripts.data.deduplicate import deduplicate
from scripts.data.split import Splitter, divided, find_copies, split

SHARES = {"by": "group", "valid_share": 0.1, "test_share": 0.2, "unseen_share": 0.2}


def words(seed, count=12):
    lots = random.Random(f"words {seed}")
    return " ".join("".join(lots.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(count))


def records(count, start=0, **more):
    return [Record(words(n), f"answer {n}", "qa", group=f"g{n // 4}", **more) for n in range(start, start + count)]


def divide(tmp_path, rows, few=True, near="together", **shares):
    """Deduplicate and split; return ({id: split}, the splitter, deduplication's counts)."""
    write_jsonl(tmp_path / "in.jsonl", (r.to_json() for r in rows))
    left_out, _, counts = deduplicate(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "prompt", 0.8, near)
    splitter = Splitter(1, **{**SHARES, **shares}, sources=find_copies(left_out))
    split(read_records(tmp_path / "out.jsonl"), splitter, few)
    return (
        {row["id"]: row["split"] for row in divided(read_records(tmp_path / "out.jsonl"), splitter)},
        splitter,
        counts,
    )


def near(text, number):
    """Return a text of which two versions are near-copies."""
    return f"{text} {number % 7}"


# --- duplicates


def test_exact_duplicates_differ_in_blanks_alone_and_the_first_stays(tmp_path):
    rows = [
        Record("a b", "c", "qa", source="1"),
        Record("a  b ", "c", "qa", source="2"),
        Record("a b", "d", "qa", source="3"),
    ]
    write_jsonl(tmp_path / "in.jsonl", (r.to_json() for r in rows))
    left_out, contradictions, counts = deduplicate(
        tmp_path / "in.jsonl", tmp_path / "out.jsonl", "prompt", 0.8, "together"
    )
    assert [(item["source"], item["reason"]) for item in left_out] == [("2", "exact duplicate")]
    assert contradictions == [{"prompt": "a b", "sources": ["1", "3"], "responses": ["c", "d"]}]
    assert counts["left_out"] == {"exact duplicate": 1}
    kept = list(read_records(tmp_path / "out.jsonl"))
    assert [r.near for r in kept] == [[], [rows[0].id]]


def test_an_exact_duplicate_leaves_its_rejected_answers_to_the_row_that_stays(tmp_path):
    rows = [
        Record("a b", "c", "qa", rejected=["x"], accepted=["r"]),
        Record("a b ", "c", "qa", rejected=["y", " x", "r"]),
        Record("a b", " c", "qa", rejected=["z", "y"]),
        Record("d", "e", "qa"),
        Record("d ", "e", "qa", rejected=["f"]),
        Record("a b", "g", "qa"),
    ]
    write_jsonl(tmp_path / "in.jsonl", (r.to_json() for r in rows))
    files = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    counts = deduplicate(*files, "prompt", 0.8, "together")[2]
    kept = list(read_records(files[1]))
    assert [r.rejected for r in kept] == [["x", "y", "z"], ["f"], []]
    assert [r.near for r in kept] == [[], [], [rows[0].id]]
    assert counts["rejected"] == {"kept": 3}


def test_rejected_answers_that_go_with_a_near_copy_are_counted(tmp_path):
    text = words("x")
    rows = [Record(near(text, 1), "a", "qa", rejected=["b"]), Record(near(text, 2), "c", "qa", rejected=["d", "e"])]
    assert divide(tmp_path, rows, near="thin")[2]["rejected"] == {"left_out": 2}
    assert "rejected" not in divide(tmp_path, rows)[2]


def test_near_copies_are_found_as_the_exact_similarity_says():
    lots = random.Random(4)
    texts = [words(n, 20) for n in range(300)]
    for n in range(300):  # copies with every seventh to every second word changed
        some = texts[n].split()
        for place in lots.sample(range(20), n % 10):
            some[place] = words(f"{n} {place}", 1)
        texts.append(" ".join(some))
    found = {(a, b) for a, b, _ in near_copies(len(texts), texts.__getitem__, 0.7)}
    sets = [shingles(text) for text in texts]
    true = {(n, n + 300) for n in range(300) if len(sets[n] & sets[n + 300]) >= 0.7 * len(sets[n] | sets[n + 300])}
    assert 20 < len(true) < 280
    assert found <= true  # the exact similarity decides
    assert len(found) >= 0.97 * len(true)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_the_bands_find_98_percent_at_the_threshold(threshold):
    number, rows = bands(threshold)
    assert number * rows <= 128
    assert 1 - (1 - threshold**rows) ** number >= 0.98


def test_ten_thousand_copies_of_one_row_do_no_harm():
    pairs = near_copies(10_000, lambda n: near("the same thing over and over again, word for word", n), 0.8)
    assert len(pairs) < 70_000  # each with a few first ones, not each with each
    assert {second for first, second, _ in pairs if first == 0} == set(range(1, 10_000))


def test_thinning_keeps_the_first_of_each(tmp_path):
    rows = [Record(near(words(n // 5), n), f"answer {n}", "qa") for n in range(100)]
    kept, _, counts = divide(tmp_path, rows, near="thin")
    assert len(kept) == 20 == counts["clusters"]
    assert set(kept) == {rows[n].id for n in range(0, 100, 5)}
    assert counts["left_out"] == {"near-copy": 80}


def test_thinning_by_response_leaves_rows_that_ask_the_same_and_answer_otherwise(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", (Record("same", words(n), "qa").to_json() for n in range(3)))
    _, contradictions, counts = deduplicate(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "response", 0.8, "thin")
    assert (counts["records"], len(contradictions)) == (3, 2)


def test_turns_of_other_conversations_are_no_copies_for_saying_yes(tmp_path):
    rows = [Record("yes", f"done {n}", "qa", context=[{"role": "user", "content": words(n)}]) for n in range(20)]
    assert divide(tmp_path, rows)[2]["clusters"] == 20


# --- splits


def test_shares_are_about_what_was_asked_for_and_groups_whole(tmp_path):
    rows = records(2000)
    kept, _, _ = divide(tmp_path, rows)
    groups = {}
    for r in rows:
        groups.setdefault(r.group, set()).add(kept[r.id])
    assert all(len(splits) == 1 for splits in groups.values())
    share = {name: sum(split == name for split in kept.values()) / 2000 for name in set(kept.values())}
    assert share == pytest.approx({"eval-unseen": 0.2, "test": 0.16, "valid": 0.08, "train": 0.56}, abs=0.04)


def test_splits_by_row_divide_groups_and_hold_whole_ones_back_for_unseen_alone(tmp_path):
    rows = records(800)
    kept, _, _ = divide(tmp_path, rows, by="row")
    groups = {}
    for r in rows:
        groups.setdefault(r.group, set()).add(kept[r.id])
    assert any(len(splits) > 1 for splits in groups.values())
    assert all(splits == {"eval-unseen"} for splits in groups.values() if "eval-unseen" in splits)


def copies(count):
    """Return rows of which every second nearly copies one before it, and some have no group."""
    rows = []
    for n in range(count):
        text = near(words(n // 2), n) if n % 4 < 2 else words(f"alone {n}")
        rows.append(Record(text, f"answer {n}", "qa", group=f"g{n % 31}" if n % 3 else ""))
    return rows


@pytest.mark.parametrize("by", ["group", "row"])
def test_adding_rows_moves_no_row(tmp_path, by):
    """Whatever is added at the end: near-copies of what is there, rows of known groups, of new ones."""
    rows = copies(600)
    first = split_of(tmp_path, rows[:300], Splitter(1, **{**SHARES, "by": by}))
    after = split_of(tmp_path, rows, Splitter(1, **{**SHARES, "by": by}))
    assert len(first) == 300
    assert {key: after[key] for key in first} == first


def split_of(tmp_path, rows, splitter):
    write_jsonl(tmp_path / "in.jsonl", (r.to_json() for r in rows))
    deduplicate(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "prompt", 0.8, "together")
    split(read_records(tmp_path / "out.jsonl"), splitter, True)
    return dict(splitter.splits)


def test_the_order_of_rows_without_copies_is_no_matter(tmp_path):
    rows = records(400)
    assert divide(tmp_path, rows)[0] == divide(tmp_path, rows[::-1])[0]


@pytest.mark.parametrize("by", ["group", "row"])
def test_near_copies_never_stand_on_both_sides(tmp_path, by):
    rows = copies(400)
    splitter = Splitter(1, **{**SHARES, "by": by})
    splits = split_of(tmp_path, rows, splitter)
    side = {r.id: splits[r.id] for r in rows if r.id not in splitter.dropped}
    by_id = {r.id: shingles(r.prompt) for r in rows}
    held = [key for key, split in side.items() if split != "train"]
    train = [key for key, split in side.items() if split == "train"]
    assert len(train) > 100
    for a, b in itertools.product(held, train):
        one, other = by_id[a], by_id[b]
        assert len(one & other) < 0.8 * len(one | other)


def test_splits_that_rows_bring_are_kept_and_win(tmp_path):
    text = words("x")
    rows = [
        Record(near(text, 1), "a", "qa"),
        Record(near(text, 2), "b", "qa", split="eval-hard"),
        *records(50, split="test"),
    ]
    kept, splitter, _ = divide(tmp_path, rows)
    assert kept[rows[1].id] == "eval-hard"
    assert rows[0].id not in kept
    assert splitter.dropped == {rows[0].id: "near-copy of a row in eval-hard"}
    assert all(kept[r.id] == "test" for r in rows[2:])


def test_turns_of_a_conversation_share_a_split(tmp_path):
    rows = [Record(words(n), "a", "qa", thread=f"t{n // 3}") for n in range(300)]
    kept, _, _ = divide(tmp_path, rows)
    for n in range(0, 300, 3):
        assert len({kept[r.id] for r in rows[n : n + 3]}) == 1
    assert len(set(kept.values())) == 3


def test_too_few_rows_are_refused_unless_told(tmp_path):
    with pytest.raises(GradusError, match="40 records are left .* set data.allow_few: true"):
        divide(tmp_path, records(40), few=False)
    assert divide(tmp_path, records(40))[0]


def test_all_rows_in_one_group_are_refused_in_words(tmp_path):
    rows = [Record(words(n), "a", "qa", group="all") for n in range(200)]
    with pytest.raises(
        GradusError, match="all 200 records are in one group, 'all', and so in one split, .* split.by: row"
    ):
        divide(tmp_path, rows, unseen_share=0.0)


# --- decontamination


def found_pairs(tmp_path, rows):
    write_jsonl(tmp_path / "split.jsonl", (r.to_json() for r in rows))
    stored = Rows(tmp_path / "split.jsonl")
    sides = sides_of(stored)
    return list(find_pairs(stored, sides, 0.8, 8, 0.7).values()), sides


def found_augmented(tmp_path):
    stored = Rows(tmp_path / "split.jsonl")
    return {stored[number]["id"] for number in find_augmented(stored, sides_of(stored), 0.8, 8, 0.7)}


def test_copied_and_embedded_prompts_are_found_with_their_training_row(tmp_path):
    rows = [Record(words(n), "a", "qa", split="train", source=f"train:{n}") for n in range(200)]
    rows += [Record(words(f"h{n}"), "a", "qa", split="test", source=f"test:{n}") for n in range(100)]
    rows.append(Record(near(words(17), 3), "other", "qa", split="test", source="copy"))
    long = f"{words('intro', 60)} {words(18)} {words('more', 60)}"
    rows.append(Record(long, "a", "qa", split="train", source="page"))
    rows.append(Record(words("intro", 60).upper(), "b", "qa", split="eval-hard", source="quoted"))
    pairs, sides = found_pairs(tmp_path, rows)
    assert (len(sides.train), len(sides.held_out)) == (201, 102)
    assert [(p["sources"], p["check"]) for p in pairs] == [
        (["copy", "train:17"], "near-copy"),
        (["quoted", "page"], "n-grams"),
    ]
    assert pairs[1]["value"] == 1.0


def test_two_processes_find_what_one_finds(tmp_path):
    rows = [
        Record(near(words(n % 1100, 12), n), f"answer {n}", "qa", split="test" if n % 3 else "train")
        for n in range(2200)
    ]
    write_jsonl(tmp_path / "in.jsonl", (r.to_json() for r in rows))
    found = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.jsonl"
        found.append(deduplicate(tmp_path / "in.jsonl", out, "prompt", 0.8, "together", processes))
        found.append(find_pairs(Rows(out), sides_of(Rows(out), processes), 0.8, 8, 0.7, processes))
        found.append(out.read_bytes())
    assert found[:3] == found[3:]
    assert found[0][2]["rows_with_near_copies"] > 1500 and found[1]


def test_the_gate_lists_pairs_and_says_what_to_do(tmp_path):
    rows = [*records(50, split="train"), *[Record(near(words(n), 1), "b", "qa", split="test") for n in range(7)]]
    pairs, sides = found_pairs(tmp_path, rows)
    assert len(pairs) == 7
    with pytest.raises(GradusError, match=r"7 of 7 held-out rows ask what training rows ask .*\n.*~ train.*near-copy"):
        gate(pairs, len(sides.held_out), 0.5)
    gate(pairs, len(sides.held_out), 1)


def test_short_prompts_have_no_n_grams_and_cases_are_one():
    assert len(grams("only five words in here", 8)) == 0
    assert (grams("A b c d e f g h i", 8) == grams("a B c, d e f g h i!", 8)).all()


def test_no_held_out_rows_are_no_fault(tmp_path):
    assert found_pairs(tmp_path, records(20, split="train")) == ([], Sides(train=[*range(20)]))
    assert list(read_jsonl(tmp_path / "split.jsonl"))


# --- augmented rows, and the user's own


def test_augmented_rows_are_trained_only_where_what_they_were_made_from_is(tmp_path):
    firsts = [Record(words(n), f"answer {n}", "qa", group=f"g{n}", source=f"s{n}") for n in range(300)]
    copies = [
        Record(words(n + 1000), r.response, "qa", group=r.group, source=r.source, augmented=True)
        for n, r in enumerate(firsts)
    ]
    made = [
        Record(words(n + 2000), f"new {n}", "qa", group=f"g{n}", source=f"m{n}", augmented=True) for n in range(300)
    ]
    splits, splitter, _ = divide(tmp_path, [*firsts, *copies, *made], by="row")
    for first, copy, new in zip(firsts, copies, made, strict=True):
        assert splits.get(copy.id) == ("train" if splits[first.id] == "train" else None)
        # only the group holds back what was made from no row
        assert splits.get(new.id) == (None if splits[first.id] == "eval-unseen" else "train")
    assert {splitter.dropped[row.id] for row in made if row.id not in splits} == {"augmented row of one in eval-unseen"}


def test_an_augmented_near_copy_of_a_held_out_row_is_left_out(tmp_path):
    firsts = [Record(near(words(n), 0), f"answer {n}", "qa", source=f"s{n}") for n in range(60)]
    made = [Record(near(words(n), 1), f"other {n}", "qa", source=f"m{n}", augmented=True) for n in range(60)]
    splits, _, _ = divide(tmp_path, [*firsts, *made], by="row")
    assert {splits[first.id] for first in firsts} == {"train", "valid", "test"}
    for first, copy in zip(firsts, made, strict=True):
        assert (copy.id in splits) == (splits[first.id] == "train")


def made(number, source, **more):
    return Record(words(f"made {number}"), f"new {number}", "qa", source=source, augmented=True, **more)


def test_an_augmented_row_needs_every_row_of_its_source_to_be_trained(tmp_path):
    rows = [Record(words(n), "a", "qa", source=f"s{n // 2}", split=["train", "test"][n % 2]) for n in range(20)]
    rows += [Record(words(n), "a", "qa", source=f"s{n // 2}", split="train") for n in range(20, 40)]
    more = [made(n, f"s{n}") for n in range(20)]
    splits, splitter, _ = divide(tmp_path, [*rows, *more])
    assert [row.id in splits for row in more] == [False] * 10 + [True] * 10
    assert split(rows + more, Splitter(1, **SHARES), True)["augmented_left_out"] == 10
    assert "augmented_left_out" not in split(rows, Splitter(1, **SHARES), True)


def test_an_augmented_conversation_follows_its_source(tmp_path):
    rows = [Record(words(n), "a", "qa", source=f"s{n}", split=["train", "test"][n % 2]) for n in range(60)]
    more = [made(n, f"s{n}", thread=f"t{n}") for n in range(60)]
    splits, _, _ = divide(tmp_path, [*rows, *more])
    assert [row.id in splits for row in more] == [n % 2 == 0 for n in range(60)]


@pytest.mark.parametrize("near", ["together", "thin"])
def test_rows_that_were_removed_as_copies_hold_their_augmented_rows_back(tmp_path, near):
    kinds = ["train", "test"]
    rows = [Record(f"{words(n)} 1", "a", "qa", source=f"s{n}", split=kinds[n % 2]) for n in range(20)]
    copied = [Record(f"{words(n)} 1 ", "a", "qa", source=f"exact{n}") for n in range(20)]
    close = [Record(f"{words(n)} 2", "b", "qa", source=f"near{n}") for n in range(20)]
    more = {f"{kind}{n}": made(f"{kind}{n}", f"{kind}{n}") for n in range(20) for kind in ("exact", "near")}
    # one that equals a held-out row says nothing of the others of its source
    more["same"] = Record(rows[1].prompt, "a", "qa", source="s0", augmented=True)
    more["other"] = made("other", "s0")
    splits, _, _ = divide(tmp_path, [*rows, *copied, *close, *more.values()], near=near, by="row")
    for n in range(20):
        assert (more[f"exact{n}"].id in splits) == (n % 2 == 0), n
        assert (more[f"near{n}"].id in splits) == (n % 2 == 0), n
    assert more["other"].id in splits


def test_a_row_that_was_left_out_for_a_held_out_one_holds_its_augmented_rows_back(tmp_path):
    rows = [Record(near(words(1), 0), "a", "qa", split="test"), Record(near(words(1), 1), "b", "qa", source="s")]
    rows[1].group = next(f"g{n}" for n in itertools.count() if Splitter(1, **SHARES).place(in_group(n)) == "train")
    splits, splitter, _ = divide(tmp_path, [*rows, made(1, "s")])
    assert list(splits) == [rows[0].id]
    assert [*splitter.dropped.values()] == ["near-copy of a row in test", "augmented row of one in test"]


def in_group(number):
    return Record("a", "b", "qa", group=f"g{number}")


def test_augmented_rows_are_no_clusters_and_are_not_thinned(tmp_path):
    rows = [Record(near(words(n), 0), "a", "qa", source=f"s{n}", split="train") for n in range(20)]
    more = [Record(near(words(n), 1), "a", "qa", source=f"s{n}", augmented=True) for n in range(20)]
    splits, _, counts = divide(tmp_path, [*rows, *more], near="thin")
    assert set(splits) == {row.id for row in [*rows, *more]}
    assert (counts["clusters"], counts["rows_with_near_copies"]) == (20, 0)


def test_augmented_rows_do_not_make_few_rows_many(tmp_path):
    with pytest.raises(GradusError, match="only 40 records"):
        divide(tmp_path, [*records(40), *(made(n, f"m{n}") for n in range(200))], few=False)


def test_an_augmented_row_goes_before_a_held_out_one(tmp_path):
    quoted = words("quoted", 20)
    rows = [Record(words(n), "a", "qa", split="train") for n in range(20)]
    rows += [Record(near(words("held"), 0), "a", "qa", split="test")]
    rows += [
        Record(quoted, "a", "qa", split="eval-own"),
        Record(quoted.replace(" ", " x ", 8), "c", "qa", split="test"),
    ]
    more = [
        Record(near(words("held"), 1), "b", "qa", split="train", augmented=True),
        Record(f"{words('f', 40)} {quoted}", "b", "qa", split="train", augmented=True),
        # each has half of the n-grams; only together they have too many
        Record(" ".join(quoted.split()[:13] + words("h1", 40).split()), "b", "qa", split="train", augmented=True),
        Record(" ".join(words("h2", 40).split() + quoted.split()[6:]), "b", "qa", split="train", augmented=True),
        Record(words("far"), "b", "qa", split="train", augmented=True),
    ]
    pairs, sides = found_pairs(tmp_path, [*rows, *more])
    assert (pairs, len(sides.train), len(sides.held_out)) == ([], 20, 3)
    gone = found_augmented(tmp_path)
    assert gone == {more[0].id, more[1].id, more[3].id}
    pairs, _ = found_pairs(tmp_path, [*rows, Record(quoted, "d", "qa", split="train"), *more[2:]])
    assert len(pairs) == 1
    # what training rows have already is not the fault of augmented rows
    assert found_augmented(tmp_path) == set()


def test_the_users_own_rows_win_over_a_split_that_a_row_brings(tmp_path):
    rows = [Record(near(words(n), 1), "b", "qa", split=name) for n, name in enumerate(["train", "valid", "test"])]
    own = [Record(near(words(n), 0), "a", "qa", split="eval-own") for n in range(3)]
    splits, _, _ = divide(tmp_path, [*own, *rows])
    assert set(splits) == {own[0].id, own[1].id, own[2].id, rows[2].id}


def test_the_users_own_rows_stay_and_what_is_trained_may_not_ask_the_same(tmp_path):
    rows = [Record(near(words(n), 0), f"answer {n}", "qa") for n in range(60)]
    before, _, _ = divide(tmp_path, rows, by="row")
    own = [Record(near(words(n), 1), f"right {n}", "qa", split="eval-own") for n in range(20)]
    own += [Record(rows[n].prompt, rows[n].response, "qa", split="eval-own") for n in range(20, 30)]
    splits, _, _ = divide(tmp_path, [*own, *rows], by="row")
    assert all(splits[row.id] == "eval-own" for row in own)
    for n, row in enumerate(rows[:20]):  # test keeps its rows
        assert splits.get(row.id) == ("test" if before[row.id] == "test" else None), n
    assert all(splits[row.id] == before[row.id] for row in rows[30:])


def test_the_users_own_rows_may_have_the_responses_of_training_rows(tmp_path):
    rows = [Record(words(n), f"the same long answer {n}", "qa") for n in range(40)]
    own = [Record(words(n + 100), rows[n].response, "qa", split="eval-own") for n in range(40)]
    write_jsonl(tmp_path / "in.jsonl", (row.to_json() for row in [*own, *rows]))
    deduplicate(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "response", 0.99, "thin")
    assert all(not row.near for row in read_records(tmp_path / "out.jsonl"))
    assert len(list(read_records(tmp_path / "out.jsonl"))) == 80
