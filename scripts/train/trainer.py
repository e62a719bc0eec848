"""TRL's SFTTrainer with the step that a curriculum on a small machine needs.

Rows are taken in file order; one batch is one optimizer step, worked off in packs of bounded size: rows end to end,
without padding, none seeing another. Head and loss are computed at completion tokens only. Schedule and optimizer go on
across phases.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import get_scheduler
from trl import SFTTrainer

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_json
from scripts.common.records import Record
from scripts.train.callback import ADVICE
from scripts.train.fused import HeadLoss
from scripts.train.model import keep_adapter_fp32

IGNORED = -100  # the label that the loss skips


def encode(tokenizer: Any, contract: Any, record: Record) -> tuple[list[int], list[int]]:
    """Return (prompt ids, completion ids): the template around prompt and earlier turns, response and end of turn."""
    text = tokenizer.apply_chat_template(
        contract.ask(record),
        chat_template=contract.chat_template,
        add_generation_prompt=True,
        tokenize=False,
    )
    asked = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer = tokenizer(record.response, add_special_tokens=False)["input_ids"]
    return asked, [*answer, contract.end_of_turn_id]


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group the rows of one step, in their order, so that each group holds at most `token_budget` tokens.

    A row longer than the budget stands alone. Groups are of about the same size. Returns lists of row numbers.
    """
    share = sum(lengths) / -(-sum(lengths) // token_budget) if lengths else 0
    groups: list[list[int]] = []
    held = 0
    for row, length in enumerate(lengths):
        # a group is closed when the next row does not fit it, or when more than half of that row lies beyond its share
        if groups and held + length <= token_budget and held + length / 2 <= share:
            groups[-1].append(row)
            held += length
        else:
            groups.append([row])
            held = length
    return groups


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Lay rows of `input_ids` and `labels` end to end: tensors of shape (tokens,), and `lengths` of shape (rows,)."""
    flat = {
        name: torch.tensor([value for row in rows for value in row[name]], dtype=torch.long)
        for name in ("input_ids", "labels")
    }
    return {**flat, "lengths": torch.tensor([len(row["input_ids"]) for row in rows])}


def collate_step(items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Lay the rows of one step end to end. A data set's item is a whole step, its `input_ids` and `labels` lists of
    rows: so no sampler can take a row into another step.
    """
    (step,) = items
    return collate([{"input_ids": i, "labels": j} for i, j in zip(step["input_ids"], step["labels"], strict=True)])


def digest(rows: Sequence[Sequence[int]]) -> str:
    """Return a hash of the token ids of a step's rows, in their order."""
    return sha256_json([list(row) for row in rows])


@dataclass
class Pack:
    """Rows laid end to end for one pass through the model, without padding."""

    input_ids: torch.Tensor  # (1, tokens)
    position_ids: torch.Tensor  # (1, tokens); each row's own
    targets: torch.Tensor  # (tokens,); the next token where it is trained, else IGNORED
    bounds: list[int]  # where the part that all rows begin with ends, then where each row's rest ends


def pack(rows: Sequence[Mapping[str, torch.Tensor]], share: bool) -> Pack:
    """Return the pack of rows of `input_ids` and `labels`, tensors of shape (tokens,).

    With `share`, the tokens that all rows begin with stand once. The last token of the shortest prompt never
    belongs to them, so what is shared predicts prompt tokens only, and no loss.
    """
    ids, labels = [row["input_ids"] for row in rows], [row["labels"] for row in rows]
    shared = 0
    if share and len(rows) > 1:
        most = max(0, min(int((row != IGNORED).int().argmax()) for row in labels) - 1)
        alike = torch.stack([row[:most] for row in ids])
        differs = (alike != alike[0]).any(0)
        shared = int(differs.int().argmax()) if differs.any() else most
    nothing = labels[0].new_full((1,), IGNORED)
    targets = [torch.cat([row[1:], nothing])[shared:] for row in labels]
    positions = [torch.arange(len(row), device=row.device)[shared:] for row in ids]
    rests = [row[shared:] for row in ids]
    return Pack(
        torch.cat([ids[0][:shared], *rests])[None],
        torch.cat([torch.arange(shared, device=ids[0].device), *positions])[None],
        torch.cat([nothing.expand(shared), *targets]),
        list(accumulate([shared, *map(len, rests)])),
    )


def packs(inputs: Mapping[str, torch.Tensor], token_budget: int, share: bool) -> Iterator[Pack]:
    """Yield the packs of a step that `collate` laid out."""
    lengths = inputs["lengths"].tolist()
    split = {name: inputs[name].split(lengths) for name in ("input_ids", "labels")}
    for group in micro_batches(lengths, token_budget):
        yield pack([{name: split[name][row] for name in split} for row in group], share)


def shares_beginnings(model: Any) -> bool:
    """Return whether the model's attention keeps packed rows apart by their bounds; others go by positions alone."""
    return bool(model.config._attn_implementation == "rows")


def _arguments(causal: Any, packed: Pack) -> dict[str, Any]:
    """Return what a model is called with for a pack."""
    arguments: dict[str, Any] = {"input_ids": packed.input_ids, "position_ids": packed.position_ids, "use_cache": False}
    if shares_beginnings(causal):
        arguments["bounds"] = packed.bounds
    return arguments


def _autocast(model: Any, causal: Any) -> Any:
    mixed = causal.dtype == torch.bfloat16 and getattr(model, "needs_autocast", True)
    return torch.autocast(causal.device.type, torch.bfloat16, enabled=mixed)


def _whole(causal: Any) -> bool:
    """Return whether a model does more to its logits than the head (soft-capping, scaling), and must run whole."""
    return any(
        getattr(causal.config, name, None) for name in ("final_logit_softcapping", "logits_scaling", "logit_scale")
    )


def _hidden(causal: Any, packed: Pack) -> torch.Tensor:
    """Return the hidden states that predict completion tokens, (completion tokens, width)."""
    states: torch.Tensor = causal.get_decoder()(**_arguments(causal, packed)).last_hidden_state[0]
    return states[packed.targets != IGNORED]


def completion_logits(model: Any, packed: Pack) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits, targets) at the completion tokens of a pack, (completion tokens, vocabulary) and their ids."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    wanted = packed.targets != IGNORED
    with _autocast(model, causal):
        if _whole(causal):
            logits = causal(**_arguments(causal, packed)).logits[0][wanted]
        else:
            logits = causal.get_output_embeddings()(_hidden(causal, packed))
    return logits, packed.targets[wanted]


