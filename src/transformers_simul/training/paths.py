# SPDX-License-Identifier: Apache-2.0
"""Policies that only train: random paths between two lags, and paths that follow word alignments."""

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from ..models.policies import Policy, Progress, WaitKPolicy, check_lags


class RandomPathPolicy(Policy):
    """A policy for training: a random sequence of READs and WRITEs between two lags, drawn per example and epoch.

    The lag is wait-k's k: g(i) - i, source words read minus target words written. At the least lag the path READs, at
    the greatest it WRITEs, and in between it READs with a probability that is itself drawn per example, so that every
    pair (source words read, target words written) between the two lags is trained on, whatever a policy asks later
    (the mixture of all paths, after Elbayad et al. 2020, section 3.2).

    Args:
        least_lag (`int`, *optional*, defaults to 1): at least 1.
        greatest_lag (`int`, *optional*, defaults to 9): at least `least_lag`.

    Raises:
        ValueError: if the lags are out of range, or when it is asked to translate.

    Example:

    ```python
    >>> import random
    >>> from transformers_simul import RandomPathPolicy
    >>> path = RandomPathPolicy(least_lag=1, greatest_lag=3).for_example({}, random.Random(7))
    >>> path.delays(source_words=5, target_words=5) == path.delays(source_words=5, target_words=5)
    True

    ```
    """

    def __init__(self, least_lag: int = 1, greatest_lag: int = 9):
        check_lags(least_lag, greatest_lag)
        self.least_lag, self.greatest_lag = least_lag, greatest_lag

    def reads(self, progress: Progress) -> bool:
        raise ValueError("RandomPathPolicy draws a path per training example; translate with another policy.")

    def for_example(self, example: Mapping[str, Any], draw: random.Random) -> Policy:
        return _RandomPath(self.least_lag, self.greatest_lag, draw.random(), draw.getrandbits(64))

    def longest_for(self, example: Mapping[str, Any]) -> list[Policy]:
        return [WaitKPolicy(self.least_lag)]

    @property
    def is_random(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"RandomPathPolicy(least_lag={self.least_lag}, greatest_lag={self.greatest_lag})"


class _RandomPath(Policy):
    """One path: whether it READs in a state is a coin that only the state and the seed decide."""

    def __init__(self, least_lag: int, greatest_lag: int, read_share: float, seed: int):
        self.least_lag, self.greatest_lag, self.read_share, self.seed = least_lag, greatest_lag, read_share, seed

    def reads(self, progress: Progress) -> bool:
        lag = progress.source_words - progress.target_words
        if not self.least_lag <= lag < self.greatest_lag:
            return lag < self.least_lag
        coin = random.Random(f"{self.seed}:{progress.source_words}:{progress.target_words}").random()
        return coin < self.read_share


class AlignedPolicy(Policy):
    """A policy for training: WRITE a target word once the source words that it translates have been read.

    g(i) is the highest source word that any target word up to i is aligned with, and `margin` words more; target words
    without a link inherit from the word before. The alignment comes with the example, in Pharaoh's format:
    `"0-0 1-2"` links source word 0 with target word 0, and 1 with 2. `transformers-simul align` writes it.

    Args:
        margin (`int` or `tuple[int, int]`, *optional*, defaults to 0): source words to read beyond the aligned ones;
            drawn between two numbers, both included, per example and epoch.
        least_lag (`int`, *optional*, defaults to 1): g(i) is at least `i + least_lag`, as under wait-k.
        greatest_lag (`int`, *optional*): g(i) is at most `i + greatest_lag`; without it, only the source's end bounds
            the lag.
        teaches_reads (`bool`, *optional*, defaults to `True`): whether its READs become decision rows; without, what is
            trained is what any other schedule trains.

    Raises:
        ValueError: if a number is out of range, for an example without the column `"alignment"` or with links that are
            no pairs of numbers or lie outside the pair, or when it is asked to translate.

    Example:

    ```python
    >>> import random
    >>> from transformers_simul import AlignedPolicy
    >>> aligned = AlignedPolicy().for_example({"alignment": "0-0 3-1 1-2 2-3"}, random.Random(0))
    >>> aligned.delays(source_words=4, target_words=4)
    [1, 4, 4, 4, 4]

    ```
    """

    def __init__(
        self,
        margin: int | tuple[int, int] = 0,
        least_lag: int = 1,
        greatest_lag: int | None = None,
        teaches_reads: bool = True,
    ):
        check_lags(least_lag, greatest_lag)
        low, high = margin if isinstance(margin, tuple) else (margin, margin)
        if not 0 <= low <= high:
            raise ValueError(f"margin must be at least 0, or two such numbers in ascending order, got {margin!r}.")
        self.margin, self.least_lag, self.greatest_lag = (low, high), least_lag, greatest_lag
        self._teaches_reads = teaches_reads

    def reads(self, progress: Progress) -> bool:
        raise ValueError("AlignedPolicy needs the alignment of a training pair; translate with another policy.")

    def for_example(self, example: Mapping[str, Any], draw: random.Random) -> Policy:
        return self._path(example, draw.randint(*self.margin))

    def longest_for(self, example: Mapping[str, Any]) -> list[Policy]:
        low, high = self.margin
        return [self._path(example, margin) for margin in range(low, high + 1)]

    def _path(self, example: Mapping[str, Any], margin: int) -> Policy:
        if "alignment" not in example:
            raise ValueError(
                f"AlignedPolicy needs the column 'alignment', got {sorted(example)}: write it with "
                "transformers-simul align."
            )
        links = parse_alignment(example["alignment"])
        return _AlignedPath(links, margin, self.least_lag, self.greatest_lag, self._teaches_reads)

    @property
    def is_random(self) -> bool:
        return self.margin[0] != self.margin[1]

    @property
    def teaches_reads(self) -> bool:
        return self._teaches_reads

    def __repr__(self) -> str:
        shown = f"margin={self.margin}, least_lag={self.least_lag}, greatest_lag={self.greatest_lag}"
        return f"AlignedPolicy({shown}{'' if self._teaches_reads else ', teaches_reads=False'})"


class _AlignedPath(Policy):
    """The schedule of one aligned pair."""

    def __init__(
        self,
        links: Sequence[tuple[int, int]],
        margin: int,
        least_lag: int,
        greatest_lag: int | None,
        teaches_reads: bool,
    ):
        self.links, self.margin, self.least_lag, self.greatest_lag = links, margin, least_lag, greatest_lag
        by_target = sorted((target, source) for source, target in links)
        self._targets = [target for target, _ in by_target]
        self._needed = [0, *accumulate((source + 1 for _, source in by_target), max)]
        self._teaches_reads = teaches_reads

    def reads(self, progress: Progress) -> bool:
        written = progress.target_words
        needed = self._needed[bisect_right(self._targets, written)] + self.margin
        needed = max(needed, written + self.least_lag)
        if self.greatest_lag is not None:
            needed = min(needed, written + self.greatest_lag)
        return progress.source_words < needed

    @property
    def teaches_reads(self) -> bool:
        return self._teaches_reads

    def delays(self, source_words: int, target_words: int) -> list[int]:
        for source, target in self.links:
            if source >= source_words or target >= target_words:
                raise ValueError(
                    f"alignment must link words of the pair, {source_words} of the source and {target_words} of the "
                    f"target, counted from 0, got {source}-{target}."
                )
        return super().delays(source_words, target_words)


def parse_alignment(text: str) -> list[tuple[int, int]]:
    """Return the links of a word alignment in Pharaoh's format.

    Args:
        text (`str`): `"0-0 1-2"`: source word 0 with target word 0, and 1 with 2.

    Returns:
        `list[tuple[int, int]]`: source and target words, counted from 0.

    Raises:
        ValueError: for anything else.

    Example:

    ```python
    >>> from transformers_simul.training.paths import parse_alignment
    >>> parse_alignment("0-0 1-2")
    [(0, 0), (1, 2)]

    ```
    """
    links = []
    for link in text.split() if isinstance(text, str) else [repr(text)]:
        source, dash, target = link.partition("-")
        if not (dash and source.isdecimal() and target.isdecimal()):
            raise ValueError(f"alignment must hold links such as 0-0 1-2, got {link!r}.")
        links.append((int(source), int(target)))
    return links


__all__ = ["AlignedPolicy", "RandomPathPolicy", "parse_alignment"]
