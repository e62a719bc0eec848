"""Preference tuning: pairs in packs, and the losses, held against TRL's own trainers. On a tiny random llama."""

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM
from trl import KTOTrainer
from trl.experimental.orpo import ORPOTrainer

from scripts.bench import dpo
from scripts.common.errors import GradusError
from scripts.common.io import read_json, write_json, write_jsonl
from scripts.common.pairs import Pair, read_pair_steps, write_pair_steps
from scripts.common.preference import complete_preference
from scripts.common.records import Record
from scripts.report.sections.preference import preference
from scripts.train.callback import PhaseCallback
from scripts.train.packing import IGNORED, group_packs
from scripts.train.preference import OBJECTIVES, Step, collate, grouped, log_probabilities, make_dataset, make_steps
from scripts.train.ranks import Ranks
from scripts.train.reference import describe_reference
from scripts.train.reference_losses import others_of, reference_losses
from scripts.train.train_phase import load_model, train_phase
from scripts.train.trainer import check_held_out, check_rewards
from tests.unit.test_phase import PARAMS, Bench, history

PAIRS = [
    ("list buckets", "aws s3 ls", "aws s3 list-buckets --all"),
    ("a longer request than that", "aws iam list-users", "aws iam get-users --max-items 3"),
    ("who am I", "aws sts get-caller-identity", "whoami"),
    ("who am I, then", "aws sts get-caller-identity --output text", "aws sts get-caller-identity"),
]


def make_pairs():
    pairs = [Pair(Record(asked, right, "qa"), wrong) for asked, right, wrong in PAIRS]
    others = others_of(pairs, lambda *_: True)
    return [replace(pair, other=other) for pair, other in zip(pairs, others, strict=True)]


@pytest.fixture
def steps(base, contract):
    """One step of all pairs, with the answers of other prompts, and a reference of known values."""
    pairs = [replace(pair, reference=(-30.0 - n, -40.0 + n, -50.0)) for n, pair in enumerate(make_pairs())]
    data = make_dataset(pairs, AutoTokenizer.from_pretrained(base), contract, 256, others=True)
    return make_steps(data, [len(pairs)])


def load(base, attention="rows"):
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation=attention)
    model.lm_head.weight.requires_grad_(False)
    return model


def alone(model, row):
    """The log-probability of a row's completion and its tokens, by transformers, of the row alone."""
    ids, labels = row["input_ids"], row["labels"]
    wanted = labels[1:] != IGNORED
    logits = model(input_ids=ids[None]).logits[0, :-1]
    return torch.log_softmax(logits, -1).gather(1, ids[1:, None])[wanted].sum(), int(wanted.sum())


@pytest.mark.parametrize(("attention", "share"), [("rows", True), ("eager", False), ("sdpa", False)])
@pytest.mark.parametrize("budget", [1, 64, 10**9])
def test_packed_pairs_give_the_probability_and_gradient_of_each_answer_alone(base, steps, attention, share, budget):
    """What two answers begin with is computed once and counts for both; in fp32, to rounding."""
    groups = grouped(collate(list(steps)), 3)
    reference, model = load(base, "eager"), load(base, attention)
    expected = [alone(reference, row) for group in groups for row in group]
    found = list(log_probabilities(model, groups, budget))
    sums, counts = (torch.cat([part[place] for part in found]).flatten() for place in (0, 1))
    assert counts.tolist() == [count for _, count in expected]
    assert torch.allclose(sums, torch.stack([value for value, _ in expected]), rtol=1e-5, atol=1e-4)
    weights = torch.linspace(-1, 2, len(sums))  # each answer counts differently, as in a preference loss
    (sums * weights).sum().backward()
    torch.stack([value for value, _ in expected]).mul(weights).sum().backward()
    for (name, one), other in zip(model.named_parameters(), reference.parameters(), strict=True):
        if other.grad is not None:
            assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-4 * other.grad.abs().max()), name
    whole = sum(len(row["input_ids"]) for group in groups for row in group)
    computed = sum(one.input_ids.shape[1] for packs, _ in group_packs(groups, budget, share) for one, _ in packs)
    assert (computed < 0.6 * whole) if share and budget > 1 else (computed == whole)


