# SPDX-License-Identifier: Apache-2.0
"""Read/write policies: one object answers READ or WRITE while translating and yields the schedule for training."""

import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple


class Progress(NamedTuple):
    """What a policy may look at.

    Attributes:
        source_words (`int`): source words read so far.
        target_words (`int`): target words written so far.
    """

    source_words: int
    target_words: int


class Policy:
    """Decides between READ and WRITE. Subclasses define [`Policy.reads`]; the training mask follows from it.

    `reads` must be a function of its argument alone: the decoder also asks it what would follow if a word ended
    here. Whether the source has ended is no argument, since a live decoder learns that only by a READ. A policy that
    wants to see what the model says derives from [`AdaptivePolicy`] instead.

    Example, a policy that reads two words for each one it writes:

    ```python
    >>> from transformers_simul import Policy
    >>> class TwoForOne(Policy):
    ...     def reads(self, progress):
    ...         return progress.source_words < 2 * (progress.target_words + 1)
    >>> TwoForOne().delays(source_words=5, target_words=3)
    [2, 4, 5, 5]

    ```
    """

    # How many words of a draft the policy wants to see at a look; those that never look want none.
    draft_words = 0

    def reads(self, progress: Progress) -> bool | None:
        """READ (True) or WRITE (False) before target word `progress.target_words`, while source may be left; None if
        that takes a look at what the model says."""
        raise NotImplementedError

    def reads_after(self, evidence: Any) -> bool:
        """READ (True) or WRITE (False) where `reads` gives None; see [`AdaptivePolicy`].

        Args:
            evidence (`Evidence`): what the model says.
        """
        raise NotImplementedError(f"reads of {self!r} gave None, which asks for a look, but it has no reads_after.")

    def delays(self, source_words: int, target_words: int) -> list[int]:
        """The schedule g of a training pair: source words read before each target word and before EOS.

        Args:
            source_words, target_words (`int`): lengths of the pair.

        Returns:
            `list[int]`: `target_words + 1` numbers; the last, for EOS, is `source_words`.
        """
        delays, read = [], 0
        for written in range(target_words):
            while read < source_words:
                reads = self.reads(Progress(read, written))
                if reads is None:
                    raise ValueError(f"reads of {self!r} must give True or False to train on, got None.")
                if not reads:
                    break
                read += 1
            delays.append(read)
        return [*delays, source_words]

    def for_example(self, example: Mapping[str, Any], draw: random.Random) -> "Policy":
        """The policy of one training example: itself, unless it is drawn or comes with the example (alignments).

        Args:
            example (`Mapping`): the dataset's row.
            draw (`random.Random`): seeded by (seed, epoch, example).
        """
        return self

    @property
    def is_random(self) -> bool:
        """Whether `for_example` differs from epoch to epoch."""
        return False

    @property
    def teaches_reads(self) -> bool:
        """Whether its READs are worth learning: training rows then hold each READ as an answer of the model."""
        return False


class WaitKPolicy(Policy):
    """wait-k (Ma et al. 2019, section 3.1): read k words, then write and read in turns.

    g(i) = min(k + i - floor(catchup * (i + 1)), |source|): with `catchup` c, one READ is left out for every 1/c
    target words (their section 3.3), for targets that are longer than their sources.

    Args:
        k (`int`): source words read before the first target word, at least 1.
        catchup (`float`, *optional*): READs left out per target word, in [0, 1).

    Raises:
        ValueError: if k < 1 or `catchup` is out of range.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> WaitKPolicy(2).delays(source_words=4, target_words=4)
    [2, 3, 4, 4, 4]
    >>> WaitKPolicy(1, catchup=0.5).delays(source_words=4, target_words=4)
    [1, 1, 2, 2, 4]

    ```
    """

    def __init__(self, k: int, catchup: float = 0.0):
        check_count("k", k)
        if not 0 <= catchup < 1:
            raise ValueError(f"catchup must lie in [0, 1), got {catchup}.")
        self.k = k
        self.catchup = Fraction(catchup).limit_denominator(1000)

    def reads(self, progress: Progress) -> bool:
        word = progress.target_words
        return progress.source_words < self.k + word - self.catchup * (word + 1) // 1

    def __repr__(self) -> str:
        return f"WaitKPolicy(k={self.k}" + (f", catchup={float(self.catchup):g})" if self.catchup else ")")


