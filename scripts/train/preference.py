"""Preference tuning on pairs of answers (DPO, ORPO, KTO): pairs as token ids, steps, and the losses.

TRL's trainers compute each answer after a prompt of its own, and logits at every token. Here the two answers of a pair
are in one pack, which holds what they begin with once, and the head is computed at answer tokens only. Tests compare
losses and gradients with TRL's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid

from scripts.common.chat import ChatContract
from scripts.common.errors import GradusError
from scripts.common.pairs import Pair, read_pair_steps
from scripts.common.preference import WITH_OTHERS
from scripts.train.loss import shares_beginnings, sums_by_row, token_losses
from scripts.train.methods import Method
from scripts.train.packing import IGNORED, collate_step, cut, group_packs, label, rows_of
from scripts.train.trainer import PhaseTrainer

Groups = list[list[dict[str, torch.Tensor]]]
ANSWERS = 2  # of a pair
LARGEST = -1e-6  # mean log-probability, so that the odds stay finite


@dataclass(frozen=True)
class Step:
    """What the loss of a pair needs to know of the whole step."""

    chosen_tokens: float  # of a right answer, the mean
    drift: float = 0.0  # how far the model is from the reference: KTO's estimate of the KL divergence, in nats


# (log-probabilities, tokens, log-probabilities under the reference, each (pairs, 2): right and wrong; beta; the step)
# → (the loss of each pair, (pairs,); the reward of each answer, (pairs, 2))
Objective = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, float, Step],
    tuple[torch.Tensor, torch.Tensor],
]


def dpo(
    sums: torch.Tensor, counts: torch.Tensor, reference: torch.Tensor, beta: float, step: Step
) -> tuple[torch.Tensor, torch.Tensor]:
    """Direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290, equation 7)."""
    rewards = beta * (sums - reference)
    return -logsigmoid(rewards[:, 0] - rewards[:, 1]), rewards


def orpo(
    sums: torch.Tensor, counts: torch.Tensor, reference: torch.Tensor, beta: float, step: Step
) -> tuple[torch.Tensor, torch.Tensor]:
    """Odds ratio preference optimization (Hong et al. 2024, arXiv 2403.07691, equations 4 to 7); `beta` is its λ.

    It needs no reference. The supervised part is the mean over the tokens of the step's right answers.
    """
    means = (sums / counts).clamp(max=LARGEST)
    odds = means - torch.log(-torch.expm1(means))
    return -sums[:, 0] / step.chosen_tokens - beta * logsigmoid(odds[:, 0] - odds[:, 1]), beta * means


def kto(
    sums: torch.Tensor, counts: torch.Tensor, reference: torch.Tensor, beta: float, step: Step
) -> tuple[torch.Tensor, torch.Tensor]:
    """Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv 2402.01306, equations 7 and 8), with as many right
    as wrong answers, which weigh the same.
    """
    rewards = beta * (sums - reference)
    drift = beta * step.drift
    right, wrong = torch.sigmoid(rewards[:, 0] - drift), torch.sigmoid(drift - rewards[:, 1])
    return ((1 - right) + (1 - wrong)) / 2, rewards


def make_dataset(
    pairs: Sequence[Pair], tokenizer: Any, contract: ChatContract, max_length: int, others: bool = False
) -> Dataset:
    """Return the pairs as `input_ids` and `labels` of their answers, right, wrong, and with `others` the other one, and
    their `reference`, which pairs have that were measured. A wrong answer that was cut off has no end of turn.

    Raises GradusError if an answer is too long, or if a pair lacks what it should have.
    """
    answers = [
        [pair.record.response, pair.rejected, *([pair.other] if others and pair.other is not None else [])]
        for pair in pairs
    ]
    if any(len(texts) != ANSWERS + others for texts in answers):
        raise GradusError(
            "a pair has no answer to another prompt, which this method needs; delete the pairs and run again"
        )
    records = [
        replace(pair.record, response=text) for pair, texts in zip(pairs, answers, strict=True) for text in texts
    ]
    rows = iter(label(records, tokenizer, contract, max_length))
    items = []
    for pair, texts in zip(pairs, answers, strict=True):
        own = [next(rows) for _ in texts]
        if pair.cut_off:
            own[1] = {name: row[:-1] for name, row in own[1].items()}
        item: dict[str, Any] = {name: [row[name] for row in own] for name in ("input_ids", "labels")}
        if pair.reference is not None:
            item["reference"] = list(pair.reference[: len(texts)])
        items.append(item)
    return Dataset.from_list(items)


def make_steps(pairs: Dataset, sizes: Sequence[int]) -> Dataset:
    """Return the pairs of `make_dataset` as steps of `sizes` pairs each, in order: one answer after the other."""
    steps = cut(pairs, sizes)
    return Dataset.from_list(
        [{name: [row for pair in step for row in pair[name]] for name in step[0]} for step in steps]
    )


def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Concatenate the answers of one step, as `collate_step` does, with `reference` of shape (answers,)."""
    return {**collate_step(items), "reference": torch.tensor(items[0]["reference"], dtype=torch.float32)}