def completion_loss(model: Any, packed: Pack) -> torch.Tensor:
    """Return the summed cross-entropy, in nats, over the completion tokens of a pack.

    The head runs at those positions alone.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = causal.get_output_embeddings()
    frozen = type(head) is torch.nn.Linear and head.bias is None and not head.weight.requires_grad
    if frozen and torch.is_grad_enabled() and not _whole(causal):
        with _autocast(model, causal):
            targets = packed.targets[packed.targets != IGNORED]
            return HeadLoss.apply(_hidden(causal, packed), head.weight, targets)  # type: ignore[no-any-return]
    logits, targets = completion_logits(model, packed)
    return cross_entropy(logits.float(), targets, reduction="sum")


def check_isolation(model: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise GradusError if rows of a pack see each other: their hidden states together must be those of each alone.

    An architecture could ignore what keeps rows apart (bounds, or positions that begin anew) without a word.
    """
    causal = model.get_base_model()
    together = list(packs(on(model.device, collate(rows)), 10**9, shares_beginnings(model)))
    alone = [pack for row in rows for pack in packs(on(model.device, collate([row])), 10**9, False)]
    model.eval()
    with torch.no_grad(), _autocast(model, causal):
        one, other = (
            torch.cat(
                [
                    causal.get_decoder()(**_arguments(causal, pack)).last_hidden_state[0][pack.targets != IGNORED]
                    for pack in some
                ]
            ).float()
            for some in (together, alone)
        )
    model.train()
    difference = ((one - other).norm() / other.norm()).item()
    if difference > 0.1:  # rounding in bf16 makes 0.01
        raise GradusError(
            f"{type(causal).__name__}: packed rows see each other (their hidden states differ by {difference:.0%} from "
            "each row's alone). Set train.micro_batch_tokens: 1, so that each row goes alone."
        )


def on(device: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors on a device."""
    return {name: tensor.to(device) for name, tensor in inputs.items()}


class PhaseTrainer(SFTTrainer):
    """One phase of training. The data set's items are steps, in the order to be taken (see `collate_step`)."""

    def __init__(
        self, *args: Any, token_budget: int, first_step: int, total_steps: int, digests: Sequence[str], **kwargs: Any
    ) -> None:
        """`first_step` of `total_steps` is where this phase begins in the learning-rate schedule.

        `digests`: what each step must get (see `digest`); anything else ends the training.
        """
        self.token_budget, self.first_step, self.total_steps = token_budget, first_step, total_steps
        self.digests = digests
        super().__init__(*args, **kwargs)
        keep_adapter_fp32(kwargs["model"])  # TRL turns the adapter of a packed base into bf16

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Work one batch off in packs; return the step's loss, the mean over its completion tokens."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        step = self.state.global_step
        if (
            digest([row.tolist() for row in inputs["input_ids"].split(inputs["lengths"].tolist())])
            != self.digests[step]
        ):
            raise GradusError(
                f"step {step + 1} (since training began or went on) got other rows than the phase's file has for it: "
                "something between the file and the model reorders rows. That would undo the curriculum."
            )
        starts = inputs["lengths"].cumsum(0) - inputs["lengths"]
        wanted = inputs["labels"] != IGNORED
        wanted[starts] = False  # a row's first token is predicted by nothing
        count = wanted.sum()
        total = torch.zeros((), device=count.device)
        for packed in packs(inputs, self.token_budget, shares_beginnings(self.model)):
            loss = completion_loss(model, packed) / count
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
