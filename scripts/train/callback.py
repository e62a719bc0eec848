"""What happens after each optimizer step of a phase: history, held-out loss, checkpoints, and early stopping."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from scripts.train.checkpoint import Checkpoints, Progress
from scripts.train.ranks import ALONE, Ranks
from scripts.train.trainer import ADVICE, check_loss, check_rewards


class PhaseCallback(TrainerCallback):
    """Writes one line of history per step; evaluates, stops early, and saves checkpoints when they are due."""

    def __init__(
        self,
        history: Path,
        tokens_per_step: Sequence[int],
        progress: Progress,
        checkpoints: Checkpoints,
        evaluate: Callable[[], float] | None,
        evaluate_every: int | None,
        patience: int | None,
        checkpoint_steps: int | None,
        checkpoint_minutes: float,
        keep_best: bool,
        seed: int,
        ranks: Ranks = ALONE,
        told: Mapping[str, float] | None = None,
        advice: str = ADVICE,
        guard_rewards: bool = False,
        check_loss_grown: Callable[[float], None] | None = None,
    ) -> None:
        """`tokens_per_step`: the tokens of each step of the phase, without padding.

        New lines are appended to `history`. `keep_best`: whether the adapter of the lowest held-out loss counts,
        instead of the last one. `progress` is updated in place; its step is where this attempt starts.
        `evaluate` returns the held-out loss; it is called at the end and every `evaluate_every` steps. Of several
        `ranks`, the first saves checkpoints. `told`: what else to write of each step, kept up to date by the trainer.
        `advice`: what to do if training fails. `guard_rewards`: whether rewards of right answers must not sink.
        `check_loss_grown` raises GradusError if the held-out loss must not be as high as that.
        """
        self.history, self.tokens_per_step = history, tokens_per_step
        self.progress, self.checkpoints = progress, checkpoints
        self.evaluate, self.evaluate_every, self.patience = evaluate, evaluate_every, patience
        self.checkpoint_steps, self.checkpoint_minutes = checkpoint_steps, checkpoint_minutes
        self.keep_best, self.ranks = keep_best, ranks
        self.told, self.advice, self.guard_rewards = {} if told is None else told, advice, guard_rewards
        self.check_loss_grown = check_loss_grown
        self.seed, self.done, self.seconds_before = seed, progress.step, progress.seconds
        self.start = self.saved = time.monotonic()
        written = history.read_text(encoding="utf-8").splitlines() if history.exists() else []
        lines = list(map(json.loads, written))
        self.losses: list[float] = [line["loss"] for line in lines]
        self.rewards: list[float] = [line["chosen_reward"] for line in lines if "chosen_reward" in line]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.start = self.saved = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Derive a step's random numbers (dropout, NEFTune) from seed and position, so that resuming is exact."""
        torch.manual_seed(self.ranks.seed(self.seed * 1_000_003 + self.done + state.global_step))

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: Any = None,
        model: Any = None,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Do what is due after a step. (Transformers logs each step after the optimizer's update.)"""
        if not logs or "loss" not in logs:
            return
        step = self.progress.step = self.done + state.global_step
        self.progress.seconds = self.seconds_before + time.monotonic() - self.start
        line = {
            "step": step,
            "loss": float(logs["loss"]),
            "learning_rate": float(logs["learning_rate"]),
            "gradient_norm": float(logs.get("grad_norm", 0.0)),
            "tokens": sum(self.tokens_per_step[:step]),
            "seconds": round(self.progress.seconds, 2),
            **{name: round(value, 6) for name, value in self.told.items()},
        }
        logs.update(self.told)  # for trackers, which read the logs after this
        self.losses.append(line["loss"])
        check_loss(self.losses, self.advice)
        if self.guard_rewards:
            self.rewards.append(self.told["chosen_reward"])
            check_rewards(self.rewards, self.advice)
        last = step == len(self.tokens_per_step)
        if self.evaluate and (last or (self.evaluate_every and step % self.evaluate_every == 0)):
            line["heldout_loss"] = logs["eval_loss"] = self._judge(self.evaluate())
            if self.check_loss_grown:
                self.check_loss_grown(line["heldout_loss"])
        with open(self.history, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
        minutes = (time.monotonic() - self.saved) / 60
        due = minutes >= self.checkpoint_minutes or (self.checkpoint_steps and step % self.checkpoint_steps == 0)
        if self.ranks.first and (due or (self.keep_best and self.progress.best_step == step)):
            self.checkpoints.save(model, optimizer, self.history, self.progress)
            self.saved = time.monotonic()
        if self.progress.stopped_early:
            control.should_training_stop = True

    def _judge(self, loss: float) -> float:
        """Record whether this held-out loss is the best so far, stop if patience has run out, and return the loss."""
        progress = self.progress
        if not self.keep_best or progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.evaluations_since_best = loss, progress.step, 0
        else:
            progress.evaluations_since_best += 1
            if self.patience and progress.evaluations_since_best >= self.patience:
                logging.info(
                    "stopped early at step %d: no improvement since step %s", progress.step, progress.best_step
                )
                progress.stopped_early = True
        return loss
