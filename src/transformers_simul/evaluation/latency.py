# SPDX-License-Identifier: Apache-2.0
"""Latency of one sentence from its delays, by the papers' formulas.

A delay is what had been read when a target unit was written: a number of source units, or a time in which one source
unit takes 1 (see [`computation_aware`]). |X| is the length of the source, |Y| that of the prediction, and |Y*| that of
the reference.
"""

import math
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise


def average_lagging(delays: Sequence[float], source_length: float, reference_length: int) -> float:
    """AL (Ma et al. 2019, section 4): by how many source units the translation lags behind an ideal one that keeps
    pace.

    AL = 1/tau * sum over i < tau of (d(i) - i |X|/|Y*|), where tau counts the target units up to the first that was
    written with the whole source read. A first delay beyond the source is the score itself.

    Args:
        delays (`Sequence[float]`): delay of each target unit.
        source_length (`float`): |X|, in the unit of the delays.
        reference_length (`int`): |Y*|, in target units.

    Raises:
        ValueError: without delays; if they decrease, are negative or not finite; or for a length below 1.

    Example (wait-3 on equal lengths):

    ```python
    >>> from transformers_simul.evaluation import average_lagging
    >>> average_lagging([3, 4, 5, 5, 5], source_length=5, reference_length=5)
    3.0

    ```
    """
    _check(delays, source_length, reference_length)
    return _lagging(delays, source_length, reference_length)


def length_adaptive_average_lagging(delays: Sequence[float], source_length: float, reference_length: int) -> float:
    """LAAL (Papi et al. 2022; Polak et al. 2022): AL with max(|Y|, |Y*|) for |Y*|, so that writing too much gains
    nothing.

    If an output stops long before the source does, the ideal translation overtakes it and the score is negative, which
    does not mean that it was ahead of the speaker. For a figure to show, see [`running_lagging`].

    Args:
        delays, source_length, reference_length: as in [`average_lagging`].

    Example:

    ```python
    >>> from transformers_simul.evaluation import length_adaptive_average_lagging
    >>> length_adaptive_average_lagging([1, 2, 3, 4, 4, 4, 4, 4], source_length=4, reference_length=4)
    1.75

    ```
    """
    _check(delays, source_length, reference_length)
    return _lagging(delays, source_length, max(len(delays), reference_length))


def running_lagging(delays: Sequence[float], source_length: float) -> float | None:
    """LAAL of a translation against its own length, without a reference: a figure to show while it is written.

    Args:
        delays (`Sequence[float]`): delay of each target unit so far.
        source_length (`float`): length of the source so far, in the unit of the delays.

    Returns:
        `float`, or None before the first unit and where it would be negative: the translation has ended or stands
        still, while so much source followed that it lags behind nothing.

    Raises:
        ValueError: as [`average_lagging`].

    Example:

    ```python
    >>> from transformers_simul.evaluation.latency import running_lagging
    >>> running_lagging([3, 4, 5, 5, 5], source_length=5)
    3.0
    >>> running_lagging([3, 4, 5], source_length=299) is None
    True

    ```
    """
    if not delays:
        return None
    lagging = length_adaptive_average_lagging(delays, source_length, len(delays))
    return lagging if lagging >= 0 else None


def yet_another_average_lagging(
    delays: Sequence[float], source_length: float, reference_length: int, recording_end: float | None = None
) -> float | None:
    """YAAL (Polák et al. 2025, arXiv 2509.17349): LAAL without the units that were written once the source had ended;
    and LongYAAL, which keeps those that were written before the end of the whole recording.

    Args:
        delays (`Sequence[float]`): of each target unit; in a segment of a recording they may be below 0 and may fall.
        source_length (`float`): |X|, of the segment, in the unit of the delays.
        reference_length (`int`): |Y*|, in target units.
        recording_end (`float`, *optional*): of a segment, when its recording ends, from the segment's start: LongYAAL.

    Returns:
        `float` or None: None if the first unit was written after that end.

    Example:

    ```python
    >>> from transformers_simul.evaluation.latency import yet_another_average_lagging
    >>> yet_another_average_lagging([2, 3, 4, 4], source_length=4, reference_length=4)
    2.0

    ```
    """
    end = source_length if recording_end is None else recording_end
    pace = source_length / max(len(delays), reference_length, 1)
    total, units = 0.0, 0
    for index, delay in enumerate(delays):
        if delay >= end:
            break
        total += delay - index * pace
        units += 1
    return total / units if units else None


