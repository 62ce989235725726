# SPDX-License-Identifier: Apache-2.0
"""Attention under a mask that already holds everything: which keys, and their bias. Three kernels, one result."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention

from .positions_simul import rotate

_FEW_QUERIES = 16


class View(NamedTuple):
    """What the layers of one forward share, beside their masks.

    Attributes:
        step (`SimulCache`, *optional*): while decoding, who splits tokens into streams and joins them again.
        source_rotations (`Sequence[tuple[torch.Tensor, torch.Tensor]]`, *optional*): with own-frame positions, for
            each layer cosine and sine of the angle by which a query turns further towards source keys, shape
            `(batch, queries, rotary_dim)`.
        keys_in_target (`torch.Tensor` of shape `(batch, keys)`, *optional*): which keys stand behind the source.
    """

    step: Any = None
    source_rotations: Sequence[tuple[torch.Tensor, torch.Tensor]] | None = None
    keys_in_target: torch.Tensor | None = None


def attend_in_view(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: Any,
    view: View,
    layer: int,
    implementation: str,
    scale: float,
    dropout: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """[`attend`] of a training batch or of a decoding step's tokens, in the frames that positions call for.

    Args:
        query (`torch.Tensor` of shape `(batch, heads, queries, head_dim)`): of a step `(1, heads, tokens, head_dim)`.
        key, value, mask, implementation, scale, dropout: as in [`attend`].
        view (`View`): of the forward.
        layer (`int`): index of the layer.

    Returns:
        `torch.Tensor` of shape `(batch, queries, heads * head_dim)`, or `(1, tokens, heads * head_dim)`; and weights.
    """
    if view.step is not None:
        query = view.step.split(query.transpose(1, 2)).transpose(1, 2)
    if view.source_rotations is None:
        output, weights = attend(query, key, value, mask, implementation, scale, dropout)
    else:
        far = rotate(query, *view.source_rotations[layer])
        # Under SDPA, a few queries are cheaper by two products than by keys twice as long.
        if implementation == "eager" or (implementation == "sdpa" and query.shape[2] <= _FEW_QUERIES):
            behind = view.keys_in_target[:, None, None]  # type: ignore[index]
            near, distant = (_grouped_product(each, key.transpose(-1, -2)) for each in (query, far))
            output, weights = _weigh(torch.where(behind, near, distant), value, mask, scale, dropout)
        else:
            output, weights = _attend_twice_as_long(query, far, key, value, mask, view, implementation, scale, dropout)
    return output if view.step is None else view.step.join(output), weights


def _attend_twice_as_long(query, far, key, value, mask, view, implementation, scale, dropout):
    """Queries and keys of both frames side by side, so that a fused kernel sees one product."""
    behind = view.keys_in_target[:, None, :, None]
    nothing = key.new_zeros(())
    keys = torch.cat((torch.where(behind, nothing, key), torch.where(behind, key, nothing)), dim=-1)
    size = value.shape[-1]
    # The fused CPU kernel wants values as long as keys; without it, all scores would lie in memory.
    if implementation == "sdpa":
        heads = query.shape[1] if value.shape[1] == 1 else value.shape[1]
        keys, value = (each.expand(-1, heads, -1, -1) for each in (keys, F.pad(value, (0, size))))
    output, weights = attend(torch.cat((far, query), dim=-1), keys, value, mask, implementation, scale, dropout)
    return output.unflatten(-1, (query.shape[1], -1))[..., :size].flatten(-2), weights


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: Any,
    implementation: str,
    scale: float,
    dropout: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention.

    Args:
        query (`torch.Tensor` of shape `(batch, heads, queries, head_dim)`).
        key, value (`torch.Tensor` of shape `(batch, kv_heads, keys, head_dim)`): `kv_heads` is 1 or divides `heads`.
        mask (`torch.Tensor` of shape `(batch, heads or 1, queries, keys)`): added to the scaled scores; for flex a
            block mask, or a pair `(block_mask, score_mod)`.
        implementation (`str`): `"eager"`, `"sdpa"` or `"flex_attention"`.
        scale (`float`): of the scores.
        dropout (`float`): of the weights.

    Returns:
        `torch.Tensor` of shape `(batch, queries, heads * head_dim)`, and with `"eager"` the weights of shape
        `(batch, heads, queries, keys)`, otherwise None.

    Raises:
        ValueError: for dropout with flex, which has none.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.attention_simul import attend
    >>> query, nothing = torch.ones(1, 2, 3, 4), torch.zeros(1, 1, 3, 3)
    >>> output, weights = attend(query, query, query, nothing, "eager", scale=0.5)
    >>> output.shape, weights.sum(-1).round(decimals=4).unique().tolist()
    (torch.Size([1, 3, 8]), [1.0])

    ```
    """
    grouped = key.shape[1] != query.shape[1]
    if implementation == "flex_attention":
        if dropout > 0:
            raise ValueError(f"attention_dropout must be 0 with attn_implementation='flex_attention', got {dropout}.")
        block_mask, score_mod = mask if isinstance(mask, tuple) else (mask, None)
        kernel = _compiled_flex_attention() if query.is_cuda else flex_attention
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        output = kernel(query, key, value, score_mod=score_mod, block_mask=block_mask, scale=scale, enable_gqa=grouped)
    elif implementation == "sdpa":
        # Stock Falcon broadcasts its single head of keys, which takes a slower kernel; outside of decoding so do we,
        # to equal it to the last bit.
        grouped = grouped and (key.shape[1] > 1 or torch.is_inference_mode_enabled())
        output = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale, enable_gqa=grouped
        )
    else:
        return _weigh(_grouped_product(query, key.transpose(-1, -2)), value, mask, scale, dropout)
    return output.transpose(1, 2).flatten(2), None


def _grouped_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`(batch, heads, n, m)` times `(batch, kv_heads, m, p)`: heads that share keys in one product."""
    batch, heads, rows, size = left.shape
    groups = right.shape[1]
    return (left.reshape(batch, groups, heads // groups * rows, size) @ right).view(batch, heads, rows, -1)


def _weigh(scores, value, mask, scale, dropout) -> tuple[torch.Tensor, torch.Tensor]:
    weights = F.softmax(scores.float() * scale + mask, dim=-1, dtype=value.dtype)
    weights = F.dropout(weights, dropout, training=True)
    return _grouped_product(weights, value).transpose(1, 2).flatten(2), weights


@functools.cache
def _compiled_flex_attention():
    return torch.compile(flex_attention, dynamic=True)


__all__ = ["View", "attend", "attend_in_view"]
