# SPDX-License-Identifier: Apache-2.0
"""The words of a log on one clock: when each was there, if the source came at a steady rate, line after line."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..models.text import normalise_spaces, split_words
from .instances import Instance, SpeechInstance
from .latency import computation_aware


class TimedWord(NamedTuple):
    """A target unit of a log.

    Attributes:
        text (`str`): the unit.
        time_s (`float`): when it was there, in seconds from the start of the log.
        is_last (`bool`): whether it is the last of its line.
        joiner (`str`): what stands between such units: a space, or nothing between characters.
    """

    text: str
    time_s: float
    is_last: bool
    joiner: str


def timed_words(instances: Iterable[Instance], units_per_second: float) -> Iterator[TimedWord]:
    """The words of all lines. The source of a line begins to arrive when that of the line before has ended; computing
    time counts, see [`computation_aware`].

    Args:
        instances (`Iterable[Instance]`): a log, in order.
        units_per_second (`float`): how many source units arrive in a second; 1000 if they are milliseconds.

    Raises:
        ValueError: if the delays of a line count neither its words nor its characters, or for a rate not above 0.

    Example:

    ```python
    >>> from transformers_simul.evaluation import Instance
    >>> from transformers_simul.evaluation.timeline import timed_words
    >>> line = Instance(0, "Ein Hund", [1, 2], [0.0, 0.0], 2, "", "a dog", 2)
    >>> [(word.text, word.time_s) for word in timed_words([line, line], units_per_second=2)]
    [('Ein', 0.5), ('Hund', 1.0), ('Ein', 1.5), ('Hund', 2.0)]

    ```
    """
    start, ready = 0.0, 0.0
    for each in instances:
        units, joiner = _target_units(each)
        if isinstance(each, SpeechInstance):
            # It has its own clock.
            times = [time / 1000 * units_per_second for time in each.elapsed]
        else:
            times = computation_aware(each.delays, each.elapsed, units_per_second)
        for index, (unit, time) in enumerate(zip(units, times, strict=True), start=1):
            ready = max(ready, (start + time) / units_per_second)
            yield TimedWord(unit, ready, index == len(units), joiner)
        start += each.source_length * (units_per_second / 1000 if isinstance(each, SpeechInstance) else 1)


def _target_units(instance: Instance) -> tuple[list[str], str]:
    words, count = split_words(instance.prediction), len(instance.delays)
    if len(words) == count:
        return words, " "
    characters = list(normalise_spaces(instance.prediction))
    if len(characters) == count:
        return characters, ""
    raise ValueError(
        f"delays must be one for each word or character of a prediction, but line {instance.index} has {count} for "
        f"{len(words)} words and {len(characters)} characters."
    )


__all__ = ["TimedWord", "timed_words"]
