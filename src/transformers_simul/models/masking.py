# SPDX-License-Identifier: Apache-2.0
"""Turn a schedule into what attention takes: an additive mask for eager attention and SDPA, or two functions for
FlexAttention.

The law itself is three functions of one query and one key: [`sees`], [`rank`] and [`alibi_bias`]. They work element by
element, so the same lines serve both forms: fields shaped to broadcast give the dense mask, and fields indexed by
FlexAttention's `(batch, query, key)` give its `mask_mod` and `score_mod`.

Nothing here knows a model family. Queries and keys each have a schedule: in training the same one; while decoding, that
of the newest tokens and that of the cache.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from .cache import CacheStep
from .schedule import Schedule


class Pattern(NamedTuple):
    """The queries and keys of one forward.

    Attributes:
        queries (`Schedule`): fields of shape `(batch, queries)`.
        keys (`Schedule`): fields of shape `(batch, keys)`.
        slots (`torch.Tensor` of shape `(batch, queries)`, int): which key is the query itself.
        step (`CacheStep`, *optional*): while decoding, splits tokens into streams and joins them again.
    """

    queries: Schedule
    keys: Schedule
    slots: torch.Tensor
    step: CacheStep | None = None

    @classmethod
    def of(cls, schedule: Schedule, step: CacheStep | None = None) -> "Pattern":
        """Make the pattern of whole rows, whose tokens are both queries and keys, or of a decoding step.

        Args:
            schedule (`Schedule`): schedule of the tokens, fields of shape `(batch, length)`.
            step (`CacheStep`, *optional*): the decoding step, which knows what its streams have stored.
        """
        if step is not None:
            return cls(schedule.map(step.split), step.keys, step.slots, step)
        batch, length = schedule.offsets.shape
        return cls(schedule, schedule, torch.arange(length, device=schedule.offsets.device).expand(batch, length))


def sees(query: Schedule, key: Schedule, is_itself: torch.Tensor, window: int | None = None) -> torch.Tensor:
    """Whether a query may attend to a key (arXiv 2405.10443, section 4.1; peek rows: `docs/law.md`).

    A query sees itself. Of its own pair it sees the head and source tokens below its `visible_source` and, if it comes
    after the source, the earlier tail and target tokens that are no peek rows. Of earlier pairs it sees what stands at
    its `context_starts` and after it.

    Args:
        query, key (`Schedule`): fields that broadcast against each other.
        is_itself (`torch.Tensor`, bool): whether the key is the query.
        window (`int`, *optional*): keep only so many of the visible keys, the newest, the query itself included: a
            sliding window over what the query can see, whatever is hidden from it.

    Returns:
        `torch.Tensor`, bool, of the broadcast shape.
    """
    same_pair = (query.pair_ids == key.pair_ids) & (key.pair_ids > 0)
    source_is_read = key.offsets < query.visible_source
    target_is_earlier = query.in_target & ((key.offsets < query.offsets) & (key.peeks == 0))
    seen = same_pair & torch.where(key.in_target, target_is_earlier, source_is_read)
    if key.places is not None and query.context_starts is not None:
        seen = seen | ((key.pair_ids < query.pair_ids) & (key.places >= query.context_starts))
    if window is not None:
        seen = seen & (rank(query, query) - rank(query, key) < window)
    return seen | is_itself


def rank(query: Schedule, key: Schedule) -> torch.Tensor:
    """Rank of a key among the keys that a query sees; meaningless if the query does not see the key. The same schedule
    twice gives a query's own rank.

    Args:
        query, key (`Schedule`): fields that broadcast against each other.

    Returns:
        `torch.Tensor`, int, of the broadcast shape.
    """
    in_pair = key.offsets + key.in_target * query.visible_source
    if key.places is None or query.context_starts is None:
        return in_pair
    return torch.where(key.pair_ids == query.pair_ids, in_pair, key.places - query.context_starts)


class FlexMask(NamedTuple):
    """What FlexAttention takes instead of an additive mask.

    Attributes:
        block_mask (`BlockMask`): who sees whom.
        score_mod (`Callable`, *optional*): adds ALiBi to a score.
    """

    block_mask: BlockMask
    score_mod: Callable[..., torch.Tensor] | None = None


class Alibi(NamedTuple):
    """What a model's ALiBi adds to the scores (Press et al. 2022; counting visible keys only: arXiv 2405.10443, section
    4.2).

    Attributes:
        slopes (`torch.Tensor` of shape `(heads,)`): slope of each head, float32.
        rounding (`str`): `"stock"` multiplies in bfloat16 as Falcon does; `"exact"` gives float32 distances to the
            query itself, which is the same up to a constant per query, which softmax ignores.
        divisor (`float`): divides the bias, where the family scales it as it scales the scores.
        counts_hidden (`bool`): unmodified ALiBi, which counts all source of a query's own pair, hidden or not. This is
            an ablation of training, since only whole rows contain what is hidden.
    """

    slopes: torch.Tensor
    rounding: str
    divisor: float = 1.0
    counts_hidden: bool = False


def alibi_bias(query: Schedule, key: Schedule, slope: torch.Tensor, rounding: str) -> torch.Tensor:
    """ALiBi of a key by its rank, before the division.

    Args:
        query, key (`Schedule`): fields that broadcast against each other.
        slope (`torch.Tensor`): slope of the head, float32.
        rounding (`str`): see [`Alibi`].

    Returns:
        `torch.Tensor` of the broadcast shape, bfloat16 or float32.
    """
    if rounding == "stock":
        return slope.bfloat16() * rank(query, key)
    return slope * (rank(query, key) - rank(query, query))


def unmodified(queries: Schedule) -> Schedule:
    """Return the queries of whole rows as unmodified ALiBi takes them: all source of their own pair is before them."""
    same_pair = queries.pair_ids[:, :, None] == queries.pair_ids[:, None, :]
    whole_source = (same_pair & ~queries.in_target[:, None, :]).sum(-1, dtype=torch.int32)
    return queries._replace(visible_source=whole_source)


def alibi_slopes(num_heads: int, device: torch.device) -> torch.Tensor:
    """Return ALiBi's slope of every head, float32 of shape `(heads,)` (Press et al. 2022, section 3, with their rule
    for head counts that are not powers of two).

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


