# SPDX-License-Identifier: Apache-2.0
"""Attention under a mask that already says which keys are visible and what their bias is. Three kernels give one
result."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention

from .cache import CacheStep
from .masking import FlexMask
from .positions import rotate

# Up to so many queries, two products are cheaper than keys twice as long (benchmarks/positions.py --kernels).
_FEW_QUERIES = 16


class AttentionContext(NamedTuple):
    """What the layers of one forward share, beside their masks.

    Attributes:
        step (`CacheStep`, *optional*): while decoding, splits tokens into streams and joins them again.
        source_rotations (`Sequence[tuple[torch.Tensor, torch.Tensor]]`, *optional*): with own-frame positions, for each
            layer the cosine and sine of the angle by which a query is rotated again for source keys, shape `(batch,
            queries, rotary_dim)`.
        keys_in_target (`torch.Tensor` of shape `(batch, keys)`, *optional*): which keys come after the source.
        broadcasts_keys (`bool`): under SDPA, leave a single head of keys to torch's broadcasting, a slower kernel, as
            stock Falcon does; only then is the result equal to the last bit.
    """

    step: CacheStep | None = None
    source_rotations: Sequence[tuple[torch.Tensor, torch.Tensor]] | None = None
    keys_in_target: torch.Tensor | None = None
    broadcasts_keys: bool = False


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | FlexMask,
    implementation: str,
    scale: float,
    dropout: float = 0.0,
    context: AttentionContext = AttentionContext(),  # noqa: B008 - immutable
    layer: int = 0,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute attention for a batch or for the tokens of a decoding step, with own-frame positions if the context has
    them.

    Args:
        query (`torch.Tensor` of shape `(batch, heads, queries, head_dim)`): in a step, `(1, heads, tokens, head_dim)`.
        key, value (`torch.Tensor` of shape `(batch, kv_heads, keys, head_dim)`): `kv_heads` divides `heads`.
        mask (`torch.Tensor` of shape `(batch, heads or 1, queries, keys)`): added to the scaled scores; for flex a
            [`FlexMask`].
        implementation (`str`): `"eager"`, `"sdpa"` or `"flex_attention"`.
        scale (`float`): factor of the scores.
        dropout (`float`): dropout of the weights.
        context (`AttentionContext`, *optional*): what the layers share.
        layer (`int`, *optional*): index of the layer.

    Returns:
        `torch.Tensor` of shape `(batch, queries, heads * head_dim)`, in a step `(1, tokens, heads * head_dim)`; and
        with `"eager"` the weights of shape `(batch, heads, queries, keys)`, otherwise None.

    Raises:
        ValueError: for dropout with flex, which has none.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.attention import attend
    >>> query, nothing = torch.ones(1, 2, 3, 4), torch.zeros(1, 1, 3, 3)
    >>> output, weights = attend(query, query, query, nothing, "eager", scale=0.5)
    >>> output.shape, weights.sum(-1).round(decimals=4).unique().tolist()
    (torch.Size([1, 3, 8]), [1.0])

    ```
    """
    step, rotations, keys_in_target, broadcasts_keys = context
    if step is not None:
        query = step.split(query.transpose(1, 2)).transpose(1, 2)
    far = None if rotations is None else rotate(query, *rotations[layer])
    if step is not None and step.probe is not None:
        step.probe.look(layer, query, far, key, mask, scale)
    if far is not None and keys_in_target is not None:
        output, weights = _attend_in_two_frames(
            query, far, key, value, mask, keys_in_target, implementation, scale, dropout
        )
    elif implementation == "eager":
        output, weights = _weigh(_grouped_product(query, key.transpose(-1, -2)), value, mask, scale, dropout)
    else:
        output, weights = _fused(query, key, value, mask, scale, dropout, broadcasts_keys), None
    output = output.transpose(1, 2).flatten(2)
    return output if step is None else step.join(output), weights


def _attend_in_two_frames(
    query: torch.Tensor,
    far: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: Any,
    keys_in_target: torch.Tensor,
    implementation: str,
    scale: float,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Multiply `query` with target keys and `far` with source keys."""
    if implementation == "eager" or (implementation == "sdpa" and query.shape[2] <= _FEW_QUERIES):
        near, distant = (_grouped_product(each, key.transpose(-1, -2)) for each in (query, far))
        scores = torch.where(keys_in_target[:, None, None], near, distant)
        output, weights = _weigh(scores, value, mask, scale, dropout)
        return output, weights if implementation == "eager" else None
    # Queries and keys of both frames side by side, so that a fused kernel sees one product.
    after, nothing, size = keys_in_target[:, None, :, None], key.new_zeros(()), value.shape[-1]
    key = torch.cat((torch.where(after, nothing, key), torch.where(after, key, nothing)), dim=-1)
    # The fused kernel of CPUs takes only values as long as keys; without it, all scores would be in memory.
    value = F.pad(value, (0, size)) if implementation == "sdpa" else value
    output = _fused(torch.cat((far, query), dim=-1), key, value, mask, scale, dropout)
    return output[..., :size], None


def _fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: Any,
    scale: float,
    dropout: float,
    broadcasts_keys: bool = False,
) -> torch.Tensor:
    grouped = key.shape[1] != query.shape[1]
    if isinstance(mask, FlexMask):
        if dropout > 0:
            raise ValueError(f"attention_dropout must be 0 with attn_implementation='flex_attention', got {dropout}.")
        kernel: Any = _compiled_flex_attention() if query.is_cuda else flex_attention
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        forms = {"score_mod": mask.score_mod, "block_mask": mask.block_mask}
        output: torch.Tensor = kernel(query, key, value, **forms, scale=scale, enable_gqa=grouped)
        return output
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale, enable_gqa=grouped and not broadcasts_keys
    )


def _grouped_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply `(batch, heads, n, m)` by `(batch, kv_heads, m, p)`, the heads that share keys in one product."""
    batch, heads, rows, size = left.shape
    groups = right.shape[1]
    return (left.reshape(batch, groups, heads // groups * rows, size) @ right).view(batch, heads, rows, -1)


def _weigh(
    scores: torch.Tensor, value: torch.Tensor, mask: Any, scale: float, dropout: float
) -> tuple[torch.Tensor, torch.Tensor]:
    weights = F.softmax(scores.float() * scale + mask, dim=-1, dtype=value.dtype)
    weights = F.dropout(weights, dropout, training=True)
    return _grouped_product(weights, value), weights


@functools.cache
def _compiled_flex_attention() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=True)


__all__ = ["AttentionContext", "attend"]
