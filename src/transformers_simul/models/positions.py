# SPDX-License-Identifier: Apache-2.0
"""Positions as a strategy: how far a query finds a key when source has arrived after the key was stored.

Under ALiBi a key carries no position, and the bias is computed anew for each query (`models/masking.py`). Under rotary
positions (RoPE, Su et al. 2021) the key is rotated when it is stored, so its position must not depend on what arrives
later. There are three ways (`docs/positions.md`):

| strategy | position of a source token | position of a tail or target token | exact |
|---|---|---|---|
| `own_frame` | its offset | its offset; towards source keys, plus all source that it sees | yes |
| `group` | its offset | its offset plus `target_start` | the model must learn it |
| `reserved` | its offset | its offset plus `target_start`, the slots kept for the source | as long as these suffice |
"""

import torch

from .schedule import Schedule
from .seam import DecodingConfig

ALIBI_POSITIONS = ("modified", "plain", "none")
ROTARY_POSITIONS = ("own_frame", "group", "reserved")


def rotary_position_ids(queries: Schedule, strategy: str, target_start: int) -> torch.Tensor:
    """Return the position by which each token's key is rotated, which never changes (`"group"`: arXiv 2505.16983;
    `"reserved"`: arXiv 2603.14903).

    Args:
        queries (`Schedule`): fields of shape `(batch, length)`.
        strategy (`str`): one of `ROTARY_POSITIONS`.
        target_start (`int`): first position of tail and target; `"own_frame"` has none.

    Returns:
        `torch.Tensor` of shape `(batch, length)`, int.

    Example (two source tokens, one tail token):

    ```python
    >>> import torch
    >>> from transformers_simul.models.positions import rotary_position_ids
    >>> from transformers_simul.models.schedule import Schedule
    >>> row = Schedule(*(torch.tensor([x]) for x in ([1, 1, 1], [False, False, True], [0, 1, 0], [1, 2, 1], [0, 0, 0])))
    >>> [rotary_position_ids(row, name, 64).tolist() for name in ("own_frame", "group", "reserved")]
    [[[0, 1, 0]], [[0, 1, 64]], [[0, 1, 64]]]

    ```
    """
    if strategy == "own_frame":
        return queries.offsets
    return queries.offsets + queries.in_target * target_start


def check_positions(queries: Schedule, strategy: str, target_start: int, limit: int) -> None:
    """Refuse whole rows with positions that the model does not know, since quality would drop silently. While decoding,
    [`has_positions`] checks the same for each row without looking at tensors.

    Args:
        queries, strategy, target_start: as in [`rotary_position_ids`].
        limit (`int`): the model's `max_position_embeddings`.

    Raises:
        ValueError: if a token stands at or beyond the limit; with `"reserved"`, if a query after the source sees more
            than `target_start` tokens of prompt and source.
    """
    distances = source_distances(queries)
    if strategy == "reserved" and (taken := int(distances.max())) > target_start:
        raise ValueError(
            f"target_start must be at least as large as prompt and source with positions='reserved', but it is "
            f"{target_start} and they take {taken} tokens."
        )
    positions = rotary_position_ids(queries, strategy, target_start)
    farthest = int((positions + distances if strategy == "own_frame" else positions).max())
    if farthest >= limit:
        raise ValueError(
            f"a row must fit the model's max_position_embeddings, {limit}, but reaches position {farthest}."
        )


def check_context(config: DecodingConfig) -> None:
    """Refuse context across sentences where stored keys hold a position, which changes when the oldest sentence leaves,
    or where distances count what is hidden.

    Args:
        config (`SimulConfig`): of the model.

    Raises:
        ValueError: for rotary positions, and for `"plain"` ALiBi.

    Example:

    ```python
    >>> from transformers_simul.models.positions import check_context
    >>> check_context(model.config)

    ```
    """
    if not config.has_alibi or config.positions == "plain":
        raise ValueError(
            "context_sentences needs a model with ALiBi and positions 'modified' or 'none', whose stored keys stay "
            f"valid when the oldest sentence leaves, got positions={config.positions!r}."
        )


def source_distances(queries: Schedule) -> torch.Tensor:
    """Return how much farther each query is from source keys than in its own frame, shape `(batch, length)`: the number
    of head and source tokens that it sees; 0 for these tokens themselves."""
    return queries.visible_source * queries.in_target


def without_scale(cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Remove from cosine and sine the factor that some RoPE types multiply both by (YaRN, arXiv 2309.00071, section
    3.4): what is rotated a second time has it already.

    Args:
        cos, sin (`torch.Tensor` of shape `(batch, length, rotary_dim)`): scaled.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.positions import without_scale
    >>> [round(float(part), 2) for part in without_scale(torch.tensor(3.0), torch.tensor(4.0))]
    [0.6, 0.8]

    ```
    """
    scale = torch.hypot(cos, sin)
    return cos / scale, sin / scale


def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate again what RoPE has rotated already; the angles add up.

    Args:
        states (`torch.Tensor` of shape `(batch, heads, length, head_dim)`): rotated states.
        cos, sin (`torch.Tensor` of shape `(batch, length, rotary_dim)`): cosine and sine of the additional angle;
            dimensions from `rotary_dim` on stay.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.positions import rotate
    >>> rotate(torch.tensor([[[[1.0, 0.0]]]]), cos=torch.zeros(1, 1, 2), sin=torch.ones(1, 1, 2)).tolist()
    [[[[0.0, 1.0]]]]

    ```
    """
    cos, sin = cos[:, None], sin[:, None]
    turned, rest = states[..., : cos.shape[-1]], states[..., cos.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


__all__ = [
    "ALIBI_POSITIONS",
    "ROTARY_POSITIONS",
    "check_context",
    "check_positions",
    "rotary_position_ids",
    "rotate",
    "source_distances",
    "without_scale",
]
