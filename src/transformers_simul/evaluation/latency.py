# SPDX-License-Identifier: Apache-2.0
"""Latency from delays, by the papers' formulas, in source units."""

from collections.abc import Sequence


def average_lagging(delays: Sequence[float], source_length: int, reference_length: int) -> float:
    """AL (Ma et al. 2019, section 4): how many source units the writing lags behind an ideal that keeps pace.

    AL = 1/tau * sum over i < tau of (d(i) - i / gamma), gamma = reference_length / source_length, where tau counts
    the target units up to the first that was written with the whole source read.

    Args:
        delays (`Sequence[float]`): source units read before each target unit.
        source_length (`int`): source units.
        reference_length (`int`): units of the reference translation.

    Raises:
        ValueError: without delays, or for a length below 1.

    Example, wait-3 on equal lengths:

    ```python
    >>> from transformers_simul.evaluation import average_lagging
    >>> average_lagging([3, 4, 5, 5, 5], source_length=5, reference_length=5)
    3.0

    ```
    """
    return _lagging(delays, source_length, reference_length)


def length_adaptive_average_lagging(delays: Sequence[float], source_length: int, reference_length: int) -> float:
    """LAAL (Papi et al. 2022; Polak et al. 2022): AL whose gamma takes the longer of prediction and reference, so that
    writing too much earns nothing.

    Args:
        delays, source_length, reference_length: as in [`average_lagging`].

    Example:

    ```python
    >>> from transformers_simul.evaluation import length_adaptive_average_lagging
    >>> length_adaptive_average_lagging([1, 2, 3, 4, 4, 4, 4, 4], source_length=4, reference_length=4)
    1.75

    ```
    """
    return _lagging(delays, source_length, max(len(delays), reference_length))


def _lagging(delays: Sequence[float], source_length: int, target_length: int) -> float:
    if not delays or source_length < 1 or target_length < 1:
        raise ValueError(
            f"delays must hold at least one entry and lengths be at least 1, got {len(delays)} delays, "
            f"source_length={source_length}, target length {target_length}."
        )
    if delays[0] > source_length:
        return float(delays[0])
    total, units = 0.0, 0
    for index, delay in enumerate(delays):
        total += delay - index * source_length / target_length
        units += 1
        if delay >= source_length:
            break
    return total / units


__all__ = ["average_lagging", "length_adaptive_average_lagging"]
