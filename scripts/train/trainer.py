"""TRL's SFTTrainer with optimizer steps for a curriculum on a small machine, and checks that stop a failed training.

Rows are taken in file order. One batch is one optimizer step, computed in packs (`packing.py`). Learning-rate schedule
and optimizer state continue across phases.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import get_scheduler
from trl import SFTTrainer

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_json
from scripts.train.loss import completion_loss, shares_beginnings
from scripts.train.neftune import EmbeddingNoise
from scripts.train.packing import IGNORED, packs
from scripts.train.ranks import ALONE, Ranks

WINDOW = 10  # steps to average the loss over
FEWEST, LEAST_REWARD = 3, -10.0  # steps, and nats
ADVICE = "Lower train.learning_rate (try half of it), or raise train.warmup_share."


def digest(rows: Sequence[Sequence[int]]) -> str:
    """Return a hash of the token ids of a step's rows, in order."""
    return sha256_json([list(row) for row in rows])


def check_loss(losses: Sequence[float], advice: str = ADVICE) -> None:
    """Raise GradusError, with `advice`, if training diverges: the mean loss of the last ten steps, in nats per token,
    is more than three times the lowest such mean so far and more than 1 above it. (One bad step or a harder phase does
    not do that.)
    """
    if len(losses) <= WINDOW:
        return
    means = [sum(losses[i : i + WINDOW]) / WINDOW for i in range(len(losses) - WINDOW + 1)]
    best = min(means)
    if means[-1] > 3 * best and means[-1] > best + 1:
        raise GradusError(
            f"the loss has exploded: {means[-1]:.2f} over the last {WINDOW} steps (to step {len(losses)} of this "
            f"phase); its lowest mean was {best:.2f}. {advice}"
        )


def check_rewards(rewards: Sequence[float], advice: str) -> None:
    """Raise GradusError if preference tuning unlearns the right answers: their mean reward over the last ten steps, of
    three at least, is below −10 nats. The loss does not show that: it only asks that wrong answers lose more.
    """
    last = rewards[-WINDOW:]
    if len(last) >= FEWEST and (mean := sum(last) / len(last)) < LEAST_REWARD:
        raise GradusError(
            f"right answers have become far less likely than under the reference: their mean reward is {mean:.1f} nats "
            f"over the last {len(last)} steps (to step {len(rewards)} of this phase). {advice}"
        )


def check_held_out(loss: float, before: float, times: float, advice: str) -> None:
    """Raise GradusError if preference tuning breaks the model: the held-out loss of right answers, in nats per token,
    is more than so many `times` what it was before the phase and more than 0.1 above it, or not a number. A model with
    ten times the loss fell from 74 to 10% of its task (docs/preference.md).
    """
    if not loss <= max(times * before, before + 0.1):
        raise GradusError(
            f"this phase breaks the model: the held-out loss of right answers is {loss:.3f}, after {before:.3f} before "
            f"the phase. {advice} (`max_growth` of the phase sets the limit: {times:g} times.)"
        )


class PhaseTrainer(SFTTrainer):
    """One phase of training. The dataset's items are steps, in training order (see `collate_step`)."""

    tallied: tuple[str, ...] = ()  # what each step is told of, besides its loss

    def __init__(
        self,
        *args: Any,
        token_budget: int,
        first_step: int,
        total_steps: int,
        digests: Sequence[str],
        neftune_alpha: float | None = None,
        ranks: Ranks = ALONE,
        told: dict[str, float] | None = None,
        advice: str = ADVICE,
        **kwargs: Any,
    ) -> None:
        """`first_step` of `total_steps` is where this phase starts in the learning-rate schedule.

        `digests`: the expected `digest` of each step's rows; training stops if a step gets other rows.
        `neftune_alpha`: strength of the noise on the embeddings, or None. `ranks`: the processes that share each step.
        `told`: gets what else there is to say of the last step, by name. `advice`: what to do if training fails.
        """
        self.advice = advice
        self.told = {} if told is None else told
        self.token_budget, self.first_step, self.total_steps = token_budget, first_step, total_steps
        self.digests, self.ranks = digests, ranks
        # one job, one device: Trainer would spread the model over all GPUs that it sees
        if kwargs["args"].n_gpu > 1:
            kwargs["args"]._n_gpu = 1
        # TRL rounds the adapter of a packed base to bf16; it must stay the one that was saved
        trained = [(p, p.data) for p in kwargs["model"].parameters() if p.requires_grad]
        super().__init__(*args, **kwargs)
        for parameter, data in trained:
            parameter.data = data.to(parameter.device)
        self.noise = EmbeddingNoise(neftune_alpha) if neftune_alpha else None
        if self.noise:
            kwargs["model"].get_input_embeddings().register_forward_hook(self.noise)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Compute one batch in packs; return the step's loss, the mean over its completion tokens, of all ranks."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        step = self.state.global_step
        if (
            digest([row.tolist() for row in inputs["input_ids"].split(inputs["lengths"].tolist())])
            != self.digests[step]
        ):
            raise GradusError(
                f"step {step + 1} (since training started or resumed) got other rows than the phase's file has for it: "
                "something between the file and the model reorders rows. That would undo the curriculum. "
                "Please report this as a bug in Gradus."
            )
        sums = torch.zeros(1 + len(self.tallied), device=inputs["lengths"].device)
        for loss, *tallies in self.pack_losses(model, inputs):
            self.accelerator.backward(loss)
            sums += torch.stack([loss.detach(), *tallies])
        sums = self.ranks.add_up(sums, [p for p in model.parameters() if p.requires_grad])
        total = sums[0]
        self.told.update(zip(self.tallied, sums[1:].tolist(), strict=True))
        if not math.isfinite(total.item()):
            raise GradusError(
                f"the loss is {total.item()}, {self.state.global_step + 1} steps after training started or resumed. "
                + self.advice
            )
        return total

    def pack_losses(self, model: Any, inputs: Any) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield each pack's share of the step's loss, then of each value in `tallied`."""
        starts = inputs["lengths"].cumsum(0) - inputs["lengths"]
        wanted = inputs["labels"] != IGNORED
        wanted[starts] = False  # nothing predicts a row's first token
        count = wanted.sum()
        share = shares_beginnings(self.model) and not self.noise  # each row has noise of its own
        for packed in packs(self.ranks.share(inputs), self.token_budget, share):
            if self.noise:
                self.noise.bounds = packed.bounds
            yield (completion_loss(model, packed) / count,)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return the schedule over all phases, set to where this phase starts."""
        if self.lr_scheduler is None:
            self.lr_scheduler = get_scheduler(
                self.args.lr_scheduler_type,
                optimizer=optimizer or self.optimizer,  # type: ignore[arg-type]
                num_warmup_steps=self.args.get_warmup_steps(self.total_steps),
                num_training_steps=self.total_steps,
            )
            if self.first_step:
                self.lr_scheduler.last_epoch = self.first_step - 1
                with warnings.catch_warnings():  # torch warns of a step before the optimizer's
                    warnings.simplefilter("ignore")
                    self.lr_scheduler.step()
            self._created_lr_scheduler = True
        return self.lr_scheduler
