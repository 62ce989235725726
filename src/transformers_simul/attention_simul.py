# SPDX-License-Identifier: Apache-2.0
"""Attention under a mask that already holds everything: which keys, and their bias. Three kernels, one result."""

import functools
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention


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
            pair `(block_mask, score_mod)`.
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
    weights = None
    if implementation == "flex_attention":
        if dropout > 0:
            raise ValueError(f"attention_dropout must be 0 with attn_implementation='flex_attention', got {dropout}.")
        block_mask, score_mod = mask
        kernel = _compiled_flex_attention() if query.is_cuda else flex_attention
        grouped = key.shape[1] != query.shape[1]
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        output = kernel(query, key, value, score_mod=score_mod, block_mask=block_mask, scale=scale, enable_gqa=grouped)
    elif implementation == "sdpa":
        output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    else:
        scores = (query @ key.transpose(-1, -2)).float() * scale
        weights = F.dropout(F.softmax(scores + mask, dim=-1, dtype=query.dtype), dropout, training=True)
        output = weights @ value
    return output.transpose(1, 2).flatten(2), weights


@functools.cache
def _compiled_flex_attention():
    return torch.compile(flex_attention, dynamic=True)


__all__ = ["attend"]