class Leaky(torch.nn.Module):
    """A model whose rows see all before them in their pack, whatever keeps them apart."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config, self.dtype, self.device = model, model.config, torch.float32, model.device

    def get_decoder(self):
        def run(input_ids, **_):
            states = self.model.model.embed_tokens(input_ids).cumsum(1)
            return SimpleNamespace(last_hidden_state=states)

        return run

    def get_output_embeddings(self):
        return self.model.lm_head


def test_a_budget_of_one_computes_each_answer_alone(base, steps):
    """What an architecture needs whose rows see each other in a pack."""
    groups = grouped(collate(list(steps)), 3)
    model = Leaky(load(base, "eager"))

    def found(groups, budget):
        with torch.no_grad():
            return torch.cat([sums.flatten() for sums, _, _ in log_probabilities(model, groups, budget)])

    single = [[row] for group in groups for row in group]
    assert torch.equal(found(groups, 1), found(single, 1))
    assert not torch.allclose(found(groups, 10**9), found(single, 1))


def test_what_one_answer_says_changes_nothing_for_the_other_of_its_pair(base, steps):
    groups = [group[:2] for group in grouped(collate(list(steps)), 3)][:2]
    found = []
    for token in (70, 80):
        groups[0][0]["input_ids"][-3] = token
        with torch.no_grad():
            found.append(torch.cat([sums for sums, _, _ in log_probabilities(load(base), groups, 10**9)]))
    assert found[0][0, 0] != found[1][0, 0]
    assert found[0].flatten()[1:].tolist() == found[1].flatten()[1:].tolist()


@pytest.fixture
def values():
    """Log-probabilities, tokens and reference of three pairs."""
    sums = torch.tensor([[-12.0, -14.0], [-30.0, -9.0], [-5.0, -5.5]], requires_grad=True)
    return sums, torch.tensor([[10, 12], [20, 7], [5, 6]]), torch.tensor([[-13.0, -13.5], [-28.0, -11.0], [-5.0, -5.5]])


def test_orpo_is_the_odds_ratio_of_trl_and_the_supervised_loss(values):
    sums, counts, reference = values
    losses, rewards = OBJECTIVES["orpo"](sums, counts, reference, 0.25, Step(chosen_tokens=8.0))
    given = SimpleNamespace(beta=0.25, accelerator=SimpleNamespace(device="cpu"))
    means = sums / counts
    ratio, *theirs = ORPOTrainer.odds_ratio_loss(given, means[:, 0], means[:, 1])
    assert torch.allclose(losses, -sums[:, 0] / 8 - ratio, rtol=1e-5)
    assert torch.allclose(rewards, torch.stack(theirs[:2], 1))
    losses.sum().backward()
    assert torch.isfinite(sums.grad).all()


def test_orpo_stays_finite_where_the_model_is_certain():
    sums = torch.zeros((1, 2), requires_grad=True)
    losses, _ = OBJECTIVES["orpo"](sums, torch.ones(1, 2), torch.zeros(1, 2), 0.1, Step(1.0))
    losses.sum().backward()
    assert torch.isfinite(losses).all() and torch.isfinite(sums.grad).all()


class Probabilities(torch.nn.Module):
    """A model whose only output are given log-probabilities, as TRL's trainers read them."""

    def __init__(self, *batches):
        super().__init__()
        self.batches = list(batches)

    def forward(self, **_):
        logs = torch.stack([torch.zeros_like(self.batches[0]), self.batches.pop(0)], 1)
        zero = torch.zeros_like(logs)
        return SimpleNamespace(log_probs=logs, entropy=zero, mean_logits=zero)


def test_kto_is_that_of_trl(values, monkeypatch):
    sums, counts, reference = values
    other, other_reference = torch.tensor([-40.0, -41.0, -39.0]), torch.tensor([-43.0, -40.0, -43.0])
    drift = max(0.0, (other - other_reference).mean().item())
    losses, _ = OBJECTIVES["kto"](sums, counts, reference, 0.3, Step(1.0, drift))
    trainer = KTOTrainer.__new__(KTOTrainer)
    accelerator = SimpleNamespace(device="cpu", gather_for_metrics=lambda value: value)
    metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    vars(trainer).update(
        accelerator=accelerator, _metrics=metrics, aux_loss_enabled=False, precompute_ref_logps=True, beta=0.3,
        loss_type="kto", calculate_KL=True, desirable_weight=1.0, undesirable_weight=1.0, _total_train_tokens=0,
        _tp_size=1,
    )  # fmt: skip
    trainer.model = model = Probabilities(sums.T.flatten())
    model.train()
    monkeypatch.setattr(KTOTrainer, "_compute_kl_logps", lambda self, model, batch: other)
    ones = torch.ones((6, 3), dtype=torch.long)
    inputs = {
        "input_ids": ones, "attention_mask": ones, "completion_mask": ones, "label": torch.tensor([True] * 3 + [False] * 3),
        "ref_logps": reference.T.flatten(), "ref_KL_logps": other_reference,
    }  # fmt: skip
    assert losses.mean().item() == pytest.approx(trainer._compute_loss(model, inputs, False).item(), rel=1e-5)


