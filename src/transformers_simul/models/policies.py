# SPDX-License-Identifier: Apache-2.0
"""Read/write policies. The same object answers READ or WRITE while translating and yields the schedule for training."""

import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from .seam import DecodingModel

if TYPE_CHECKING:
    from .adaptive import Evidence


class Progress(NamedTuple):
    """What every policy may look at.

    Attributes:
        source_words (`int`): source words read so far.
        target_words (`int`): target words written so far.
    """

    source_words: int
    target_words: int


class Policy:
    """Decides between READ and WRITE. Subclasses define [`Policy.reads`]; the training mask follows from it.

    `reads` must be a function of its argument alone: the decoder also asks what would follow if a word ended here.
    Whether the source has ended is not an argument, since a live decoder learns that only by a READ. A policy that
    wants to see what the model predicts derives from [`AdaptivePolicy`] instead.

    Example (a policy that reads two words for each one that it writes):

    ```python
    >>> from transformers_simul import Policy
    >>> class TwoForOne(Policy):
    ...     def reads(self, progress):
    ...         return progress.source_words < 2 * (progress.target_words + 1)
    >>> TwoForOne().delays(source_words=5, target_words=3)
    [2, 4, 5, 5]

    ```
    """

    # The most words of a draft that the policy wants to see at a look; those that never look want none.
    draft_words = 0
    # Layer and head of the attention heads that it wants to see.
    heads: tuple[tuple[int, int], ...] = ()

    def reads(self, progress: Progress) -> bool | None:
        """Return True to READ or False to WRITE before target word `progress.target_words`, while source may be left;
        None if that takes a look at what the model predicts."""
        raise NotImplementedError

    def reads_after(self, evidence: "Evidence") -> bool:
        """Return True to READ or False to WRITE where `reads` returned None; see [`AdaptivePolicy`].

        Args:
            evidence (`Evidence`): what the model predicts.
        """
        raise NotImplementedError(f"reads of {self!r} gave None, which asks for a look, but it has no reads_after.")

    def words_to_draft(self, progress: Progress) -> int:
        """How many words a draft must have at a look: `draft_words`, unless a subclass can do with fewer.

        Args:
            progress (`Progress`): source words read, target words written.
        """
        return self.draft_words

    def delays(self, source_words: int, target_words: int) -> list[int]:
        """Return the schedule g of a training pair: source words read before each target word and before EOS.

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

    def for_model(self, model: DecodingModel) -> "Policy":
        """The policy as it decides for a model: itself, unless it needs what was found out about the model before.

        Args:
            model: with its `config` and `generation_config`.
        """
        return self

    def for_example(self, example: Mapping[str, Any], draw: random.Random) -> "Policy":
        """Return the policy of one training example: the same one, unless it is drawn or comes with the example
        (alignments).

        Args:
            example (`Mapping`): row of the dataset.
            draw (`random.Random`): seeded by (seed, epoch, example).
        """
        return self

    def longest_for(self, example: Mapping[str, Any]) -> list["Policy"]:
        """Policies of which one makes the longest training row that `for_example` may draw for an example, or a longer
        one. Wait-1 asks after every word, so that no draw has more peek rows; a subclass that draws and teaches READs
        has its own.

        Args:
            example (`Mapping`): row of the dataset.
        """
        return [WaitKPolicy(1)] if self.is_random else [self.for_example(example, random.Random(0))]

    @property
    def is_random(self) -> bool:
        """Whether `for_example` differs from epoch to epoch."""
        return False

    @property
    def teaches_reads(self) -> bool:
        """Whether its READs are worth learning, so that training rows hold each READ as an answer of the model."""
        return False


class WaitKPolicy(Policy):
    """wait-k (Ma et al. 2019, section 3.1): read k words, then write and read in turns.

    g(i) = min(k + i - floor(catchup * (i + 1)), |source|): with `catchup` c, one READ is left out for every 1/c target
    words (their section 3.3), for targets that are longer than their sources.

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
        # In whole numbers: a product of fractions takes ten times as long, and this is asked for every token.
        left_out = self.catchup.numerator * (word + 1) // self.catchup.denominator
        return progress.source_words < self.k + word - left_out

    def __repr__(self) -> str:
        return f"WaitKPolicy(k={self.k}" + (f", catchup={float(self.catchup):g})" if self.catchup else ")")


class FixedChunkPolicy(Policy):
    """Reads n words, writes m words, and so on.

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
    """Reads the whole source, then writes.

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
    """Draws one policy per training example and epoch (multi-path wait-k, Elbayad et al. 2020). It only trains.

    Args:
        policies (`Sequence[Policy]`): what to draw from, with equal probability.

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

    def longest_for(self, example: Mapping[str, Any]) -> list[Policy]:
        longest = [path for policy in self.policies for path in policy.longest_for(example)]
        # The least k asks most often.
        waits = [path for path in longest if isinstance(path, WaitKPolicy) and not path.catchup]
        least = min((path.k for path in waits), default=None)
        return [path for path in longest if path not in waits or path.k == least]

    @property
    def is_random(self) -> bool:
        return len(self.policies) > 1 or self.policies[0].is_random

    @property
    def teaches_reads(self) -> bool:
        return any(policy.teaches_reads for policy in self.policies)

    def __repr__(self) -> str:
        return f"MixturePolicy({self.policies!r})"


def check_lags(least_lag: int, greatest_lag: int | None) -> None:
    """Raise a `ValueError` for lags (source words read minus target words written) out of range; the greatest may be
    None."""
    check_count("least_lag", least_lag)
    if greatest_lag is None:
        return
    check_count("greatest_lag", greatest_lag)
    if greatest_lag < least_lag:
        raise ValueError(f"greatest_lag must be at least least_lag, {least_lag}, got {greatest_lag}.")


def check_count(name: str, value: int, least: int = 1) -> int:
    """Return `value`, or raise a `ValueError` if it is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return value


__all__ = [
    "FixedChunkPolicy",
    "MixturePolicy",
    "OfflinePolicy",
    "Policy",
    "Progress",
    "WaitKPolicy",
    "check_count",
    "check_lags",
]
