# SPDX-License-Identifier: Apache-2.0
"""Linear layers that decode as fast as the weights can be read, on CPUs where the stock kernel does not."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

# Rows that have at most so many numbers together stay in a core's first cache, where the weights are read fastest as
# the left factor of a product of matrices; up to so many, even one row that is written twice
# (benchmarks/linear_kernels.py).
_MOST_IN_ROWS, _MOST_IN_ONE_ROW = 3072, 512


def decoding_linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor | None:
    """`F.linear` in a faster way for so many rows in float32 on a CPU: as a product of the weights and
    the transposed input for a few short ones, through oneDNN for others. torch itself can be several times slower
    (`docs/performance.md`).

    It has no gradient and differs from the stock kernel in the last bits, so it is taken in inference mode only, which
    is what the decoding loop runs in.

    Args:
        input (`torch.Tensor` of shape `(..., in)`).
        weight (`torch.Tensor` of shape `(out, in)`).
        bias (`torch.Tensor` of shape `(out,)`, *optional*).

    Returns:
        `torch.Tensor` of shape `(..., out)`, or None where this kernel is not the one to take.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.linear import decoding_linear
    >>> decoding_linear(torch.ones(1, 2), torch.ones(3, 2), None) is None  # not in inference mode
    True
    >>> with torch.inference_mode():
    ...     decoding_linear(torch.ones(1, 2), torch.ones(3, 2), None)
    tensor([[2., 2., 2.]])

    ```
    """
    # torch.compile cannot look at the inference mode: every layer would cut its graph in two.
    if torch.compiler.is_compiling():
        return None
    if weight.device.type != "cpu" or not input.dtype == weight.dtype == torch.float32:
        return None
    if not torch.is_inference_mode_enabled() or not torch.backends.mkldnn.is_available():
        return None
    if _takes_weights_first(input):
        return _weights_first(input, weight, bias)
    return onednn_linear(input, weight, bias)


def onednn_linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`F.linear` through oneDNN on a CPU, without a gradient.

    Args:
        input (`torch.Tensor` of shape `(..., in)`): float32 or bfloat16.
        weight (`torch.Tensor` of shape `(out, in)`): of the same dtype, perhaps in oneDNN's own order.
        bias (`torch.Tensor` of shape `(out,)`, *optional*).

    Returns:
        `torch.Tensor` of shape `(..., out)`, of the input's dtype, whatever autocast asks for.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.linear import onednn_linear
    >>> onednn_linear(torch.ones(1, 2), torch.ones(3, 2), torch.arange(3.0))
    tensor([[2., 3., 4.]])

    ```
    """
    # oneDNN takes the numbers of a bias one after another in memory, whatever its strides.
    bias = None if bias is None else bias.contiguous()
    # The operator that torch.compile emits for a linear layer; no public name leads to it for plain tensors.
    output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return output


def _takes_weights_first(input: torch.Tensor) -> bool:
    """Whether to take the product of the weights and the transposed input."""
    # Autocast would round this product, and oneDNN's not.
    if torch.is_autocast_enabled("cpu"):
        return False
    numbers = input.numel()
    if numbers != input.shape[-1]:
        return numbers <= _MOST_IN_ROWS
    # Whoever counts operations would count the second copy of the row, too.
    return numbers <= _MOST_IN_ONE_ROW and not _is_counting()


def _is_counting() -> bool:
    """Whether every operation is observed, as by a FLOP counter; no public name tells."""
    return torch._C._len_torch_dispatch_stack() > 0


def _weights_first(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    rows = input.reshape(-1, input.shape[-1])
    count = len(rows)
    # One row would be a product with a vector, which is slower than one with the same row twice.
    columns = (rows if count > 1 else rows.repeat(2, 1)).T
    output = weight @ columns if bias is None else torch.addmm(bias[:, None], weight, columns)
    return output[:, :count].T.contiguous().view(*input.shape[:-1], len(weight))


class SimulLinear(nn.Linear):
    """`nn.Linear` that uses [`decoding_linear`] in inference mode."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output = decoding_linear(input, self.weight, self.bias)
        return F.linear(input, self.weight, self.bias) if output is None else output


def keep_plain_4bit(model: nn.Module, trains: bool = False) -> None:
    """Let 4-bit layers of bitsandbytes compute in the way that they do on every CPU, where the special one fails.

    On a CPU with AVX-512 BF16, bitsandbytes reorders the weights at the first inference, for a kernel of its own.
    It computes in bfloat16 whatever dtype was asked for, so that float32 activations which differ in their last bit end
    up a thousandth apart; it asserts that 32 divides the output features and that the input features are whole blocks;
    and it has no gradient, so that an evaluation in the middle of a training would leave the adapters below without
    one. So only layers that are to compute in bfloat16 keep it.

    Args:
        model (`nn.Module`): perhaps with such layers.
        trains (`bool`, *optional*, defaults to `False`): whether gradients will pass through all of them.
    """
    layer: Any
    for layer in model.modules():
        # The name decides, so that bitsandbytes is imported only where it is used.
        if f"{type(layer).__module__}.{type(layer).__name__}" == "bitsandbytes.nn.modules.Linear4bit":
            fits = layer.out_features % 32 == 0 and layer.in_features % layer.weight.blocksize == 0
            fits = fits and layer.compute_dtype == torch.bfloat16
            layer.support_avx512bf16_for_cpu = layer.support_avx512bf16_for_cpu and fits and not trains


__all__ = ["SimulLinear", "decoding_linear", "keep_plain_4bit", "onednn_linear"]
