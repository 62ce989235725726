# SPDX-License-Identifier: Apache-2.0
"""Weights for decoding on CPUs, rounded or in another order: activations are computed as they come.

Reading the weights bounds the time of a forward of few tokens, so half or a quarter of the bytes is about twice or
three times the speed (`docs/performance.md`). The weights alone are rounded, row by row of their matrix; nothing is
measured over several tokens, so a row's numbers depend on no other row, but for the last bit, where a kernel may sum in
another order for another number of rows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .linear import onednn_linear

KINDS = ("int8", "bfloat16", "float16", "float32")

# Up to so many tokens, the int8 product is at least as fast as oneDNN's of bfloat16 (benchmarks/linear_kernels.py).
_FEW_TOKENS = 4
# The int8 kernel reads beyond its input if this does not divide the input features.
_INT8_BLOCK = 32


def set_decoding_weights(model: Any, kind: str) -> None:
    """Round the weights of a model's linear layers, or reorder them for oneDNN, in place, to decode faster on a CPU.

    The model can then translate, and evaluate a loss, but neither train nor be saved: its layers have no parameters any
    more.

    Args:
        model (`nn.Module`): of any family, float32, on a CPU.
        kind (`str`): how weights are stored and products computed:

            * `"int8"`: a whole number of -127 to 127 and a power of two for each output, one byte a weight for up to
              four tokens; beside them the same numbers in bfloat16, for more. Inputs and outputs of a layer are
              rounded to bfloat16.
            * `"bfloat16"`: two bytes, eight significant bits. Inputs and outputs are rounded to bfloat16.
            * `"float16"`: two bytes, eleven significant bits. Inputs and outputs stay float32, so that streamed logits
              equal those of a masked forward as exactly as without rounding.
            * `"float32"`: four bytes, nothing is rounded: the weights are in the order in which oneDNN reads them.

            The head that gives the logits is float16 where weights are rounded: bfloat16 logits are often equal. A head
            that shared the embedding's weights has weights of its own from then on.

    Raises:
        ValueError: for an unknown kind, a model that is elsewhere, of another dtype, quantised or with adapters, or a
            CPU or a PyTorch that lacks the kernels.

    Example:

    ```python
    >>> from copy import deepcopy
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.models.decoding_weights import set_decoding_weights
    >>> small = deepcopy(model)
    >>> set_decoding_weights(small, "float16")
    >>> ids = small.generate(**processor(source="a dog runs"), policy=WaitKPolicy(1), max_new_tokens=4)

    ```
    """
    check_kind(kind)
    if refusal := _refusal(model, kind):
        raise ValueError(refusal)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                is_rounded_head = layer is head and kind != "float32"
                setattr(parent, name, PackedLinear(layer, "float16" if is_rounded_head else kind))
    model.requires_grad_(False)
    model.decoding_weights = kind
    model.register_state_dict_pre_hook(_refuse_to_save)


class PackedLinear(nn.Module):
    """A linear layer with the weights of [`set_decoding_weights`], which makes it.

    Args:
        layer (`nn.Linear`): float32, on a CPU.
        kind (`str`): see [`set_decoding_weights`].

    Raises:
        ValueError: while it runs: in training mode, or for input that is not on a CPU.
    """

    def __init__(self, layer: nn.Linear, kind: str):
        super().__init__()
        self.in_features, self.out_features, self.kind = layer.in_features, layer.out_features, kind
        bias = None if layer.bias is None else layer.bias.detach()
        weight = layer.weight.detach()
        # Not buffers: what the kernels take is neither moved nor saved.
        self.product: Callable[[torch.Tensor], torch.Tensor] = _PRODUCTS[kind](weight, bias)
        self.train(layer.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise ValueError(
                f"model must be in evaluation mode with decoding_weights={self.kind!r}, which cannot be trained: call "
                "model.eval(), or load it without decoding_weights."
            )
        if input.device.type != "cpu":
            raise ValueError(f"model must stay on the CPU with decoding_weights, but its input is on {input.device}.")
        # Few operations: around a small layer each takes a tenth of the product's time.
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self._multiply(input)
        return self._multiply(input)

    def _multiply(self, input: torch.Tensor) -> torch.Tensor:
        if input.dtype == torch.float32:
            return self.product(input)
        return self.product(input.float()).to(input.dtype)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind!r}"


class _Float16:
    """fbgemm's product of float32 inputs and float16 weights, summed in float32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.float().contiguous(), bias)

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        # The kernel takes no single row without its dimension.
        rows = input[None] if input.ndim == 1 else input
        output: torch.Tensor = torch.ops.quantized.linear_dynamic_fp16(rows, self.packed)
        return output[0] if input.ndim == 1 else output

    def __deepcopy__(self, memo: Any) -> "_Float16":
        # Nothing ever changes it.
        return self


