# SPDX-License-Identifier: Apache-2.0
"""The rows of one call of `generate()`: what is given once holds for all of them, what is given in a list for each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers.generation.configuration_utils import GenerationConfig
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria
from transformers.generation.streamers import BaseStreamer

from .committed import Committed, committed_words
from .glossary import Glossary, bound_glossary
from .glossary_row import BoundGlossary
from .row import Prompt
from .row_decoder import RowDecoder
from .source import KnownSource


def per_row(name: str, values: Sequence[Any], batch: int) -> Sequence[Any]:
    """What was given for each row.

    Args:
        name (`str`): what errors call it.
        values (`Sequence`): of each row.
        batch (`int`): rows.

    Raises:
        ValueError: if there are not as many.
    """
    if len(values) != batch:
        raise ValueError(f"{name} must hold one entry per row, {batch}, got {len(values)}.")
    return values


def of_rows(name: str, value: Any, batch: int) -> Sequence[Any]:
    """The same for each row, unless a sequence holds one for each."""
    return per_row(name, value if isinstance(value, (list, tuple)) else [value] * batch, batch)


def make_rows(
    row_decoder: type[RowDecoder],
    columns: Mapping[str, Sequence[Any]],
    shared: Mapping[str, Any],
    streamer: BaseStreamer | None,
) -> list[RowDecoder]:
    """Return a decoder for each row, made of its own values (`columns`) and of those that all rows share."""
    rows = []
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        own = dict(zip(columns, values, strict=True))
        if isinstance(own["source"], list):
            own["source"] = KnownSource(own["source"])
        rows.append(row_decoder(**own, **shared, on_word=_word_callback(streamer, index, own["committed"])))
    return rows


def row_options(
    config: GenerationConfig,
    processors: Sequence[Callable[..., torch.Tensor]],
    criteria: Sequence[Callable[..., torch.Tensor]],
    max_word_tokens: int,
) -> dict[str, Any]:
    """Return the arguments of a [`RowDecoder`] that follow from a call's generation configuration, for all of its rows.

    Args:
        config (`GenerationConfig`): as the stock `generate()` has prepared it.
        processors, criteria (`Sequence[Callable]`): likewise; the decoder itself sees to length and EOS.
        max_word_tokens (`int`): most tokens of a word.
    """
    return {
        "processors": list(processors),
        "criteria": [each for each in criteria if not isinstance(each, (MaxLengthCriteria, EosTokenCriteria))],
        "max_word_tokens": max_word_tokens,
        "keeps_logits": bool(config.output_logits),
        # A stock configuration that the caller brings does not have it.
        "eos_threshold": getattr(config, "eos_threshold", None),
    }


def shown_words(committed: Sequence[Sequence[Any]] | None, prompts: Sequence[Prompt]) -> list[list[Committed]]:
    """The words of each row that were shown before."""
    given = per_row("committed", committed or [()] * len(prompts), len(prompts))
    return [committed_words(words, each.rule) for words, each in zip(given, prompts, strict=True)]


def glossaries(
    glossary: Glossary | Mapping[str, str] | Sequence[Glossary | Mapping[str, str] | None] | None,
    prompts: Sequence[Prompt],
) -> list[BoundGlossary | None]:
    """The glossary of each row; what several rows share is bound once."""
    given = of_rows("glossary", glossary, len(prompts))
    pairs = {(id(each), id(prompt)): (each, prompt) for each, prompt in zip(given, prompts, strict=True)}
    bound = {key: bound_glossary(*pair) for key, pair in pairs.items()}
    return [bound[id(each), id(prompt)] for each, prompt in zip(given, prompts, strict=True)]


def row_generators(
    generators: Sequence[torch.Generator] | None, batch: int, device: torch.device
) -> Sequence[torch.Generator]:
    """One generator for each row: those that are given, or new ones that PyTorch's own seeds.

    Args:
        generators (`Sequence[torch.Generator]`, *optional*): one for each row.
        batch (`int`): rows.
        device (`torch.device`): of new ones.

    Raises:
        ValueError: if there are not as many as rows, or one is none.
    """
    if isinstance(generators, torch.Generator) or not all(isinstance(g, torch.Generator) for g in generators or ()):
        raise ValueError(f"generators must be a sequence of one torch.Generator per row, got {generators!r}.")
    if generators is not None:
        return per_row("generators", generators, batch)
    seeds = torch.randint(2**62, (batch,)).tolist()
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def _word_callback(
    streamer: Any, row: int, shown: Sequence[Committed]
) -> Callable[[list[int], int, float], None] | None:
    if streamer is None:
        return None
    if hasattr(streamer, "put_word"):
        for word in shown:
            # The last may end within a character, which the next word completes.
            streamer.word(row, word.ids, 0, 0.0)
        return lambda ids, delay, elapsed_ms: streamer.put_word(row, ids, delay, elapsed_ms)
    return lambda ids, delay, elapsed_ms: streamer.put(torch.tensor(ids))


__all__ = ["glossaries", "make_rows", "of_rows", "per_row", "row_generators", "row_options", "shown_words"]
