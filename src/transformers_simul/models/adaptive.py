# SPDX-License-Identifier: Apache-2.0
"""Policies that look at what the model says before they decide, with a least and a greatest lag that bound them."""

from numbers import Real
from typing import NamedTuple

import torch

from .policies import Policy, Progress, check_count, check_lags


class Evidence(NamedTuple):
    """What a policy may look at before a target word, while source is left.

    Attributes:
        progress (`Progress`): source words read, target words written.
        log_probs (`torch.Tensor` of shape `(vocabulary,)`, float32): of the next token, given that it starts a word or
            is EOS; minus infinity for all others. From the newest token under the source read so far.
        eos_token_id (`int`): before the end of the source, EOS means READ.
        first_log_probs (`torch.Tensor` of shape `(vocabulary,)`): the same under the source that had been read at the
            first look before this word; where this is the first look, `log_probs` itself.
        draft (`list[list[int]]`): ids of the words that the model would write now, if the policy asks for drafts; at
            least as many as [`Policy.words_to_draft`] says, unless EOS (READ) or the end of the room came first.
        earlier_drafts (`list[list[list[int]]]`): those of the looks before, newest first, without the words that were
            written since.
        attention (`torch.Tensor` of shape `(heads, source words)`, float32): how much each of the policy's heads
            attends to each source word read, from the newest token; None if the policy has none.
    """

    progress: Progress
    log_probs: torch.Tensor
    eos_token_id: int
    first_log_probs: torch.Tensor
    draft: list[list[int]]
    earlier_drafts: list[list[list[int]]]
    attention: torch.Tensor | None = None

    @property
    def read_probability(self) -> float:
        """The probability of EOS, which means READ before the source has ended."""
        return self.log_probs[self.eos_token_id].exp().item()

    @property
    def best_probability(self) -> float:
        """The probability of the likeliest word start."""
        return self._starts().max().exp().item()

    @property
    def margin(self) -> float:
        """The probability of the likeliest word start minus that of the second."""
        first, second = self._starts().topk(2).values.exp().tolist()
        return float(first - second)

    @property
    def entropy(self) -> float:
        """Entropy of the next token's distribution, in nats."""
        return -float(torch.special.xlogy(self.log_probs.exp(), self.log_probs.exp()).sum())

    @property
    def divergence(self) -> float:
        """How far the distribution has moved since the first look before this word: KL(now || then), in nats."""
        now = self.log_probs.exp()
        moved = torch.where(now > 0, now * (self.log_probs - self.first_log_probs), torch.zeros_like(now))
        return moved.sum().item()

    @property
    def looked_at(self) -> int:
        """The source word that the heads look at, from 0: of each head the word that it attends to most, and of these
        the median, the earlier of two."""
        if self.attention is None:
            raise ValueError("looked_at needs a policy with heads, whose attention the decoder then takes.")
        return int(self.attention.argmax(1).median())

    def votes(self, drafts: int) -> int:
        """How many of the newest `drafts` drafts begin with the word that the newest begins with, itself included; 0 if
        it has none.

        Args:
            drafts (`int`): how many may vote; drafts from which the words written since have differed have no vote.
        """
        if not self.draft:
            return 0
        return sum(draft[:1] == self.draft[:1] for draft in [self.draft, *self.earlier_drafts[: drafts - 1]])

    def _starts(self) -> torch.Tensor:
        return self.log_probs.index_fill(0, torch.tensor(self.eos_token_id, device=self.log_probs.device), -torch.inf)