BETA, RATE = 0.2, 0.003


@pytest.fixture
def laid(base, contract, tmp_path):
    """Steps of pairs with their reference, a first phase, and what a preference phase is trained with."""
    bench = Bench(tmp_path, base, contract)
    bench.train("easy")
    pairs = [Pair(r, f"aws s3 rm s3://bucket-{n}", {"made": "own"}) for n, r in enumerate(bench.records)]
    pairs[1] = replace(pairs[1], rejected="I do not know")
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = load_model(bench.base, bench.folder / "easy" / "adapter", 0, PARAMS, "cpu")
    lines = list(reference_losses(pairs, model, tokenizer, contract, 128, PARAMS.micro_batch_tokens, True))
    done = [
        replace(
            pair,
            other=line["other_answer"],
            reference=(line["chosen"], line["rejected"], line["other"]),
            difficulty=0.0,
        )
        for pair, line in zip(pairs, lines, strict=True)
    ]
    steps = [done[0:4], done[4:8], done[0:4], done[4:8]]
    write_jsonl(bench.folder / "pairs-in-steps.jsonl", write_pair_steps(steps))
    write_json(bench.folder / "reference.json", describe_reference(bench.base, bench.folder / "easy"))

    def arguments(name, method="dpo", previous="easy", **changes):
        changes = {"learning_rate": RATE, "schedule_spans": "phase", **changes}
        given = bench.arguments(name, "prefer", bench.folder / previous, **changes)
        rows = bench.folder / "pairs-in-steps.jsonl"
        more = {"rows": rows, "schedule": {"prefer": len(steps)}, "method": method, "options": {"beta": BETA}}
        return {**given, **more, "reference": bench.folder / "reference.json"}

    bench.preference = arguments
    return bench


def test_dpo_takes_the_same_steps_as_trls_own_trainer(laid, base, contract, tmp_path):
    """Loss, margin and accuracy of each step; rounding in bf16 differs, as packs and padding do."""
    job = {
        "rows": str(laid.folder / "pairs-in-steps.jsonl"), "base": str(laid.base), "output": str(tmp_path / "out"),
        "adapter": str(laid.folder / "easy" / "adapter"), "contract": str(laid.folder / "contract.json"),
        "train": vars(PARAMS), "threads": 2, "batch_size": 4, "batch": 2, "learning_rate": RATE, "beta": BETA, "seed": 1,
        "checkpointing": False, "precomputed": False, "way": "ours",
    }  # fmt: skip
    (tmp_path / "out").mkdir()
    mine, theirs = dpo.ours(job)[0], dpo.tutorial(job)[0]
    assert len(mine) == len(theirs) == 4
    assert mine[0]["loss"] == pytest.approx(0.6931, abs=0.02)  # nothing is learned yet
    assert mine[-1]["margin"] > 0.1
    for one, other in zip(mine, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=0.02)
        assert one["margin"] == pytest.approx(other["margin"], abs=0.03)


@pytest.mark.parametrize("method", list(OBJECTIVES))
def test_a_preference_phase_resumes_to_the_same_bytes_and_learns(laid, method, monkeypatch):
    train_phase(**laid.preference("whole", method))
    told = history(laid.folder / "whole.jsonl")
    assert told[3]["margin"] > told[1]["margin"]  # the same pairs
    assert 0 <= told[-1]["accuracy"] <= 1
    assert "heldout_loss" in told[-1]
    saved = PhaseCallback.on_log

    def die(self, *args, **kwargs):
        saved(self, *args, **kwargs)
        if self.progress.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PhaseCallback, "on_log", die)
        with pytest.raises(KeyboardInterrupt):
            train_phase(**laid.preference("resumed", method, checkpoint_steps=1))
    train_phase(**laid.preference("resumed", method, checkpoint_steps=1))
    assert read_json(laid.folder / "resumed.json")["resumed_at_step"] == 2
    assert laid.digest("resumed") == laid.digest("whole")
    assert laid.digest("whole") != laid.digest("easy")


def test_a_reference_that_is_not_the_phase_before_is_refused(laid):
    laid.train("other", learning_rate=0.02)
    with pytest.raises(
        GradusError, match=r"reference.json: the reference is not the model that this phase starts from: its"
    ):
        train_phase(**laid.preference("wrong", previous="other"))
    assert not (laid.folder / "wrong").exists()


