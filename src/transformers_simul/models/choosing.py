# SPDX-License-Identifier: Apache-2.0
"""What a forward's logits mean for decoding, for all rows of a step at once: one transfer to the host, however many."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from .word_rule import Expected, WordRule


class Choice(NamedTuple):
    """What greedy decoding makes of one answer.

    Attributes:
        word_ends (`bool`): whether word starts and EOS have more than half of the probability of all that may follow.
        any, start, bare, continues (`int`): the likeliest token of those that may follow, for each [`Expected`].
    """

    word_ends: bool
    any: int
    start: int
    bare: int
    continues: int

    def token(self, expected: Expected) -> int:
        """Return the likeliest token.

        Args:
            expected (`Expected`): what may follow.
        """
        return self.continues if expected == "continue" else int(getattr(self, expected))


class Answer(NamedTuple):
    """The model's answer to one question.

    Attributes:
        logits (`torch.Tensor` of shape `(vocabulary,)`, float32): of the next token.
        is_nan (`bool`): whether one of them is not a number.
        choice (`Choice`, *optional*): what follows from them, for a row that decides by nothing else.
    """

    logits: torch.Tensor
    is_nan: bool
    choice: Choice | None = None


# Columns of the table that goes to the host: NaN, EOS's score, then of starts and of continuations the best score, its
# token, and the logarithm of the mass.
_Columns = list[float]


def answers_of(logits: torch.Tensor, rules: Sequence[WordRule | None]) -> list[Answer]:
    """Choose for every answer of a forward, with one transfer from its device.

    Args:
        logits (`torch.Tensor` of shape `(answers, vocabulary)`, float32): the model's.
        rules (`Sequence[WordRule | None]`): of each answer; None where the row chooses by itself, since it samples, or
            a glossary or logits processors have a say.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.choosing import answers_of
    >>> from transformers_simul.models.word_rule import WordRule
    >>> rule = WordRule(torch.tensor([2, 1, 0, 0]))  # EOS, a start, two continuations
    >>> answers_of(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), [rule])[0].choice
    Choice(word_ends=False, any=3, start=1, bare=3, continues=3)

    ```
    """
    # The largest of numbers is NaN if one of them is.
    is_nan = logits.amax(-1).isnan()
    table = logits.new_zeros(len(rules), 8)
    table[:, 0] = is_nan
    # Rules of one language share their tables, and mostly there is but one.
    groups: dict[int, tuple[WordRule, list[int]]] = {}
    for index, rule in enumerate(rules):
        if rule is not None:
            groups.setdefault(id(rule.parts), (rule, []))[1].append(index)
    for rule, indices in groups.values():
        if len(indices) == len(rules):
            table[:, 1:] = _tabulate(logits, rule)
        else:
            chosen = torch.tensor(indices, device=logits.device)
            table[chosen, 1:] = _tabulate(logits[chosen], rule)
    columns: list[_Columns] = table.tolist()
    return [
        Answer(each, bool(found[0]), None if rule is None else _choice(found, rule))
        for each, found, rule in zip(logits, columns, rules, strict=True)
    ]


def _tabulate(logits: torch.Tensor, rule: WordRule) -> torch.Tensor:
    # Each part gathered by itself: most of the time here goes into exponentials, and none is taken of what is barred.
    found = zip(*(_best_and_mass(logits, tokens) for tokens in rule.parts), strict=True)
    return torch.stack([logits[:, rule.eos_token_id], *(column for pair in found for column in pair)], 1)


def _best_and_mass(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the best score of these tokens, its token, and the logarithm of their mass."""
    if not len(tokens):
        # In a vocabulary of whole words, none goes on.
        nothing = logits.new_full(logits.shape[:1], -torch.inf)
        return nothing, torch.zeros_like(nothing), nothing
    scores = logits.index_select(1, tokens)
    best = scores.max(-1)
    # Numbers of tokens are exact in float32 below 2^24, and some devices have no float64.
    return best.values, tokens.index_select(0, best.indices).to(logits.dtype), scores.logsumexp(-1)


def _choice(found: _Columns, rule: WordRule) -> Choice:
    _, eos, start, goes_on, start_token, goes_on_token, start_mass, goes_on_mass = found
    end_mass = _log_sum(eos, start_mass)
    first, later = (start, int(start_token), end_mass), (goes_on, int(goes_on_token))

    def best(*tokens: tuple[float, int, float]) -> int:
        """Return the likeliest of these and EOS. With each comes the logarithm of the mass that EOS must have a share
        of."""
        # The first of equals, as in argmax.
        score, token, mass = max(tokens, key=lambda each: (each[0], -each[1]))
        if (eos, -rule.eos_token_id) < (score, -token):
            return token
        is_unlikely = rule.eos_threshold is not None and math.exp(eos - mass) <= rule.eos_threshold
        return token if is_unlikely and score > -math.inf else rule.eos_token_id

    return Choice(
        word_ends=end_mass > goes_on_mass,
        any=best(first, (*later, _log_sum(end_mass, goes_on_mass))),
        start=best(first),
        bare=best((*later, _log_sum(eos, goes_on_mass))),
        continues=later[1],
    )


def _log_sum(left: float, right: float) -> float:
    """Return the logarithm of the sum of two numbers that are given by their logarithms."""
    low, high = sorted((left, right))
    return high if math.isinf(low) or math.isinf(high) else high + math.log1p(math.exp(low - high))


__all__ = ["Answer", "Choice", "answers_of"]