class _Float32:
    """oneDNN's product, of weights in the order in which it reads them."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        self.packed, self.bias = _in_onednn_order(weight), bias

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        return onednn_linear(input, self.packed, self.bias)

    def __deepcopy__(self, memo: Any) -> "_Float32":
        return self


class _BFloat16:
    """oneDNN's product in bfloat16, summed in float32, of weights in the order in which it reads them."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        self.packed = _in_onednn_order(weight.bfloat16())
        self.bias = bias

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        output = onednn_linear(input.bfloat16(), self.packed, None).float()
        return output if self.bias is None else output + self.bias

    def __deepcopy__(self, memo: Any) -> "_BFloat16":
        return self


class _Int8(_BFloat16):
    """ATen's product of bfloat16 inputs and int8 weights for few tokens; for more, the same weights in bfloat16.

    A scale is a power of two, so that bfloat16 has room for every rounded weight, and both products are of the same
    numbers.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        largest = weight.abs().amax(1, keepdim=True)
        scales = torch.where(largest > 0, (largest / 127).log2().ceil().exp2(), 1.0)
        rounded = (weight / scales).round()
        super().__init__(rounded * scales, bias)
        fits = weight.shape[1] % _INT8_BLOCK == 0
        self.few = (rounded.to(torch.int8), scales[:, 0].bfloat16()) if fits else None

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        rows = input.reshape(-1, input.shape[-1])
        if self.few is None or len(rows) > _FEW_TOKENS:
            return super().__call__(input)
        output: torch.Tensor = torch.ops.aten._weight_int8pack_mm(rows.bfloat16().contiguous(), *self.few).float()
        return (output if self.bias is None else output + self.bias).view(*input.shape[:-1], output.shape[-1])


def _in_onednn_order(weight: torch.Tensor) -> torch.Tensor:
    # Without a number of rows: asked for the order for one, oneDNN leaves float32 as it is.
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    return packed


_PRODUCTS: dict[str, Callable[[torch.Tensor, torch.Tensor | None], Callable[[torch.Tensor], torch.Tensor]]] = {
    "int8": _Int8,
    "bfloat16": _BFloat16,
    "float16": _Float16,
    "float32": _Float32,
}


def check_kind(kind: str) -> None:
    """Refuse what is no kind of weights.

    Args:
        kind (`str`): see [`set_decoding_weights`].

    Raises:
        ValueError: for another.
    """
    if kind not in KINDS:
        raise ValueError(f"decoding_weights must be one of {KINDS}, got {kind!r}.")


def float16_is_exact(model: Any) -> bool:
    """Whether `set_decoding_weights(model, "float16")` can be done and changes no weight by more than 2**-20 of the
    largest of its row, which is as much as sums in float32 round: so with weights that were stored in 16 bits, but for
    the smallest ones.

    Args:
        model (`nn.Module`): of any family.

    Returns:
        `bool`: whether it does.

    Example:

    ```python
    >>> from copy import deepcopy
    >>> from transformers_simul.models.decoding_weights import float16_is_exact
    >>> float16_is_exact(model), float16_is_exact(deepcopy(model).bfloat16().float())
    (False, True)

    ```
    """
    if _refusal(model, "float16"):
        return False
    layers = (module for module in model.modules() if isinstance(module, nn.Linear))
    return all(_float16_holds(layer.weight.detach()) for layer in layers)


def _float16_holds(weight: torch.Tensor) -> bool:
    if not weight.numel():
        return True
    error = weight.half().float().sub_(weight).abs_()
    return bool((error <= 2**-20 * weight.abs().amax(1, keepdim=True)).all())


def _refusal(model: Any, kind: str) -> str:
    """Why the model or this machine cannot have such weights; empty if it can."""
    if set_before := getattr(model, "decoding_weights", None):
        return f"decoding_weights must be set once, but are {set_before!r}: load the model again."
    if getattr(model, "is_quantized", False):
        return f"model must not be quantised already for decoding_weights={kind!r}: load it without."
    if getattr(model, "peft_config", None):
        return f"adapters must be merged into the model before decoding_weights={kind!r}."
    for name, weight in model.named_parameters():
        if weight.device.type != "cpu":
            return f"model must be on the CPU for decoding_weights={kind!r}, but {name} is on {weight.device}."
        if weight.dtype != torch.float32:
            return f"model must be float32 for decoding_weights={kind!r}, but {name} is {weight.dtype}."
    if kind != "float16" and not torch.backends.mkldnn.is_available():
        return f"decoding_weights={kind!r} needs a PyTorch with oneDNN; 'float16' does not."
    if kind != "float32" and "fbgemm" not in torch.backends.quantized.supported_engines:
        return f"decoding_weights={kind!r} needs a PyTorch with FBGEMM, which is made for x86 CPUs; 'float32' does not."
    if kind in ("int8", "bfloat16") and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return f"decoding_weights={kind!r} needs a CPU that computes in bfloat16; 'float16' does not."
    return ""


def _refuse_to_save(model: Any, *_: Any) -> None:
    raise ValueError(
        f"model must be loaded without decoding_weights={model.decoding_weights!r} to be saved: its layers have no "
        "parameters any more."
    )


__all__ = ["KINDS", "PackedLinear", "check_kind", "float16_is_exact", "set_decoding_weights"]
