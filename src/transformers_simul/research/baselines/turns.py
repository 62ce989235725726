# SPDX-License-Identifier: Apache-2.0
"""A schedule as turns: what is READ at a time, and the words that are then WRITTEN."""

from collections.abc import Sequence


def turns(target_words: int, delays: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return the runs of target words that a policy writes without a READ between them.

    Args:
        target_words (`int`): words of the target.
        delays (`Sequence[int]`): g(0) ... g(EOS).

    Returns:
        `list[tuple[int, int, int]]`: `(source words read, first target word, one after the last)`. If the target ends
        before the source does, the last run holds no word: only EOS is left to write.

    Example:

    ```python
    >>> from transformers_simul.research.baselines.turns import turns
    >>> turns(3, [1, 2, 2, 2]), turns(1, [1, 2])
    ([(1, 0, 1), (2, 1, 3)], [(1, 0, 1), (2, 1, 1)])

    ```
    """
    runs: list[tuple[int, int, int]] = []
    for word in range(target_words):
        start = runs.pop()[1] if runs and runs[-1][0] == delays[word] else word
        runs.append((delays[word], start, word + 1))
    if not runs or delays[-1] != runs[-1][0]:
        runs.append((delays[-1], target_words, target_words))
    return runs


__all__ = ["turns"]