def visible(pattern: Pattern, window: int | None = None) -> torch.Tensor:
    """Evaluate [`sees`] for each query and each key.

    Args:
        pattern (`Pattern`): queries and keys.
        window (`int`, *optional*): window of sliding layers.

    Returns:
        `torch.Tensor` of shape `(batch, queries, keys)`, bool: True where attention is allowed.

    Example (one source word, hidden from the first tail token):

    ```python
    >>> import torch
    >>> from transformers_simul.models.masking import Pattern, visible
    >>> from transformers_simul.models.schedule import Schedule
    >>> row = Schedule(*(torch.tensor([x]) for x in ([1, 1, 1], [False, False, True], [0, 1, 0], [1, 2, 1], [0, 0, 0])))
    >>> visible(Pattern.of(row)).int().tolist()
    [[[1, 0, 0], [1, 1, 0], [1, 0, 1]]]

    ```
    """
    query, key, is_itself = _dense(pattern)
    return sees(query, key, is_itself, window)[:, 0]


def ranks(queries: Schedule, keys: Schedule) -> torch.Tensor:
    """Evaluate [`rank`] for each query and each key.

    Args:
        queries, keys (`Schedule`): fields of shape `(batch, queries)` and `(batch, keys)`.

    Returns:
        `torch.Tensor` of shape `(batch, queries, keys)`, int.

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
    return rank(_at(queries, (..., None)), _at(keys, (slice(None), None)))


def additive_mask(
    pattern: Pattern, dtype: torch.dtype, window: int | None = None, alibi: Alibi | None = None
) -> torch.Tensor:
    """Make the mask that eager and SDPA attention add to the scaled scores.

    Args:
        pattern (`Pattern`): queries and keys.
        dtype (`torch.dtype`): dtype of the mask.
        window (`int`, *optional*): window of sliding layers.
        alibi (`Alibi`, *optional*): the model's ALiBi.

    Returns:
        `torch.Tensor` of shape `(batch, heads or 1, queries, keys)`: ALiBi or 0, or the dtype's minimum where hidden.
    """
    query, key, is_itself = _dense(pattern)
    hidden = ~sees(query, key, is_itself, window)
    if alibi is None:
        mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    else:
        if alibi.counts_hidden:
            query = _at(unmodified(pattern.queries), _BY_ROW)
        slopes = alibi.slopes[:, None, None]
        mask = alibi_bias(query, key, slopes, alibi.rounding).to(dtype) / alibi.divisor
    return mask.masked_fill_(hidden, torch.finfo(dtype).min)


def flex_mask(pattern: Pattern, window: int | None = None) -> Callable[..., torch.Tensor]:
    """Make [`sees`] a FlexAttention `mask_mod(batch, head, query, key)`."""
    queries, keys, slots, _ = pattern

    def mask_mod(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return sees(_at(queries, (batch, query)), _at(keys, (batch, key)), slots[batch, query] == key, window)

    return mask_mod


def flex_bias(pattern: Pattern, alibi: Alibi) -> Callable[..., torch.Tensor]:
    """Make [`alibi_bias`] a FlexAttention `score_mod(score, batch, head, query, key)`."""
    queries = unmodified(pattern.queries) if alibi.counts_hidden else pattern.queries
    keys, slopes = pattern.keys, alibi.slopes

    def score_mod(
        score: torch.Tensor, batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        bias = alibi_bias(_at(queries, (batch, query)), _at(keys, (batch, key)), slopes[head], alibi.rounding)
        return score + bias.float() / alibi.divisor

    return score_mod


def block_mask(pattern: Pattern, window: int | None = None) -> BlockMask:
    """Make [`flex_mask`] a `BlockMask`, whose blocks of queries and keys FlexAttention may skip."""
    (batch, length), stored = pattern.queries.offsets.shape, pattern.keys.offsets.shape[1]
    return create_block_mask(flex_mask(pattern, window), batch, None, length, stored, device=str(pattern.slots.device))


# Indices that make `(batch, queries)` and `(batch, keys)` broadcast to `(batch, heads, queries, keys)`.
_BY_ROW = (slice(None), None, slice(None), None)
_BY_COLUMN = (slice(None), None, None)


def _at(schedule: Schedule, index: Any) -> Schedule:
    return schedule.map(lambda field: field[index])


def _dense(pattern: Pattern) -> tuple[Schedule, Schedule, torch.Tensor]:
    """Return queries, keys and whether they are the same, shaped to broadcast."""
    positions = torch.arange(pattern.keys.offsets.shape[1], device=pattern.slots.device)
    return _at(pattern.queries, _BY_ROW), _at(pattern.keys, _BY_COLUMN), pattern.slots[_BY_ROW] == positions


__all__ = [
    "Alibi",
    "FlexMask",
    "Pattern",
    "additive_mask",
    "alibi_bias",
    "alibi_slopes",
    "block_mask",
    "flex_bias",
    "flex_mask",
    "rank",
    "ranks",
    "sees",
    "unmodified",
    "visible",
]
