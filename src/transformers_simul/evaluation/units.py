# SPDX-License-Identifier: Apache-2.0
"""Target units of latency: words, characters or SentencePiece pieces of the same log."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..models.text import split_words
from .instances import Instance

LATENCY_UNITS = ("word", "char", "spm")


class TargetUnits(NamedTuple):
    """A sentence in the chosen unit.

    Attributes:
        delays (`list[int]`): delay of each target unit.
        elapsed (`list[float]`): milliseconds since the start, for each.
        reference_length (`int`): length of the reference, in the same unit.
    """

    delays: list[int]
    elapsed: list[float]
    reference_length: int


def target_units(instance: Instance, unit: str = "word", spm_model: Any = None) -> TargetUnits:
    """Return the delays of a sentence in words, characters (without white space) or SentencePiece pieces.

    A log counts the units that the policy counted. If these are words, the characters or pieces of a word take its
    delay, since they were shown together. The source stays in the units of the log.

    Args:
        instance (`Instance`): one line of a log.
        unit (`str`): `"word"`, `"char"` or `"spm"`.
        spm_model: for `"spm"`, an object with `encode(text, out_type=str)`, such as a `SentencePieceProcessor`.

    Raises:
        ValueError: for an unknown unit, or delays that count neither the unit nor words.

    Example:

    ```python
    >>> from transformers_simul.evaluation import Instance
    >>> from transformers_simul.evaluation.units import target_units
    >>> target_units(Instance(0, "ein Hund", [1, 2], [5.0, 9.0], 2, "Hund", "a dog", 2), "char").delays
    [1, 1, 1, 2, 2, 2, 2]

    ```
    """
    pieces = _splitter(unit, spm_model)
    words = split_words(instance.prediction)
    reference = sum(pieces(word) for word in split_words(instance.reference))
    if len(instance.delays) == len(words):
        counts = [pieces(word) for word in words]
        delays = [delay for delay, count in zip(instance.delays, counts, strict=True) for _ in range(count)]
        elapsed = [time for time, count in zip(instance.elapsed, counts, strict=True) for _ in range(count)]
        return TargetUnits(delays, elapsed, reference)
    if unit == "char" and len(instance.delays) == len(instance.prediction):
        shown = [index for index, character in enumerate(instance.prediction) if not character.isspace()]
        return TargetUnits(
            [instance.delays[index] for index in shown], [instance.elapsed[index] for index in shown], reference
        )
    if len(instance.delays) == sum(map(pieces, words)):
        return TargetUnits(instance.delays, instance.elapsed, reference)
    raise ValueError(
        f"delays of instance {instance.index} must count words ({len(words)}) or units of kind {unit!r}, got "
        f"{len(instance.delays)} for {instance.prediction!r}."
    )


def _splitter(unit: str, spm_model: Any) -> Callable[[str], int]:
    """Count the units of a word."""
    if unit == "word":
        return lambda word: 1
    if unit == "char":
        return lambda word: sum(not character.isspace() for character in word)
    if unit != "spm":
        raise ValueError(f"unit must be one of {LATENCY_UNITS}, got {unit!r}.")
    if spm_model is None:
        raise ValueError("spm_model must be given for unit='spm': a SentencePieceProcessor.")
    return lambda word: len(spm_model.encode(word, out_type=str))


__all__ = ["LATENCY_UNITS", "TargetUnits", "target_units"]