def average_proportion(delays: Sequence[float], source_length: float, reference_length: int) -> float:
    """AP (Cho and Esipova 2016, section 4): the mean share of the source that had been read.

    AP = sum of d(i) / (|X| |Y*|). The paper divides by |Y|. Like SimulEval, we take the reference's length, so that the
    score exceeds 1 if much too much is written; pass `len(delays)` for the paper's.

    Args:
        delays, source_length, reference_length: as in [`average_lagging`].

    Example:

    ```python
    >>> from transformers_simul.evaluation import average_proportion
    >>> average_proportion([1, 2, 3, 4], source_length=4, reference_length=4)
    0.625

    ```
    """
    _check(delays, source_length, reference_length)
    return sum(delays) / (source_length * reference_length)


def differentiable_average_lagging(delays: Sequence[float], source_length: float, reference_length: int) -> float:
    """DAL (Cherry and Foster 2019; Arivazhagan et al. 2019, section 4): AL over all target units, each of which takes
    at least |X|/|Y|.

    d'(i) = max(d(i), d'(i-1) + |X|/|Y|); DAL = 1/|Y| * sum of (d'(i) - i |X|/|Y|). The reference plays no part.

    Args:
        delays, source_length, reference_length: as in [`average_lagging`].

    Example (full source):

    ```python
    >>> from transformers_simul.evaluation import differentiable_average_lagging
    >>> differentiable_average_lagging([4, 4, 4, 4], source_length=4, reference_length=4)
    4.0

    ```
    """
    _check(delays, source_length, reference_length)
    pace = source_length / len(delays)
    total, finished = 0.0, float(delays[0]) - pace
    for index, delay in enumerate(delays):
        finished = max(delay, finished + pace)
        total += finished - index * pace
    return total / len(delays)


def average_token_delay(
    delays: Sequence[int], source_length: float, reference_length: int, work: Sequence[float] | None = None
) -> float:
    """ATD (Kano et al. 2022, section 3): how long after its source unit each target unit ends, if both take time.

    A unit of text takes 1. Source unit j ends at j, and target unit t at T(t) = max(d(t), T(t-1)) + 1. Units written at
    the same delay are a chunk. Unit t answers source unit a(t): its own number, less what the target had been ahead of
    the source before its chunk, and at most the last source unit read. ATD = mean of T(t) - a(t).

    Args:
        delays (`Sequence[int]`): whole source units.
        source_length, reference_length: as in [`average_lagging`]; they play no part.
        work (`Sequence[float]`, *optional*): time that computing each unit took, added to T(t).

    Example (wait-1, where each word ends one unit after its source word):

    ```python
    >>> from transformers_simul.evaluation import average_token_delay
    >>> average_token_delay([1, 2, 3, 4], source_length=4, reference_length=4)
    1.0

    ```
    """
    _check(delays, source_length, reference_length)
    costs = [0.0] * len(delays) if work is None else work
    total, ended, written, read = 0.0, 0.0, 0, 0
    for delay, chunk in groupby(delays):
        ahead = max(0, written - read)
        for _ in chunk:
            ended = max(delay, ended) + 1 + costs[written]
            written += 1
            total += ended - min(written - ahead, delay)
        read = delay
    return total / written