class FixedChunkPolicy(Policy):
    """Read n words, write m words, and so on.

    Args:
        read (`int`): n, at least 1.
        write (`int`): m, at least 1.

    Raises:
        ValueError: if n or m is below 1.

    Example:

    ```python
    >>> from transformers_simul import FixedChunkPolicy
    >>> FixedChunkPolicy(read=3, write=2).delays(source_words=5, target_words=5)
    [3, 3, 5, 5, 5, 5]

    ```
    """

    def __init__(self, read: int, write: int):
        for name, value in (("read", read), ("write", write)):
            check_count(name, value)
        self.read, self.write = read, write

    def reads(self, progress: Progress) -> bool:
        return progress.source_words < self.read * (progress.target_words // self.write + 1)

    def __repr__(self) -> str:
        return f"FixedChunkPolicy(read={self.read}, write={self.write})"


class OfflinePolicy(Policy):
    """Read the whole source, then write.

    Example:

    ```python
    >>> from transformers_simul import OfflinePolicy
    >>> OfflinePolicy().delays(source_words=3, target_words=2)
    [3, 3, 3]

    ```
    """

    def reads(self, progress: Progress) -> bool:
        return True

    def __repr__(self) -> str:
        return "OfflinePolicy()"


class MixturePolicy(Policy):
    """For training: draws one policy per example and epoch (multi-path wait-k, Elbayad et al. 2020).

    Args:
        policies (`Sequence[Policy]`): what to draw from, each as likely.

    Raises:
        ValueError: if there is none, or when it is asked to translate.

    Example:

    ```python
    >>> from transformers_simul import MixturePolicy, WaitKPolicy
    >>> MixturePolicy([WaitKPolicy(k) for k in (1, 3, 5, 7)])
    MixturePolicy([WaitKPolicy(k=1), WaitKPolicy(k=3), WaitKPolicy(k=5), WaitKPolicy(k=7)])

    ```
    """

    def __init__(self, policies: Sequence[Policy]):
        if not policies:
            raise ValueError("policies must hold at least one policy, got none.")
        self.policies = list(policies)

    def reads(self, progress: Progress) -> bool:
        raise ValueError("MixturePolicy draws a policy per training example; translate with one of its policies.")

    def for_example(self, example: Mapping[str, Any], draw: random.Random) -> Policy:
        return draw.choice(self.policies).for_example(example, draw)

    @property
    def is_random(self) -> bool:
        return len(self.policies) > 1 or self.policies[0].is_random

    def __repr__(self) -> str:
        return f"MixturePolicy({self.policies!r})"


class RandomPathPolicy(Policy):
    """For training: a random sequence of READs and WRITEs between two lags, drawn per example and epoch.

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
    """For training: WRITE a target word once the source words that it translates have been read.

    g(i) is the highest source word that any target word up to i is aligned with, and `margin` words more; target words
    without a link inherit from the word before. The alignment comes with the example, in Pharaoh's format:
    `"0-0 1-2"` links source word 0 with target word 0, and 1 with 2. `transformers-simul align` writes it.

    Args:
        margin (`int` or `tuple[int, int]`, *optional*, defaults to 0): source words to read beyond the aligned ones;
            drawn between two numbers, both included, per example and epoch.
        least_lag (`int`, *optional*, defaults to 1): g(i) is at least `i + least_lag`, as under wait-k.
        greatest_lag (`int`, *optional*): g(i) is at most `i + greatest_lag`; without it, only the source's end bounds
            the lag.
        column (`str`, *optional*, defaults to `"alignment"`): of the dataset.

    Raises:
        ValueError: if a number is out of range, for an example without the column or with links that are no pairs of
            numbers or lie outside the pair, or when it is asked to translate.

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
        column: str = "alignment",
    ):
        check_lags(least_lag, greatest_lag)
        low, high = margin if isinstance(margin, tuple) else (margin, margin)
        if not 0 <= low <= high:
            raise ValueError(f"margin must be at least 0, or two such numbers in ascending order, got {margin!r}.")
        self.margin, self.least_lag, self.greatest_lag, self.column = (low, high), least_lag, greatest_lag, column

    def reads(self, progress: Progress) -> bool:
        raise ValueError("AlignedPolicy needs the alignment of a training pair; translate with another policy.")

    def for_example(self, example: Mapping[str, Any], draw: random.Random) -> Policy:
        if self.column not in example:
            raise ValueError(
                f"AlignedPolicy needs the column {self.column!r}, got {sorted(example)}: write it with "
                "transformers-simul align."
            )
        links = parse_alignment(example[self.column])
        return _AlignedPath(links, draw.randint(*self.margin), self.least_lag, self.greatest_lag)

    @property
    def is_random(self) -> bool:
        return self.margin[0] != self.margin[1]

    def __repr__(self) -> str:
        return f"AlignedPolicy(margin={self.margin}, least_lag={self.least_lag}, greatest_lag={self.greatest_lag})"