def single_rows(pairs: Dataset, count: int) -> list[dict[str, list[int]]]:
    """Return the right answers of the first `count` pairs as single rows."""
    return [{name: pairs[n][name][0] for name in ("input_ids", "labels")} for n in range(min(count, len(pairs)))]


def grouped(inputs: Mapping[str, torch.Tensor], size: int) -> Groups:
    """Return the rows of a step that `collate` prepared in groups of `size`, each as `input_ids` and `labels`."""
    rows = rows_of(inputs)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def log_probabilities(
    model: Any, groups: Groups, token_budget: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, slice]]:
    """Yield, pack by pack, the log-probability of each row's completion in nats and its tokens, (groups, rows of a
    group), and which groups these are.
    """
    for together, which in group_packs(groups, token_budget, shares_beginnings(model)):
        found = [sums_by_row(token_losses(model, packed), packed, paths) for packed, paths in together]
        sums, counts = (torch.cat([part[place] for part in found]) for place in (0, 1))
        shape = (which.stop - which.start, -1)
        yield sums.view(shape), counts.view(shape), which


class PreferenceTrainer(PhaseTrainer):
    """One phase of preference tuning. A step's loss is the mean over its pairs."""

    tallied = ("accuracy", "margin", "chosen_reward")  # share of pairs whose right answer is ahead; rewards in nats

    def __init__(self, *args: Any, objective: Objective, others: bool = False, beta: float, **kwargs: Any) -> None:
        """`others`: whether each pair has a third row, an answer to another prompt, which measures the drift."""
        self.objective: Objective = objective
        self.beta, self.rows = beta, ANSWERS + others
        super().__init__(*args, **kwargs)
        for module in kwargs["model"].modules():  # as TRL does: the reference has no dropout either
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0

    def pack_losses(self, model: Any, inputs: Any) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield each pack's share of the step's loss, and of the values in `tallied`."""
        pairs = len(inputs["lengths"]) // self.rows
        tokens = sum(int((row[0]["labels"] != IGNORED).sum()) for row in grouped(inputs, self.rows))
        mine = self.ranks.share(inputs, self.rows)
        reference = mine["reference"].view(-1, self.rows)
        groups = grouped(mine, self.rows)
        step = Step(tokens / pairs, self._drift(model, groups, reference, pairs) if self.rows > ANSWERS else 0.0)
        groups = [group[:ANSWERS] for group in groups]
        for sums, counts, which in log_probabilities(model, groups, self.token_budget):
            losses, rewards = self.objective(sums, counts, reference[which, :ANSWERS], self.beta, step)
            rewards = rewards.detach()
            margins = rewards[:, 0] - rewards[:, 1]
            tallies = ((margins > 0).float().sum(), margins.sum(), rewards[:, 0].sum())
            yield (losses.sum() / pairs, *(tally / pairs for tally in tallies))

    def _drift(self, model: Any, groups: Groups, reference: torch.Tensor, pairs: int) -> float:
        """Return the mean log-ratio of the other answers, at least 0, over all ranks."""
        others = [group[ANSWERS:] for group in groups]
        total = torch.zeros(1, device=reference.device)
        with torch.no_grad():
            for sums, _, which in log_probabilities(model, others, self.token_budget):
                total += (sums - reference[which, ANSWERS:]).sum()
        return max(0.0, self.ranks.add_up(total).item() / pairs)


OBJECTIVES: dict[str, Objective] = {"dpo": dpo, "orpo": orpo, "kto": kto}


def _method(name: str) -> Method:
    others = name in WITH_OTHERS
    return Method(
        read_pair_steps,
        partial(make_dataset, others=others),
        make_steps,
        single_rows,
        collate,
        partial(PreferenceTrainer, objective=OBJECTIVES[name], others=others),
        against_reference=name != "orpo",
    )


METHODS = {name: _method(name) for name in OBJECTIVES}