class AdaptivePolicy(Policy):
    """Base of policies that look. Between its lags a subclass decides by [`AdaptivePolicy.reads_after`]; the lag is
    wait-k's k, source words read minus target words written.

    Whatever it decides, the READs and WRITEs are a schedule, and the streamed logits are those of one masked training
    forward over it. What it needs of training is that such schedules were seen: train with [`RandomPathPolicy`] or
    [`AlignedPolicy`], not with this.

    Args:
        least_lag (`int`, *optional*, defaults to 1): below it, READ without a look; at least 1.
        greatest_lag (`int`, *optional*, defaults to 9): from it on, WRITE without a look.

    Attributes:
        draft_words (`int`): the most words that a draft must have; 0 asks for none, which costs nothing.
        heads (`tuple[tuple[int, int], ...]`): layer and head of attention heads to see; () for none.

    Raises:
        ValueError: if the lags are out of range, or when it is asked for a training schedule.

    Example, a policy that READs while the model's distribution is flat:

    ```python
    >>> from transformers_simul import AdaptivePolicy
    >>> class Entropy(AdaptivePolicy):
    ...     def reads_after(self, evidence):
    ...         return evidence.entropy > 2.0
    >>> output = model.generate(**processor(source="a dog runs"), policy=Entropy(1, 3), return_dict_in_generate=True)
    >>> all(i + 1 <= g or g == 3 for i, g in enumerate(output.delays[0]))
    True

    ```
    """

    def __init__(self, least_lag: int = 1, greatest_lag: int = 9):
        check_lags(least_lag, greatest_lag)
        self.least_lag, self.greatest_lag = least_lag, greatest_lag

    def reads_after(self, evidence: Evidence) -> bool:
        """Decide after a look: return True to READ or False to WRITE.

        Args:
            evidence (`Evidence`): what the model says.
        """
        raise NotImplementedError

    def reads(self, progress: Progress) -> bool | None:
        lag = progress.source_words - progress.target_words
        if lag < self.least_lag:
            return True
        return None if lag < self.greatest_lag else False

    def delays(self, source_words: int, target_words: int) -> list[int]:
        raise ValueError(
            f"{self!r} decides by what the model says, so it has no schedule to train on: train with RandomPathPolicy "
            "or AlignedPolicy."
        )

    def _show(self, **settings: object) -> str:
        shown = settings | {"least_lag": self.least_lag, "greatest_lag": self.greatest_lag}
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in shown.items())})"

    def __repr__(self) -> str:
        return self._show()


class LearnedReadPolicy(AdaptivePolicy):
    """READ while the model's probability of EOS, which means READ before the source has ended, is above a threshold.

    P(READ) = P(EOS | a word start or EOS). Models learn it from the decision rows of [`AlignedPolicy`]
    ([`due_decisions`]); one model serves all thresholds, and a higher one writes earlier.

    Args:
        threshold (`float`, *optional*, defaults to 0.5): between 0 and 1.
        least_lag, greatest_lag: as in [`AdaptivePolicy`].

    Raises:
        ValueError: if an argument is out of range.

    Example:

    ```python
    >>> from transformers_simul import LearnedReadPolicy
    >>> LearnedReadPolicy(0.3, greatest_lag=7)
    LearnedReadPolicy(threshold=0.3, least_lag=1, greatest_lag=7)

    ```
    """

    def __init__(self, threshold: float = 0.5, least_lag: int = 1, greatest_lag: int = 9):
        super().__init__(least_lag, greatest_lag)
        self.threshold = _check_share("threshold", threshold)

    def reads_after(self, evidence: Evidence) -> bool:
        return evidence.read_probability > self.threshold

    def __repr__(self) -> str:
        return self._show(threshold=self.threshold)


class ConfidencePolicy(AdaptivePolicy):
    """WRITE once the model is sure of the next word, or once the source has changed its mind (after LSG, Guo et al.
    2025, arXiv 2501.00868, section 3).

    WRITE if the likeliest word start has at least probability `alpha`, or if the next word's distribution has moved by
    at least `delta` nats, KL(now || at the first look before this word); otherwise READ.

    Args:
        alpha (`float`, *optional*, defaults to 0.6): between 0 and 1.
        delta (`float`, *optional*): above 0; without it, only `alpha` counts.
        least_lag, greatest_lag: as in [`AdaptivePolicy`].

    Raises:
        ValueError: if an argument is out of range.

    Example:

    ```python
    >>> from transformers_simul import ConfidencePolicy
    >>> ConfidencePolicy(0.8, delta=2.0, greatest_lag=7)
    ConfidencePolicy(alpha=0.8, delta=2.0, least_lag=1, greatest_lag=7)

    ```
    """

    def __init__(self, alpha: float = 0.6, delta: float | None = None, least_lag: int = 1, greatest_lag: int = 9):
        super().__init__(least_lag, greatest_lag)
        self.alpha = _check_share("alpha", alpha)
        if delta is not None and not (isinstance(delta, Real) and delta > 0):
            raise ValueError(f"delta must be above 0, got {delta!r}.")
        self.delta = delta

    def reads_after(self, evidence: Evidence) -> bool:
        if evidence.best_probability >= self.alpha:
            return False
        return self.delta is None or evidence.divergence < self.delta

    def __repr__(self) -> str:
        return self._show(alpha=self.alpha, delta=self.delta)


