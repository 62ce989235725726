# SPDX-License-Identifier: Apache-2.0
"""Whether a row still fits: in the cache, and among the positions that its model knows. Asked before each forward, so
that a row without room ends alone."""

from collections.abc import Generator
from typing import Any

from .cache import SimulCache
from .row import Ask, RowStopped
from .seam import DecodingConfig


def lack_of_room(config: DecodingConfig, cache: SimulCache, row: int, ask: Ask) -> str:
    """The stop reason of a row whose ask does not fit: `"max_tokens"` in the cache, `"max_positions"` in the model;
    empty if it fits.

    Args:
        config (`SimulConfig`): of the model.
        cache (`SimulCache`): with what the row holds.
        row (`int`): of the cache.
        ask (`Ask`): what it wants fed.
    """
    tokens = cache.used_tokens(row) - len(ask.forgets) + ask.tokens
    if cache.max_tokens is not None and tokens > cache.max_tokens:
        return "max_tokens"
    return "" if has_positions(config, ask) else "max_positions"


def has_positions(config: DecodingConfig, ask: Ask) -> bool:
    """Whether the model knows the positions of all tokens that are to be fed. ALiBi has no bound; beyond
    `max_position_embeddings`, rotary models fall in quality without a word.

    Args:
        config (`SimulConfig`): of the model.
        ask (`Ask`): what is to be fed.
    """
    if config.has_alibi:
        return True
    source_end = ask.source_offset + len(ask.source_ids)
    target_end = 0
    if ask.target_ids:
        shown = max(ask.visible_source, *ask.copies, 0)
        if config.positions == "reserved" and shown > config.first_target_position:
            return False
        begins = shown if config.positions == "own_frame" else config.first_target_position
        target_end = begins + ask.target_offset + len(ask.target_ids)
    return max(source_end, target_end) <= config.max_position_embeddings


def with_room(
    run: Generator[Ask | None, Any, Any], ask: Ask | None, config: DecodingConfig, cache: SimulCache, row: int
) -> tuple[Ask | None, str]:
    """What a row wants fed that fits: it is asked to do with less where it can.

    Args:
        run (`Generator`): the row's life.
        ask (`Ask`, *optional*): what it wants fed; None while it waits for source.
        config, cache, row: as in [`lack_of_room`].

    Returns:
        The ask, and the stop reason of a row that cannot go on; empty if it can.

    Raises:
        StopIteration: if the row's life is over.
    """
    while ask is not None and (reason := lack_of_room(config, cache, row, ask)):
        if not ask.is_optional:
            return ask, reason
        ask = run.throw(RowStopped(reason))
    return ask, ""


def check_room(config: DecodingConfig, max_tokens: int | None, head_tokens: int, tail_tokens: int) -> None:
    """Refuse what can never hold a translation.

    Args:
        config (`SimulConfig`): of the model.
        max_tokens (`int`, *optional*): of a row of the cache; None without a bound.
        head_tokens, tail_tokens (`int`): of the prompt.

    Raises:
        ValueError: if there is no room for the prompt, one source token and one target token.
    """
    least = Ask([0] * (head_tokens + 1), 0, [0] * (tail_tokens + 1), 0, head_tokens + 1)
    if max_tokens is not None and max_tokens < least.tokens:
        raise ValueError(
            f"max_tokens of the cache is {max_tokens}, but a prompt of {head_tokens + tail_tokens} tokens, a source "
            f"token and a target token need {least.tokens}."
        )
    if not has_positions(config, least):
        raise ValueError(
            f"max_position_embeddings of the model is {config.max_position_embeddings} with "
            f"positions={config.positions!r} and target_start={config.first_target_position}, which leaves no room for "
            f"a prompt of {head_tokens + tail_tokens} tokens, a source token and a target token."
        )


__all__ = ["check_room", "has_positions", "lack_of_room", "with_room"]
