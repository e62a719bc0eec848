"""TRL's SFTTrainer with the step that a curriculum on a small machine needs.

Rows are taken in file order; one batch is one optimizer step, worked off in micro-batches of bounded size;
head and loss are computed at completion tokens only; schedule and optimizer go on across phases.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import get_scheduler
from trl import SFTTrainer

from scripts.common.errors import GradusError
from scripts.train.callback import ADVICE
from scripts.train.model import keep_adapter_fp32

IGNORED = -100  # the label that the loss skips


def encode(tokenizer: Any, contract: Any, prompt: str, response: str) -> tuple[list[int], list[int]]:
    """Return (prompt ids, completion ids): the contract's template around the prompt, response and end of turn."""
    text = tokenizer.apply_chat_template(
        contract.messages(prompt), chat_template=contract.chat_template, add_generation_prompt=True, tokenize=False
    )
    asked = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer = tokenizer(response, add_special_tokens=False)["input_ids"]
    return asked, [*answer, contract.end_of_turn_id]


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group the rows of one step, shortest first, so that rows times longest stays within `token_budget` tokens.

    A row longer than the budget stands alone. Returns lists of row numbers.
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if groups and (len(groups[-1]) + 1) * lengths[row] <= token_budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def collate(rows: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pad rows of `input_ids` and `labels` on the right; return tensors of shape (rows, longest)."""
    longest = max(len(row["input_ids"]) for row in rows)

    def pad(name: str, value: int) -> torch.Tensor:
        return torch.tensor([[*row[name], *[value] * (longest - len(row[name]))] for row in rows])

    mask = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows]
    return {
        "input_ids": pad("input_ids", pad_token_id),
        "labels": pad("labels", IGNORED),
        "attention_mask": torch.tensor(mask),
    }


def completion_loss(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the summed cross-entropy, in nats, over the completion tokens of a batch.

    The head runs at those positions alone. Models that do more to their logits than the head
    (soft-capping, scaling) run whole.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    labels = inputs["labels"][:, 1:]
    wanted = labels != IGNORED
    arguments = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "use_cache": False}
    special = ("final_logit_softcapping", "logits_scaling", "logit_scale")
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=causal.dtype == torch.bfloat16):
        if any(getattr(causal.config, name, None) for name in special):
            logits = model(**arguments).logits[:, :-1][wanted]
        else:
            hidden = causal.get_decoder()(**arguments).last_hidden_state[:, :-1][wanted]
            logits = causal.get_output_embeddings()(hidden)
    return cross_entropy(logits.float(), labels[wanted], reduction="sum")


class PhaseTrainer(SFTTrainer):
    """One phase of training. The datasets hold `input_ids` and `labels`, in the order to be taken."""

    def __init__(self, *args: Any, token_budget: int, first_step: int, total_steps: int, **kwargs: Any) -> None:
        """`first_step` of `total_steps` is where this phase begins in the learning-rate schedule."""
        self.token_budget, self.first_step, self.total_steps = token_budget, first_step, total_steps
        super().__init__(*args, **kwargs)
        keep_adapter_fp32(kwargs["model"])  # TRL turns the adapter of a packed base into bf16

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean loss per completion token; of all the step's tokens if their number is given."""
        count = num_items_in_batch if num_items_in_batch is not None else (inputs["labels"][:, 1:] != IGNORED).sum()
        loss = completion_loss(model, inputs) / count
        return (loss, {}) if return_outputs else loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Work one batch off in micro-batches; return the step's loss."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        lengths = inputs["attention_mask"].sum(1).tolist()
        count = (inputs["labels"][:, 1:] != IGNORED).sum()
        total = torch.zeros((), device=count.device)
        for rows in micro_batches(lengths, self.token_budget):
            longest = max(lengths[row] for row in rows)
            part = {name: tensor[rows, :longest] for name, tensor in inputs.items()}
            with self.compute_loss_context_manager():
                loss = self.compute_loss(model, part, num_items_in_batch=count)
            self.accelerator.backward(loss)
            total += loss.detach()
        if not math.isfinite(total.item()):
            raise GradusError(
                f"the loss is {total.item()}, {self.state.global_step + 1} steps after training began or went on. "
                + ADVICE
            )
        return total

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return the schedule over all phases, wound to where this one begins."""
        if self.lr_scheduler is None:
            self.lr_scheduler = get_scheduler(
                self.args.lr_scheduler_type,
                optimizer=optimizer or self.optimizer,  # type: ignore[arg-type]
                num_warmup_steps=self.args.get_warmup_steps(self.total_steps),
                num_training_steps=self.total_steps,
            )
            if self.first_step:
                self.lr_scheduler.last_epoch = self.first_step - 1
                with warnings.catch_warnings():  # torch takes this for a step before the optimizer's
                    warnings.simplefilter("ignore")
                    self.lr_scheduler.step()
            self._created_lr_scheduler = True
        return self.lr_scheduler
