# SPDX-License-Identifier: Apache-2.0
"""From a schedule to what attention takes: a boolean mask, ranks, ALiBi, an additive mask or a FlexAttention form.

Nothing here knows a model family. Queries and keys have a schedule each: the same one in training, the newest rows
and the cache while decoding.
"""

import math
from collections.abc import Callable

import torch

from .schedule import Schedule


def visible(queries: Schedule, keys: Schedule, slots: torch.Tensor, window: int | None = None) -> torch.Tensor:
    """Which keys each query may attend to (arXiv 2405.10443, section 4.1; peek rows: `docs/law.md`).

    A query sees itself; of its own pair the head and source tokens below `visible_source`; and, if it stands behind
    the source, the earlier tail and target tokens that are no peek rows.

    Args:
        queries (`Schedule`): fields of shape `(batch, queries)`.
        keys (`Schedule`): fields of shape `(batch, keys)`.
        slots (`torch.Tensor` of shape `(batch, queries)`, int): which key is the query itself.
        window (`int`, *optional*): of the keys that are left, only so many newest, the query itself included: a
            sliding window over what the query can see, whatever is hidden from it.

    Returns:
        `torch.Tensor` of shape `(batch, queries, keys)`, bool: True where attention is allowed.

    Example (one source word, hidden from the first tail token):

    ```python
    >>> import torch
    >>> from transformers_simul.models.masking import visible
    >>> from transformers_simul.models.schedule import Schedule
    >>> row = Schedule(*(torch.tensor([x]) for x in ([1, 1, 1], [False, False, True], [0, 1, 0], [1, 2, 1], [0, 0, 0])))
    >>> visible(row, row, torch.arange(3)[None]).int().tolist()
    [[[1, 0, 0], [1, 1, 0], [1, 0, 1]]]

    ```
    """
    same_pair = (queries.pair_ids[:, :, None] == keys.pair_ids[:, None, :]) & (keys.pair_ids > 0)[:, None, :]
    in_source = keys.offsets[:, None, :] < queries.visible_source[:, :, None]
    earlier = (keys.offsets[:, None, :] < queries.offsets[:, :, None]) & (keys.peeks == 0)[:, None, :]
    behind = queries.in_target[:, :, None] & earlier
    seen = same_pair & torch.where(keys.in_target[:, None, :], behind, in_source)
    if window is not None:
        seen &= own_ranks(queries, queries.visible_source)[:, :, None] - ranks(queries, keys) < window
    return seen | (slots[:, :, None] == torch.arange(keys.offsets.shape[1], device=slots.device))


def ranks(queries: Schedule, keys: Schedule, source_shown: torch.Tensor | None = None) -> torch.Tensor:
    """The rank of each key among the keys that a query can see.

    Args:
        queries (`Schedule`): fields of shape `(batch, queries)`.
        keys (`Schedule`): fields of shape `(batch, keys)`.
        source_shown (`torch.Tensor` of shape `(batch, queries)`, *optional*):
            Head and source tokens to count before the tail; `queries.visible_source` unless told. The unmodified
            ALiBi counts all of them, hidden or not.

    Returns:
        `torch.Tensor` of shape `(batch, queries, keys)`, int; meaningless where the key is not visible.

    Example (two source tokens, of which the tail token sees one, so that its own rank is 1):

    ```python
    >>> import torch
    >>> from transformers_simul.models.masking import ranks
    >>> from transformers_simul.models.schedule import Schedule
    >>> row = Schedule(*(torch.tensor([x]) for x in ([1, 1, 1], [False, False, True], [0, 1, 0], [1, 2, 1], [0, 0, 0])))
    >>> ranks(row, row)[0, 2].tolist()
    [0, 1, 1]

    ```
    """
    shown = queries.visible_source if source_shown is None else source_shown
    return keys.offsets[:, None, :] + keys.in_target[:, None, :] * shown[:, :, None]


def whole_source(schedule: Schedule) -> torch.Tensor:
    """Head and source tokens of each token's own pair, hidden ones included, shape `(batch, length)`."""
    same_pair = schedule.pair_ids[:, :, None] == schedule.pair_ids[:, None, :]
    return (same_pair & ~schedule.in_target[:, None, :]).sum(-1, dtype=torch.int32)


def own_ranks(queries: Schedule, shown: torch.Tensor) -> torch.Tensor:
    """The rank of each query itself, shape `(batch, queries)`."""
    return queries.offsets + queries.in_target * shown


