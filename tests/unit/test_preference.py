"""Preference tuning: pairs in packs, and the losses, held against TRL's own trainers. On a tiny random llama."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM
from trl import DPOTrainer, KTOTrainer
from trl.experimental.orpo import ORPOTrainer

from scripts.common.errors import GradusError
from scripts.common.pairs import Pair, read_pair_steps, write_pair_steps
from scripts.common.records import Record
from scripts.train.loss import sums_by_row, token_losses
from scripts.train.packing import IGNORED, collate, group_packs
from scripts.train.preference import (
    OBJECTIVES,
    PreferenceTrainer,
    Step,
    collate as collate_pairs,
    grouped,
    log_probabilities,
    make_dataset,
    make_steps,
)
from scripts.train.reference import describe_reference, require_reference
from scripts.train.reference_losses import others_of, reference_losses

PAIRS = [
    ("list buckets", "aws s3 ls", "aws s3 list-buckets --all"),
    ("a longer request than that", "aws iam list-users", "aws iam get-users --max-items 3"),
    ("who am I", "aws sts get-caller-identity", "whoami"),
    ("who am I, then", "aws sts get-caller-identity --output text", "aws sts get-caller-identity"),
]


def make_pairs():
    pairs = [Pair(Record(asked, right, "qa"), wrong) for asked, right, wrong in PAIRS]
    return [replace(pair, other=other) for pair, other in zip(pairs, others_of(pairs), strict=True)]


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
@pytest.mark.parametrize("budget", [64, 10**9])
def test_packed_pairs_give_the_probability_and_gradient_of_each_answer_alone(base, steps, attention, share, budget):
    """What two answers begin with is computed once and counts for both; in fp32, to rounding."""
    groups = grouped(collate_pairs(list(steps)), 3)
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
    computed = sum(pack.input_ids.shape[1] for pack, _, _ in group_packs(groups, budget, share))
    assert (computed < 0.6 * whole) if share else (computed == whole)


def test_what_one_answer_says_changes_nothing_for_the_other_of_its_pair(base, steps):
    groups = [group[:2] for group in grouped(collate_pairs(list(steps)), 3)][:2]
    found = []
    for token in (70, 80):
        groups[0][0]["input_ids"][-3] = token
        with torch.no_grad():
            found.append(torch.cat([sums for sums, _, _ in log_probabilities(load(base), groups, 10**9)]))
    assert found[0][0, 0] != found[1][0, 0]
    assert found[0].flatten()[1:].tolist() == found[1].flatten()[1:].tolist()


class Plain(torch.nn.Module):
    """What TRL's patched models return, by transformers alone: the log-probability of each token."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, input_ids, attention_mask=None, labels=None, **_):
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        wanted = labels[:, 1:] != -100
        logs = torch.log_softmax(logits[:, :-1], -1).gather(2, input_ids[:, 1:, None])[..., 0]
        zero = torch.zeros_like(logs)
        entropy = SimpleNamespace()
        return SimpleNamespace(
            log_probs=torch.where(wanted, logs, zero), entropy=zero, mean_logits=zero, logits=logits, aux_loss=None
        )


def padded(rows):
    """Rows as a padded batch: ids, attention mask, completion mask."""
    size = max(len(row["input_ids"]) for row in rows)
    shape = (len(rows), size)
    ids, seen, completion = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    for number, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[number, :length], seen[number, :length] = row["input_ids"], 1
        completion[number, :length] = (row["labels"] != IGNORED).long()
    return ids, seen, completion


class Accelerator:
    device = torch.device("cpu")

    @staticmethod
    def gather_for_metrics(values):
        return values


def trl_loss(method, model, groups, reference, beta):
    """The loss of TRL's own trainer for these pairs: the method that computes it, without its loading and tokenizing."""
    from collections import defaultdict

    metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    common = {
        "model": model, "beta": beta, "accelerator": Accelerator(), "_metrics": metrics, "aux_loss_enabled": False,
        "precompute_ref_logps": True, "_total_train_tokens": 0, "_tp_size": 1, "ld_alpha": None, "ref_model": None,
        "f_divergence_type": "reverse_kl", "loss_types": ["sigmoid"], "loss_weights": [1.0], "use_weighting": False,
        "label_smoothing": 0.0, "loss_type": "kto", "calculate_KL": True, "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
    }  # fmt: skip
    chosen, rejected, other = ([group[place] for group in groups] for place in range(3))
    ids, seen, completion = padded([*chosen, *rejected])
    inputs = {"input_ids": ids, "attention_mask": seen, "completion_mask": completion}
    if method == "dpo":
        trainer = DPOTrainer.__new__(DPOTrainer)
        inputs |= {"ref_chosen_logps": reference[:, 0], "ref_rejected_logps": reference[:, 1]}
    else:
        trainer = KTOTrainer.__new__(KTOTrainer)
        drift_ids, drift_seen, drift_completion = padded(other)
        inputs |= {
            "KL_input_ids": drift_ids, "KL_attention_mask": drift_seen, "KL_completion_mask": drift_completion,
            "label": torch.tensor([True] * len(groups) + [False] * len(groups)),
            "ref_logps": torch.cat([reference[:, 0], reference[:, 1]]), "ref_KL_logps": reference[:, 2],
        }  # fmt: skip
    vars(trainer).update(common)
    return trainer._compute_loss(model, inputs, return_outputs=False)