class _AlignedPath(Policy):
    """The schedule of one aligned pair."""

    def __init__(self, links: Sequence[tuple[int, int]], margin: int, least_lag: int, greatest_lag: int | None):
        self.links, self.margin, self.least_lag, self.greatest_lag = links, margin, least_lag, greatest_lag

    def reads(self, progress: Progress) -> bool:
        written = progress.target_words
        needed = max((source + 1 for source, target in self.links if target <= written), default=0) + self.margin
        needed = max(needed, written + self.least_lag)
        if self.greatest_lag is not None:
            needed = min(needed, written + self.greatest_lag)
        return progress.source_words < needed

    @property
    def teaches_reads(self) -> bool:
        return True

    def delays(self, source_words: int, target_words: int) -> list[int]:
        for source, target in self.links:
            if source >= source_words or target >= target_words:
                raise ValueError(
                    f"alignment must link words of the pair, {source_words} of the source and {target_words} of the "
                    f"target, counted from 0, got {source}-{target}."
                )
        return super().delays(source_words, target_words)


def parse_alignment(text: str) -> list[tuple[int, int]]:
    """The links of a word alignment in Pharaoh's format.

    Args:
        text (`str`): `"0-0 1-2"`: source word 0 with target word 0, and 1 with 2.

    Returns:
        `list[tuple[int, int]]`: source and target words, counted from 0.

    Raises:
        ValueError: for anything else.

    Example:

    ```python
    >>> from transformers_simul.models.policies import parse_alignment
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


def check_lags(least_lag: int, greatest_lag: int | None) -> None:
    """Raises a ValueError for lags out of range.

    Args:
        least_lag, greatest_lag (`int`): source words read minus target words written; the latter may be missing.
    """
    check_count("least_lag", least_lag)
    if greatest_lag is None:
        return
    check_count("greatest_lag", greatest_lag)
    if greatest_lag < least_lag:
        raise ValueError(f"greatest_lag must be at least least_lag, {least_lag}, got {greatest_lag}.")


def check_count(name: str, value: int, least: int = 1) -> int:
    """The value itself, or a ValueError if it is no whole number of at least `least`.

    Args:
        name (`str`): of the argument.
        value (`int`): of it.
        least (`int`, *optional*): what it may be at least.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return value


__all__ = [
    "AlignedPolicy",
    "FixedChunkPolicy",
    "MixturePolicy",
    "OfflinePolicy",
    "Policy",
    "Progress",
    "RandomPathPolicy",
    "WaitKPolicy",
    "check_count",
    "check_lags",
    "parse_alignment",
]