def alibi_slopes(num_heads: int, device: torch.device) -> torch.Tensor:
    """ALiBi's slope of every head, float32, shape `(heads,)` (Press et al. 2022, section 3; their rule for head
    counts that are no power of two).

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.masking import alibi_slopes
    >>> alibi_slopes(4, torch.device("cpu")).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]

    ```
    """

    def geometric(heads: int) -> list[float]:
        return [2 ** (-8 * (index + 1) / heads) for index in range(heads)]

    power = 2 ** math.floor(math.log2(num_heads))
    slopes = geometric(power) + geometric(2 * power)[0::2][: num_heads - power]
    return torch.tensor(slopes, dtype=torch.float32, device=device)


def alibi_bias(
    queries: Schedule, keys: Schedule, slopes: torch.Tensor, dtype: torch.dtype, rounding: str, shown: torch.Tensor
) -> torch.Tensor:
    """ALiBi over the keys' ranks, before the scale 1/sqrt(head_dim).

    Args:
        queries, keys (`Schedule`): fields of shape `(batch, queries)` and `(batch, keys)`.
        slopes (`torch.Tensor` of shape `(heads,)`): of each head, float32.
        dtype (`torch.dtype`): of the result.
        rounding (`str`): `"stock"` multiplies in bfloat16 as Falcon does; `"exact"` gives float32 distances to the
            query itself, the same up to a constant per row, which softmax ignores.
        shown (`torch.Tensor` of shape `(batch, queries)`): head and source tokens counted before the tail.

    Returns:
        `torch.Tensor` of shape `(batch, heads, queries, keys)`.
    """
    rank = ranks(queries, keys, shown)[:, None]
    slopes = slopes[None, :, None, None]
    if rounding == "stock":
        return (slopes.bfloat16() * rank).to(dtype)
    return (slopes * (rank - own_ranks(queries, shown)[:, None, :, None])).to(dtype)


def additive_mask(allowed: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """The mask that eager and SDPA attention add to the scores.

    Args:
        allowed (`torch.Tensor` of shape `(batch, queries, keys)`, bool): from [`visible`].
        bias (`torch.Tensor` of shape `(batch, heads, queries, keys)`, *optional*): scaled ALiBi.
        dtype (`torch.dtype`): of the result.

    Returns:
        `torch.Tensor` of shape `(batch, heads or 1, queries, keys)`: the bias, or the dtype's minimum where hidden.
    """
    least = torch.finfo(dtype).min
    if bias is None:
        return torch.zeros(allowed[:, None].shape, dtype=dtype, device=allowed.device).masked_fill_(
            ~allowed[:, None], least
        )
    return bias.masked_fill_(~allowed[:, None], least)


def flex_mask(queries: Schedule, keys: Schedule, slots: torch.Tensor, window: int | None = None) -> Callable:
    """[`visible`] as a FlexAttention `mask_mod(batch, head, query, key)`."""
    shown = queries.visible_source
    own = own_ranks(queries, shown)

    def mask_mod(batch, head, query, key):
        same_pair = (queries.pair_ids[batch, query] == keys.pair_ids[batch, key]) & (keys.pair_ids[batch, key] > 0)
        in_source = keys.offsets[batch, key] < queries.visible_source[batch, query]
        earlier = (keys.offsets[batch, key] < queries.offsets[batch, query]) & (keys.peeks[batch, key] == 0)
        behind = queries.in_target[batch, query] & earlier
        seen = same_pair & torch.where(keys.in_target[batch, key], behind, in_source)
        if window is not None:
            rank = keys.offsets[batch, key] + keys.in_target[batch, key] * shown[batch, query]
            seen = seen & (own[batch, query] - rank < window)
        return seen | (slots[batch, query] == key)

    return mask_mod


def flex_bias(
    queries: Schedule, keys: Schedule, slopes: torch.Tensor, scale: float, rounding: str, shown: torch.Tensor
) -> Callable:
    """[`alibi_bias`], scaled, as a FlexAttention `score_mod(score, batch, head, query, key)`."""
    own = own_ranks(queries, shown)

    def score_mod(score, batch, head, query, key):
        rank = keys.offsets[batch, key] + keys.in_target[batch, key] * shown[batch, query]
        if rounding == "stock":
            return score + (slopes[head].bfloat16() * rank).float() * scale
        return score + slopes[head] * (rank - own[batch, query]) * scale

    return score_mod


__all__ = [
    "additive_mask",
    "alibi_bias",
    "alibi_slopes",
    "flex_bias",
    "flex_mask",
    "ranks",
    "visible",
    "whole_source",
]