def test_the_reference_prefers_nothing_over_itself(laid):
    """Before the first step, the losses against the reference are those of a model that did not move."""
    train_phase(**laid.preference("still", learning_rate=1e-12))
    first = history(laid.folder / "still.jsonl")[0]
    assert first["loss"] == pytest.approx(0.6931, abs=0.005)
    assert abs(first["margin"]) < 0.02


def test_pairs_survive_their_file(tmp_path):
    pairs = [replace(p, reference=(-1.5, -2.5, -3.0), difficulty=0.25) for p in make_pairs()]
    write_jsonl(tmp_path / "steps.jsonl", write_pair_steps([pairs[:1], pairs[1:]]))
    assert read_pair_steps(tmp_path / "steps.jsonl") == [pairs[:1], pairs[1:]]


def test_the_other_answer_is_to_another_prompt_and_by_turns_right_and_wrong():
    rows = [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("a", "5")]
    pairs = [Pair(Record(asked, f"right {name}", "qa"), f"wrong {name}") for asked, name in rows]
    every = lambda *_: True  # noqa: E731
    assert others_of(pairs, every) == ["right 4", "wrong 4", "right 2", "wrong 3", "right 4"]
    assert others_of(pairs, lambda _, answer: answer != "right 4")[0] == "right 3"
    with pytest.raises(GradusError, match=r"rows.csv:3: KTO needs an answer to another prompt that fits .* method dpo"):
        others_of([replace(pair, record=replace(pair.record, source="rows.csv:3")) for pair in pairs[:2]], every)


def test_the_report_puts_models_before_and_after_a_phase_beside_each_other():
    training = {"arm": "curriculum", "seed": 1}
    models = [
        {"name": "base"},
        {"name": "odds", "training": {**training, "phase": "odds"}},
        {"name": "tuned", "training": training},
        {"name": "preferred", "training": {**training, "phase": "dpo"}},
        {"name": "another seed", "training": {**training, "seed": 2}},
    ]
    metrics = {m["name"]: {"test": {"exact": {"value": n / 10, "n": 50}}} for n, m in enumerate(models)}
    speeds = [{"model": m["name"], "split": "test", "rows": 10, "tokens": 10 * n} for n, m in enumerate(models)]
    ledger = {"kept": 9, "own": 2, "sampled": 7, "too_hard": 1, "mean_tokens": {"chosen": 3.0, "rejected": 4.0}}
    history = [{"accuracy": 0.0, "margin": 9.0, "chosen_reward": 0.0}] + [
        {"accuracy": 1.0, "margin": 0.5, "chosen_reward": -0.25}
    ] * 10
    phase = {
        "training": {**training, "phase": "dpo"}, "after": "hard", "method": "dpo", "ledger": ledger, "history": history,
        "counts": {"rows_asked": 20, "all_right": 6, "all_wrong": 5}, "summary": {"heldout_loss": 0.125},
        "before": {"heldout_loss": 0.08},
    }  # fmt: skip
    found = preference([phase], "hard", models, metrics, "exact", "test", speeds)
    assert [(row["model"], row["phase"], row["value"], row["tokens"]) for row in found["models"]] == [
        ("tuned", "hard", 0.2, 2.0),
        ("preferred", "dpo", 0.3, 3.0),
    ]
    earlier = preference([{**phase, "after": "easy"}], "hard", models, metrics, "exact", "test", speeds)
    assert [row["model"] for row in earlier["models"]] == ["preferred"]  # `tuned` is after another phase
    row = found["phases"][0]
    assert (row["training"], row["accuracy"], row["margin"]) == ("curriculum, seed 1, after dpo", 1.0, 0.5)
    assert row["forgotten"] and row["heldout_before"] == 0.08
    better = {**phase, "summary": {"heldout_loss": 0.11}}
    assert not preference([better], "hard", models, metrics, "exact", "test", speeds)["phases"][0]["forgotten"]
    assert preference([], "hard", models, metrics, "exact", "test", speeds) is None


def test_a_wrong_answer_that_was_cut_off_has_no_end_of_turn(base, contract):
    pair = Pair(Record("ask", "right", "qa"), "wro", {"rejected": {"stopped": False}}, None, (-1.0, -2.0))
    tokenizer = AutoTokenizer.from_pretrained(base)
    cut, whole = (make_dataset([one], tokenizer, contract, 256)[0] for one in (pair, replace(pair, origin={})))
    assert cut["input_ids"][1] == whole["input_ids"][1][:-1]
    assert cut["labels"][1] == whole["labels"][1][:-1]
    assert tokenizer.decode(whole["input_ids"][1][-1:]) == "<|im_end|>"
    assert cut["input_ids"][0] == whole["input_ids"][0]


