"""Compute a checkpoint's predictions with one decoder layer in memory at a time: all rows go through it, then the next.

The model's own modules compute, so the numbers are those of the whole model. Memory, the GPU's if one computes, is that
of one layer, of the rows' hidden states, and of the output matrix; it does not grow with the number of layers.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM

from scripts.common.device import fast_dtype
from scripts.common.empty_model import EmptyModel

SLICE = 16384  # rows of the output matrix that are converted at a time


class NotByLayer(Exception):
    """An architecture that cannot be computed layer by layer."""


@torch.no_grad()
def predict(
    folder: str | Path,
    adapter: str | Path | None,
    rows: Sequence[Sequence[int]],
    keep: Sequence[int] | None,
    dtype: torch.dtype,
    watch: Callable[[Any], object] = lambda model: None,
    device: str = "cpu",
) -> Iterator[torch.Tensor]:
    """Yield the logits after the last `keep` tokens of each row of token ids, of shape (tokens, vocabulary), in main
    memory; nothing if `keep` is None, when only what `watch` sees is of interest.

    The checkpoint's weights and the computation are of type `dtype` on `device`, the adapter is in fp32 and not merged.
    `watch` is called with the model before rows go through it, for instance to register hooks on its layers. A model of
    another structure than most (NotByLayer) is loaded whole, and computed on the CPU: in fp32 it may not fit elsewhere.
    """
    try:
        walk = Layerwise(folder, adapter, rows, dtype, device)
    except NotByLayer as reason:
        logging.info("%s: loaded whole, because %s", folder, reason)
        yield from _predict_whole(folder, adapter, rows, keep, dtype, watch)
    else:
        watch(walk.model)
        walk.run()
        for n, last in enumerate(keep or []):
            yield walk.logits(n, last).cpu()


def _predict_whole(
    folder: str | Path,
    adapter: str | Path | None,
    rows: Sequence[Sequence[int]],
    keep: Sequence[int] | None,
    dtype: torch.dtype,
    watch: Callable[[Any], object],
) -> Iterator[torch.Tensor]:
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.promote_types(dtype, fast_dtype("cpu")), trust_remote_code=False, use_safetensors=True
    )
    if adapter:
        from peft import PeftModel  # its import takes more than a second

        model = PeftModel.from_pretrained(model, str(adapter))
    watch(model.eval())
    for row, last in zip(rows, [1] * len(rows) if keep is None else keep, strict=True):
        logits = model(input_ids=torch.tensor([row]), use_cache=False, logits_to_keep=last).logits[0]
        if keep is not None:
            yield logits


class Layerwise:
    """Rows on their way through the decoder layers of a checkpoint."""

    def __init__(
        self,
        folder: str | Path,
        adapter: str | Path | None,
        rows: Sequence[Sequence[int]],
        dtype: torch.dtype,
        device: str = "cpu",
    ) -> None:
        """Compute the rows' embeddings, and see what else the model gives to each of its layers.

        Raises NotByLayer if the model is not a list of layers that take and return hidden states.
        """
        self.empty = EmptyModel(folder, adapter, dtype, device)
        self.model = self.empty.model
        self.layers: Any = getattr(self.model.get_decoder(), "layers", None)
        embedding, self.head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        if not isinstance(self.layers, torch.nn.ModuleList):
            raise NotByLayer("it has no list of decoder layers")
        if not isinstance(embedding, torch.nn.Embedding) or type(self.head) is not torch.nn.Linear:
            raise NotByLayer("its embeddings or its output layer are of another kind, or adapted")
        names = {module: name for name, module in self.model.named_modules()}
        self.names = [names[layer] for layer in self.layers]
        self.matrix = f"{names[self.head]}.weight"
        source = f"{names[embedding]}.weight"
        apart = tuple(f"{name}." for name in [*self.names, names[embedding], names[self.head]])
        rest = [name for name, _ in self.model.named_parameters() if not name.startswith(apart)]
        try:
            self.model.load_state_dict({name: self.empty.read(name) for name in rest}, strict=False, assign=True)
            if self.matrix not in self.empty.base:  # tied
                self.matrix = source
            # the embeddings of the tokens that occur, under new ids
            tokens = sorted({token for row in rows for token in row})
            table = self.empty.open(source)[torch.tensor(tokens)].to(device).to(dtype)
        except KeyError as missing:
            raise NotByLayer(f"its files do not name {missing}") from None
        embedding.weight, embedding.padding_idx = torch.nn.Parameter(table, requires_grad=False), None
        place = {token: n for n, token in enumerate(tokens)}
        self.embedded = [embedding(torch.tensor([[place[token] for token in row]], device=device)) for row in rows]
        self.head_weight: torch.Tensor | None = None
        self.hidden: list[Any] = []
        self.given: list[list[tuple[Any, Any]]] = [[] for _ in self.layers]  # by layer and row: args and kwargs
        with ExitStack() as stack:
            for layer, given in zip(self.layers, self.given, strict=True):
                stack.enter_context(_computed_by(layer, self._see(given)))
            for embedded in self.embedded:
                self.hidden.append(embedded)
                self.model.get_decoder()(inputs_embeds=embedded, use_cache=False)
        with self.empty.filled(self.names[0]) as layer:
            args, kwargs = self.given[0][0]
            if not isinstance(layer(self.hidden[0], *args, **kwargs), torch.Tensor):
                raise NotByLayer("its layers return more than hidden states")

    def _see(self, given: list[tuple[Any, Any]]) -> Callable[..., torch.Tensor]:
        def forward(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            given.append((args, kwargs))
            if given is self.given[0]:
                self.hidden[-1] = hidden_states
            return hidden_states

        return forward

    def run(self) -> None:
        """Take all rows through all layers."""
        for name, given in zip(tqdm(self.names, unit="layer", mininterval=1), self.given, strict=True):
            with self.empty.filled(name) as layer:
                for n, (args, kwargs) in enumerate(given):
                    self.hidden[n] = layer(self.hidden[n], *args, **kwargs)

    def logits(self, row: int, keep: int) -> torch.Tensor:
        """Return the logits after the last `keep` tokens of a row, of shape (tokens, vocabulary)."""
        weight = self.head_weight
        if weight is None:
            weight = self.empty.open(self.matrix).to(self.empty.device)
        if self.empty.device.type != "cpu":  # there once for all rows; on the CPU it is mapped
            self.head_weight = weight
        bias = None if self.head.bias is None else self.empty.read(self.matrix.removesuffix("weight") + "bias")

        def head(hidden: torch.Tensor) -> torch.Tensor:
            parts = [torch.nn.functional.linear(hidden, part.to(hidden)) for part in weight.split(SLICE)]
            return torch.cat(parts, -1) if bias is None else torch.cat(parts, -1) + bias

        with ExitStack() as stack:
            stack.enter_context(_computed_by(self.head, head))
            for layer in self.layers:
                stack.enter_context(_computed_by(layer, lambda *_, **__: self.hidden[row]))
            result = self.model(inputs_embeds=self.embedded[row], use_cache=False, logits_to_keep=keep)
        return result.logits[0]  # type: ignore[no-any-return]


@contextmanager
def _computed_by(module: torch.nn.Module, function: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Let a function compute what a module returns."""
    module.forward = function
    try:
        yield
    finally:
        del module.forward