def computation_aware(delays: Sequence[int], elapsed_ms: Sequence[float], words_per_second: float) -> list[float]:
    """Return when each target unit was there, in source units, if the source arrives at a steady rate.

    The log was made with the source at hand, so `elapsed_ms` holds computing time only: unit i took c(i) = e(i) -
    e(i-1). Source unit j is complete at j / r seconds. So the target unit is there at T(i) = max(T(i-1), d(i) / r) +
    c(i), and r T(i) is that time in source units. Without computing time, these are the delays. The formulas above take
    these numbers instead of delays; see `docs/evaluation.md`.

    Args:
        delays (`Sequence[int]`): source units read before each target unit.
        elapsed_ms (`Sequence[float]`): milliseconds since the start when each was written.
        words_per_second (`float`): the rate r at which source units arrive.

    Raises:
        ValueError: if the counts differ, the rate is not positive, or time goes backwards.

    Example (two words a second, 250 ms of computing for each word):

    ```python
    >>> from transformers_simul.evaluation import computation_aware
    >>> computation_aware([1, 2, 2], [250, 500, 750], words_per_second=2)
    [1.5, 2.5, 3.0]

    ```
    """
    times, ready = [], 0.0
    for delay, cost in zip(delays, work(elapsed_ms, words_per_second, len(delays)), strict=True):
        ready = max(ready, delay) + cost
        times.append(ready)
    return times


def work(elapsed_ms: Sequence[float], words_per_second: float, count: int) -> list[float]:
    """Return the computing time of each target unit, in source units; see [`computation_aware`]."""
    check_rate(words_per_second)
    if len(elapsed_ms) != count:
        raise ValueError(f"elapsed_ms must hold one time per delay, {count}, got {len(elapsed_ms)}.")
    costs = [later - earlier for earlier, later in pairwise([0.0, *elapsed_ms])]
    if not all(0 <= cost < math.inf for cost in costs):
        raise ValueError(f"elapsed_ms must not decrease and must be finite, got {list(elapsed_ms)}.")
    return [cost / 1000 * words_per_second for cost in costs]


def check_rate(words_per_second: float) -> None:
    """Refuse what cannot be a rate of the source.

    Args:
        words_per_second (`float`): the rate.

    Raises:
        ValueError: if it is not positive and finite.
    """
    if not 0 < words_per_second < math.inf:
        raise ValueError(f"words_per_second must be positive and finite, got {words_per_second}.")


def _lagging(delays: Sequence[float], source_length: float, target_length: int) -> float:
    if delays[0] > source_length:
        return float(delays[0])
    total, units = 0.0, 0
    for index, delay in enumerate(delays):
        total += delay - index * source_length / target_length
        units += 1
        if delay >= source_length:
            break
    return total / units


def _check(delays: Sequence[float], source_length: float, reference_length: int) -> None:
    if not delays or not 1 <= source_length < math.inf or not reference_length >= 1:
        raise ValueError(
            f"delays must hold at least one entry and lengths be at least 1, got {len(delays)} delays, "
            f"source_length={source_length}, reference_length={reference_length}."
        )
    if not all(0 <= delay < math.inf for delay in delays):
        raise ValueError(f"delays must be finite and not negative, got {list(delays)}.")
    if any(later < earlier for earlier, later in pairwise(delays)):
        raise ValueError(f"delays must not decrease, got {list(delays)}.")


LATENCY: dict[str, Callable[..., float]] = {
    "AL": average_lagging,
    "LAAL": length_adaptive_average_lagging,
    "AP": average_proportion,
    "DAL": differentiable_average_lagging,
    "ATD": average_token_delay,
}

__all__ = [
    "LATENCY",
    "average_lagging",
    "average_proportion",
    "average_token_delay",
    "check_rate",
    "computation_aware",
    "differentiable_average_lagging",
    "length_adaptive_average_lagging",
    "running_lagging",
    "work",
    "yet_another_average_lagging",
]
