"""Two operations with hand-written gradients: the linear layer with LoRA, and the output head with its loss.

PEFT multiplies and adds the adapter's output at full width and saves tensors for the backward pass of each operation;
autograd saves several copies of the logits. The versions here compute the same values with less memory. Tests compare
them with PEFT's and torch's, gradients included.
"""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch.nn.functional import linear


def _weight(base: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return the weight (out, in) of a linear layer, in `dtype` and unpacked if it is in 4 bits."""
    if type(base) is torch.nn.Linear:
        return base.weight
    from bitsandbytes.functional import dequantize_4bit  # only packed bases need it

    return dequantize_4bit(base.weight.data, base.weight.quant_state).to(dtype)


def _multiply(base: Any, x: torch.Tensor) -> torch.Tensor:
    """Return what the linear layer gives. bitsandbytes unpacks to the type of x, and in fp32 not to the numbers that
    `round_base` writes.
    """
    if type(base) is torch.nn.Linear or x.dtype == torch.bfloat16:
        return base(x)  # type: ignore[no-any-return]
    return linear(x, _weight(base, x.dtype), base.bias)


class AdaptedLinear(torch.autograd.Function):
    """x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ with W frozen; A and B are fp32 and are cast to the type of x."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, base: Any, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
        """Shapes: x (…, in), the weight of the linear layer `base` (out, in), a (rank, in), b (out, rank); returns
        (…, out).
        """
        flat = x.reshape(-1, x.shape[-1])
        a, scaled = a.to(x.dtype), (b * scale).to(x.dtype)
        low = flat @ a.t()
        ctx.save_for_backward(flat, a, scaled, low)
        ctx.base, ctx.scale, ctx.shape = base, scale, x.shape
        return _multiply(base, flat).addmm_(low, scaled.t()).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradients of x, a and b."""
        flat, a, scaled, low = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        of_low = gradient @ scaled
        of_b = (gradient.t() @ low).float().mul_(ctx.scale)
        of_a = (of_low.t() @ flat).float()
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ _weight(ctx.base, gradient.dtype)).addmm_(of_low, a).view(ctx.shape)
        return of_x, None, of_a, of_b, None


def head_losses(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the cross-entropy of each token, in nats, (128, 1) at a time, and its gradient by the hidden states.

    The gradient is computed from the logits of 128 tokens at a time, as in Liger's fused linear cross-entropy (arXiv
    2410.10989). Shapes: hidden and gradient (tokens, width), weight (vocabulary, width), targets (tokens,).
    """
    gradient, losses = torch.empty_like(hidden), list[torch.Tensor]()
    for start in range(0, len(hidden), 128):
        rows, wanted = slice(start, start + 128), targets[start : start + 128, None]
        logits = linear(hidden[rows], weight).float()
        scale = logits.logsumexp(-1, keepdim=True)
        losses.append(scale - logits.gather(1, wanted))
        probabilities = logits.sub_(scale).exp_()
        probabilities.scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=probabilities.dtype))
        gradient[rows] = probabilities.to(hidden.dtype) @ weight
    return losses, gradient


class HeadLoss(torch.autograd.Function):
    """Summed cross-entropy of a frozen head, in nats; see `head_losses`."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Shapes: hidden (tokens, width), weight (vocabulary, width), targets (tokens,); returns a scalar in fp32."""
        losses, gradient = head_losses(hidden, weight, targets)
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in losses:
            total += part.sum()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradient of the hidden states."""
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0]).to(gradient.dtype), None, None


class TokenLosses(torch.autograd.Function):
    """Cross-entropy of each token by a frozen head, in nats; see `head_losses`."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Shapes: hidden (tokens, width), weight (vocabulary, width), targets (tokens,); returns (tokens,) in fp32."""
        losses, gradient = head_losses(hidden, weight, targets)
        ctx.save_for_backward(gradient)
        return torch.cat(losses)[:, 0] if losses else hidden.new_zeros((0,), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradient of the hidden states."""
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0][:, None]).to(gradient.dtype), None, None


def _is_plain(layer: Any) -> bool:
    return type(layer) is LoraLinear and type(layer.base_layer) is torch.nn.Linear


def _is_packed(layer: Any) -> bool:
    """Return whether a LoRA layer's base is in 4 bits: by names, because importing bitsandbytes takes seconds."""
    return type(layer).__name__ == type(layer.base_layer).__name__ == "Linear4bit"


def fuse_lora(model: torch.nn.Module) -> bool:
    """Replace the forward pass of each plain LoRA layer with the one above; return whether this covers all LoRA layers.

    Layers with dropout or DoRA keep PEFT's forward pass, which needs autocast.
    """
    layers: list[Any] = [
        module for module in model.modules() if hasattr(module, "lora_A") and hasattr(module, "base_layer")
    ]
    plain = [
        layer
        for layer in layers
        if (_is_plain(layer) or _is_packed(layer))
        and not layer.lora_variant
        and isinstance(layer.lora_dropout["default"], torch.nn.Identity)
    ]
    for layer in plain:

        def forward(x: torch.Tensor, layer: Any = layer) -> torch.Tensor:
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            return AdaptedLinear.apply(x, layer.base_layer, a, b, layer.scaling["default"])  # type: ignore[no-any-return]

        layer.forward = forward  # type: ignore[method-assign]
    return len(plain) == len(layers)
