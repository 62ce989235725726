# SPDX-License-Identifier: Apache-2.0
"""What a row of decoding is made of: its prompt, its source tokens, what it asks and what it was told."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import NamedTuple

import torch

from .encoding import TextEncoder
from .head_attention import HeadAttention
from .seam import DecodingModel
from .word_rule import WordRule


@dataclass(frozen=True)
class Prompt:
    """What all rows of a processor share: what stands around the source, and how words are kept whole.

    Attributes:
        head, tail (`list[int]`): ids before and after the source; the tail has at least one.
        rule (`WordRule`): keeps words whole.
        encoder (`TextEncoder`, *optional*): gives ids of words and their texts; None where source and target are not
            both words.
    """

    head: list[int]
    tail: list[int]
    rule: WordRule
    encoder: TextEncoder | None = None

    def fit(self, model: DecodingModel) -> "Prompt":
        """The same prompt with the rule for a model's vocabulary, on its device.

        Args:
            model: gives vocabulary size and device.

        Raises:
            ValueError: if the model's vocabulary is smaller than the tokenizer's.
        """
        return replace(self, rule=self.rule.fit(model.config.vocab_size, model.device))


class Ask(NamedTuple):
    """What a row wants fed; the logits of the newest token are the answer.

    Attributes:
        source_ids (`list[int]`): head or source tokens not fed before.
        source_offset (`int`): where they begin in head+source.
        target_ids (`list[int]`): tail or target tokens.
        target_offset (`int`): where they begin in tail+target.
        visible_source (`int`): head and source tokens that they see.
        forgets (`tuple[int, ...]`): the row's stored tokens to give up first, counted from its newest, 0.
        copies (`tuple[int, ...]`): feed the last token again for each of these, seeing so much source: its answers too.
        guesses (`int`): how many of the last target tokens are guesses, whose answers the row wants too. Not with
            copies.
        is_optional (`bool`): whether the row can do with less: where there is no room for all, [`RowStopped`] thrown
            into the row makes it ask for less, and does not end it.
        attention (`HeadAttention`, *optional*): what to tell of attention heads, for each answer.
        rule (`WordRule`, *optional*): choose by it for each answer; None where the row chooses by itself.
    """

    source_ids: list[int]
    source_offset: int
    target_ids: list[int]
    target_offset: int
    visible_source: int
    forgets: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()
    guesses: int = 0
    is_optional: bool = False
    attention: HeadAttention | None = None
    rule: WordRule | None = None

    @property
    def tokens(self) -> int:
        """How many tokens are fed."""
        return len(self.source_ids) + len(self.target_ids) + len(self.copies)

    @property
    def answers(self) -> int:
        """How many answers the row gets, to its last tokens."""
        return 1 + len(self.copies) + self.guesses


class Query(NamedTuple):
    """One question to the model.

    Attributes:
        offset (`int`): index in tail+target of the token that asked.
        visible_words (`int`): source words that it saw.
    """

    offset: int
    visible_words: int


class RowStopped(Exception):
    """Ends a row when it is thrown into [`RowDecoder.run`]; its text is the stop reason."""


class Reading:
    """A row's head and source tokens in order: read ones, then those that are there but not read yet.

    What a query must not see is hidden from it, so both may be fed. `visible` and `fed` never pass the end of `ids`.

    Attributes:
        ids (`list[int]`): all of them; first what is kept of earlier sentences, if anything is.
        visible (`int`): how many of them the next query sees: the head and what was read.
        fed (`int`): how many of them the model has.
        ends (`list[int]`): where the head and each word that was read end in `ids`.
        is_over (`bool`): whether a READ has found the end of the source.
    """

    def __init__(self, head: Sequence[int], head_is_fed: bool, context: Sequence[int] = ()):
        self.ids = [*context, *head]
        self.visible = len(self.ids)
        self.fed = self.visible if head_is_fed else len(context)
        self.ends = [self.visible]
        self.is_over = False

    def hold(self, words: Sequence[Sequence[int]]) -> None:
        """Note that the next words to read are there; those that are held already come first among them."""
        held = len(self.ids) - self.visible
        self.ids += list(chain.from_iterable(words))[held:]

    def read(self, word: list[int] | None) -> None:
        """READ the next word; None is the end of the source."""
        if word is None:
            self.is_over = True
            return
        self.hold([word])
        self.visible += len(word)
        self.ends.append(self.visible)

    @property
    def source_words(self) -> int:
        """Source words that were read."""
        return len(self.ends) - 1

    def by_word(self, weights: torch.Tensor) -> torch.Tensor:
        """Sums over the tokens of each word that was read.

        Args:
            weights (`torch.Tensor` of shape `(heads, tokens)`): of head and source.

        Returns:
            `torch.Tensor` of shape `(heads, words)`.
        """
        lengths = [end - start for start, end in pairwise(self.ends)]
        return torch.stack([word.sum(-1) for word in weights[:, self.ends[0] : self.visible].split(lengths, -1)], -1)

    def feed(self) -> tuple[int, list[int]]:
        """Where the tokens begin that the model has not got, and these; from now on it has them."""
        start, self.fed = self.fed, len(self.ids)
        return start, self.ids[start:]


class Drafts:
    """What the model would have written at the looks of a policy, less what has been written since.

    Attributes:
        words (`list[list[list[int]]]`): the words of each draft, newest first, one for each amount of source.
        asked (`list[tuple[Query, list[int], torch.Tensor]]`): if logits are kept, every question of a draft, the target
            with the draft so far, and the answer.
    """

    def __init__(self) -> None:
        self.words: list[list[list[int]]] = []
        self.asked: list[tuple[Query, list[int], torch.Tensor]] = []
        self._source_words = -1

    def begin(self, source_words: int, least: int) -> bool:
        """Before a look: whether the newest draft was made under so many source words, and still has `least` words to
        show; if it has less, it makes room for one that goes on."""
        if self._source_words == source_words:
            if len(self.words[0]) >= least:
                return True
            self.words.pop(0)
        self._source_words = source_words
        return False

    def add(self, words: list[list[int]]) -> None:
        """Take a new draft."""
        self.words.insert(0, words)

    def write(self, word: list[int]) -> None:
        """Note that a word is written: drafts that foresaw it go on after it, and the others become empty."""
        self.words = [draft[1:] if draft[:1] == [word] else [] for draft in self.words]


__all__ = [
    "Ask",
    "Drafts",
    "Prompt",
    "Query",
    "Reading",
    "RowStopped",
]