def test_right_answers_that_are_unlearned_end_the_phase_with_its_own_settings(laid):
    with pytest.raises(GradusError) as fault:
        train_phase(**{**laid.preference("gone", learning_rate=5.0), "options": {"beta": 50.0}})
    assert "right answers have become far less likely than under the reference" in str(fault.value)
    assert "learning_rate of the phase prefer in curriculum.phases (it is 5), or raise its beta" in str(fault.value)
    train_phase(**{**laid.preference("odds", "orpo"), "options": {"beta": 5.0}})  # its rewards have no reference
    assert history(laid.folder / "odds.jsonl")[-1]["chosen_reward"] < -10
    check_rewards([-9.9] * 20, "")
    check_rewards([-99.0] * 2, "")
    with pytest.raises(GradusError, match=r"their mean reward is -11.0 nats over the last 3 steps .* do less"):
        check_rewards([-11.0] * 3, "do less")


def test_a_phase_that_breaks_the_model_ends_with_its_own_settings(laid):
    """The loss of the pairs may fall meanwhile; only the held-out loss of right answers shows it."""
    before = laid.folder / "before.json"
    write_json(before, {"heldout_loss": 0.5})  # less than this model's by far
    with pytest.raises(GradusError) as fault:
        train_phase(**laid.preference("broken"), before=before, max_growth=3)
    assert "this phase breaks the model: the held-out loss of right answers is" in str(fault.value)
    assert ", after 0.500 before the phase. Lower learning_rate of the phase prefer" in str(fault.value)
    assert not (laid.folder / "broken").exists()
    train_phase(**laid.preference("as wanted"), before=before, max_growth=None)
    write_json(before, {"heldout_loss": 5.0})
    train_phase(**laid.preference("whole"), before=before, max_growth=3)
    check_held_out(0.1, 0.0, 3, "")  # many times nothing
    check_held_out(0.19, 0.066, 3, "")
    for loss in (0.645, float("nan")):
        with pytest.raises(GradusError, match=f"is {loss:.3f}, after 0.064 before the phase. do less .*: 3 times"):
            check_held_out(loss, 0.064, 3, "do less")


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_share_a_step_by_pairs(steps, count):
    """No pair is divided, and together they have all; 4 pairs of 3 answers each."""
    inputs = collate(list(steps))
    whole = grouped(inputs, 3)
    shares = [Ranks(rank, count).share(inputs, 3) for rank in range(count)]
    for rank, share in enumerate(shares):
        mine = grouped(share, 3)
        expected = whole[rank::count]
        assert [[row["input_ids"].tolist() for row in group] for group in mine] == [
            [row["input_ids"].tolist() for row in group] for group in expected
        ]
        assert share["reference"].view(-1, 3).tolist() == inputs["reference"].view(-1, 3)[rank::count].tolist()


def test_a_phase_of_pairs_keeps_its_last_adapter_whatever_the_held_out_loss(laid):
    train_phase(**laid.preference("often", learning_rate=0.02, evaluate_every=1, patience=None))
    lines = history(laid.folder / "often.jsonl")
    assert all("heldout_loss" in line for line in lines)
    assert read_json(laid.folder / "often.json")["kept_step"] == len(lines)


def test_an_empty_answer_can_be_the_other_one(base, contract):
    pair = Pair(Record("ask", "right", "qa"), "wrong", {}, "", (-1.0, -2.0, -3.0))
    data = make_dataset([pair], AutoTokenizer.from_pretrained(base), contract, 256, others=True)
    assert len(data[0]["input_ids"]) == 3
    with pytest.raises(GradusError, match="no answer to another prompt"):
        make_dataset([replace(pair, other=None)], AutoTokenizer.from_pretrained(base), contract, 256, others=True)


def test_the_rate_of_a_phase_follows_from_its_method():
    """A tenth of the supervised rate broke one of three models with DPO (docs/preference.md)."""
    section = {"phases": [{"name": "train", "levels": ["easy"]}, *({"name": m, "method": m} for m in OBJECTIVES)]}
    complete_preference(section, 0.002)
    assert {p["name"]: p["learning_rate"] for p in section["phases"][1:]} == {"dpo": 2e-5, "orpo": 2e-4, "kto": 2e-5}