class HoldPolicy(AdaptivePolicy):
    """hold-n (Liu et al. 2020, section 3.2): draft what the model would write, and keep back its last n words.

    WRITE the draft's first word if more than `words` words were drafted, and go on with the next, until so many are
    left. A draft ends where the model would READ (EOS).

    Args:
        words (`int`, *optional*, defaults to 2): n, at least 1.
        least_lag, greatest_lag: as in [`AdaptivePolicy`].

    Raises:
        ValueError: if an argument is out of range.

    Example:

    ```python
    >>> from transformers_simul import HoldPolicy
    >>> HoldPolicy(3)
    HoldPolicy(words=3, least_lag=1, greatest_lag=9)

    ```
    """

    def __init__(self, words: int = 2, least_lag: int = 1, greatest_lag: int = 9):
        super().__init__(least_lag, greatest_lag)
        self.words = check_count("words", words)
        self.draft_words = words + 1

    def reads_after(self, evidence: Evidence) -> bool:
        return len(evidence.draft) <= self.words

    def __repr__(self) -> str:
        return self._show(words=self.words)


class LocalAgreementPolicy(AdaptivePolicy):
    """LocalAgreement-n (Liu et al. 2020, section 3.2): WRITE a word once the drafts under the last n amounts of source
    agree on it.

    Args:
        drafts (`int`, *optional*, defaults to 2): n, at least 2.
        least_lag, greatest_lag: as in [`AdaptivePolicy`].

    Raises:
        ValueError: if an argument is out of range.

    Example:

    ```python
    >>> from transformers_simul import LocalAgreementPolicy
    >>> LocalAgreementPolicy()
    LocalAgreementPolicy(drafts=2, least_lag=1, greatest_lag=9)

    ```
    """

    def __init__(self, drafts: int = 2, least_lag: int = 1, greatest_lag: int = 9):
        super().__init__(least_lag, greatest_lag)
        self.drafts = check_count("drafts", drafts, least=2)
        self.draft_words = greatest_lag - least_lag + drafts - 1

    def words_to_draft(self, progress: Progress) -> int:
        # A draft votes until `drafts` - 1 more source words are read, on words that lag by `least_lag` then.
        return progress.source_words - progress.target_words - self.least_lag + self.drafts

    def reads_after(self, evidence: Evidence) -> bool:
        return evidence.votes(self.drafts) < self.drafts

    def __repr__(self) -> str:
        return self._show(drafts=self.drafts)


class RelaxedAgreementPolicy(LocalAgreementPolicy):
    """RALCP, the relaxed agreement of candidates (Wang et al. 2023, arXiv 2309.06706, section 3), over drafts: WRITE a
    word once a share of the candidates agree on it, where LocalAgreement needs all of them.

    A candidate has one vote for each word, and none after a word on which it differed from what was written; the share
    is always that of all candidates. The paper's candidates are the beams of a search under the newest source. Here
    they are the drafts under the last `drafts` amounts of source, which a cache that keeps one target can hold, and the
    word that they vote on is the one that would be written, the newest draft's.

    Args:
        share (`float`, *optional*, defaults to 0.6): gamma, at most 1, which is LocalAgreement; more than one draft's.
        drafts (`int`, *optional*, defaults to 4): candidates, at least 2.
        least_lag, greatest_lag: as in [`AdaptivePolicy`].

    Raises:
        ValueError: if an argument is out of range.

    Example:

    ```python
    >>> from transformers_simul import RelaxedAgreementPolicy
    >>> RelaxedAgreementPolicy(0.5, greatest_lag=7)
    RelaxedAgreementPolicy(share=0.5, drafts=4, least_lag=1, greatest_lag=7)

    ```
    """

    def __init__(self, share: float = 0.6, drafts: int = 4, least_lag: int = 1, greatest_lag: int = 9):
        super().__init__(drafts, least_lag, greatest_lag)
        self.share = _check_share("share", share)
        if self.share * drafts <= 1:
            raise ValueError(f"share must be above {1 / drafts:g}, one of {drafts} drafts, got {share}.")

    def reads_after(self, evidence: Evidence) -> bool:
        return evidence.votes(self.drafts) / self.drafts < self.share

    def __repr__(self) -> str:
        return self._show(share=self.share, drafts=self.drafts)


def _check_share(name: str, value: float) -> float:
    if not (isinstance(value, Real) and 0 <= value <= 1):
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}.")
    return float(value)


__all__ = [
    "AdaptivePolicy",
    "ConfidencePolicy",
    "Evidence",
    "HoldPolicy",
    "LearnedReadPolicy",
    "LocalAgreementPolicy",
    "RelaxedAgreementPolicy",
]
