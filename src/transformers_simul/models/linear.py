# SPDX-License-Identifier: Apache-2.0
"""Linear layers that decode as fast as the weights can be read, on CPUs where the stock kernel does not."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def decoding_linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor | None:
    """`F.linear` through oneDNN: in float32 on a CPU, torch itself takes another library, which for a few rows can be
    several times slower (`docs/performance.md`).

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

    ```
    """
    # torch.compile cannot look at the inference mode: every layer would cut its graph in two.
    if torch.compiler.is_compiling():
        return None
    if weight.device.type != "cpu" or not input.dtype == weight.dtype == torch.float32:
        return None
    if not torch.is_inference_mode_enabled() or not torch.backends.mkldnn.is_available():
        return None
    # The operator that torch.compile emits for a linear layer; no public name leads to it for plain tensors.
    output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return output


class SimulLinear(nn.Linear):
    """`nn.Linear` that uses [`decoding_linear`] in inference mode."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output = decoding_linear(input, self.weight, self.bias)
        return F.linear(input, self.weight, self.bias) if output is None else output


def keep_plain_4bit(model: nn.Module, trains: bool = False) -> None:
    """Let 4-bit layers of bitsandbytes compute in the way that they do on every CPU, where the special one fails.

    On a CPU with AVX-512 BF16, bitsandbytes lays the weights out anew at the first inference, for a kernel of its own.
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


__all__ = ["SimulLinear", "decoding_linear", "keep_plain_4bit"]
