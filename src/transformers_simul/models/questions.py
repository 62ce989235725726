# SPDX-License-Identifier: Apache-2.0
"""What one row asks the model, and what the cache holds of it: all forwards of a row are composed here."""

from collections.abc import Generator, Sequence
from typing import NamedTuple

import torch

from .choosing import Answer
from .head_attention import Head, HeadAttention
from .row import Ask, Drafts, Query, Reading, RowStopped
from .word_rule import WordRule


class Stored(NamedTuple):
    """A token that the cache holds, and what the model said to it.

    Attributes:
        token (`int`): its id.
        visible_source (`int`): head and source tokens that it sees.
        answer (`Answer`): to it.
        attention (`torch.Tensor` of shape `(heads, tokens)`, *optional*): of the policy's heads.
    """

    token: int
    visible_source: int
    answer: Answer
    attention: torch.Tensor | None = None


class Questions:
    """The questions of one row. Each is put to the newest token of tail+target, under the source that was read.

    What the cache holds: each token of head and source, of tail and target, once; and what was asked before it was due,
    which may turn out to be needed. That is either

    * copies of the newest token, which see more source than was read: READs make one of them the needed one; or
    * tokens of the newest draft, after the newest token: those are needed with which the target, or the next draft,
      begins.

    It is never both, since a policy that drafts asks for no copies. Whatever is asked next gives up what is not needed
    of it; what has no room for all that it asks ahead is asked without.

    Args:
        reading (`Reading`): head and source.
        tail (`list[int]`): ids of the prompt after the source.
        target (`list[int]`): the row's own list of what is written; while it drafts, with the draft so far.
        drafts (`Drafts`): get the questions of drafts, if logits are kept.
        heads (`Sequence[Head]`): attention heads that the policy looks at.
        rule (`WordRule`, *optional*): if the row decides by it alone: the step then chooses for all such rows at once.
        keeps_logits (`bool`): whether to keep every answer.

    Attributes:
        queries (`list[Query]`): those that answered for the target, in their order; not those of drafts.
        logits (`list[torch.Tensor]`): the answers, if they are kept.
        attention (`torch.Tensor` of shape `(heads, tokens)`, *optional*): what the policy's heads look at among head
            and source, from the newest token.
    """

    def __init__(
        self,
        reading: Reading,
        tail: list[int],
        target: list[int],
        drafts: Drafts,
        heads: Sequence[Head],
        rule: WordRule | None,
        keeps_logits: bool,
    ):
        self.reading, self.tail, self.target, self.drafts = reading, tail, target, drafts
        self.heads, self.rule, self.keeps_logits = heads, rule, keeps_logits
        self.queries: list[Query] = []
        self.logits: list[torch.Tensor] = []
        self.attention: torch.Tensor | None = None
        # The newest token and its copies, and which of them is needed; the tokens of the newest draft.
        self._newest: list[Stored] = []
        self._needed = 0
        self._drafted: list[Stored] = []

    @property
    def copies(self) -> int:
        """Copies of the newest token that were asked with it."""
        return max(0, len(self._newest) - 1)

    @property
    def drafted(self) -> list[int]:
        """The newest draft's tokens that the cache holds."""
        return [each.token for each in self._drafted]

    def compose(self, ids: list[int], in_place: bool = False, drafted: int = 0) -> Ask:
        """Feed the last tokens of tail+target, after all source that the model has not got.

        Args:
            ids (`list[int]`): these tokens.
            in_place (`bool`, *optional*): whether they are stored already, and are given up.
            drafted (`int`, *optional*): tokens of the newest draft that stay.
        """
        start, fresh = self.reading.feed()
        offset = len(self.tail) + len(self.target) - len(ids)
        given_up = len(self._drafted) - drafted
        if in_place:
            forgets = [*range(given_up + self.copies + len(ids))]
        else:
            newest = [back for back in range(len(self._newest)) if back != self.copies - self._needed]
            forgets = [*range(given_up), *newest]
        self._newest, self._needed, self._drafted = [], 0, self._drafted[:drafted]
        return Ask(fresh, start, ids, offset, self.reading.visible, tuple(forgets))

    def ask(self, ask: Ask, guesses: Sequence[int] = ()) -> Generator[Ask, list[Answer], Answer]:
        """Ask the newest token, and with it its copies, or guesses of what will be drafted after it.

        Args:
            ask (`Ask`): composed before.
            guesses (`Sequence[int]`, *optional*): tokens that may come next; not with copies.
        """
        more = ask._replace(target_ids=[*ask.target_ids, *guesses], guesses=len(guesses))
        try:
            stored = yield from self._put(more, is_optional=more.answers > 1)
        except RowStopped:
            if more.answers == 1:
                raise
            stored = yield from self._put(ask._replace(copies=()))
        newest = 1 + len(ask.copies)
        self._newest, self._drafted = stored[:newest], stored[newest:]
        for count, each in enumerate(self._drafted, start=1):
            self._note_draft([*self.target, *guesses[:count]], each)
        return self._note(stored[0])

    def asked_ahead(self) -> Answer | None:
        """The answer to the copy of the newest token that sees just what is read now, if there is one."""
        for index, copy in enumerate(self._newest):
            if copy.visible_source == self.reading.visible:
                self._needed = index
                return self._note(copy)
        return None

    def foreseen(self, token: int) -> Answer | None:
        """The answer to a token that was written, if the newest draft had it there too."""
        if self._drafted and self._drafted[0].token == token:
            return self._note(self._drafted.pop(0))
        return None

    def ask_draft(self, token: int, place: int) -> Generator[Ask, list[Answer], Answer]:
        """Ask a draft's token, unless it is what is stored there: of the draft under less source, as far as the two
        agree. From the first that differs on, what is stored is given up.

        Args:
            token (`int`): the newest of the target.
            place (`int`): its index in the draft.
        """
        stored = self._drafted
        if place < len(stored) and stored[place].token == token:
            return stored[place].answer
        ask = self.compose([token], drafted=place)
        try:
            self._drafted += yield from self._put(ask, is_optional=True)
        except RowStopped:
            # There is no room, so nothing was given up.
            self._drafted = stored
            raise
        self._note_draft([*self.target], self._drafted[-1])
        return self._drafted[-1].answer

    def _put(self, ask: Ask, is_optional: bool = False) -> Generator[Ask, list[Answer], list[Stored]]:
        """What the model says to the newest token, and to its copies or to guesses."""
        looks = HeadAttention(self.heads) if self.heads else None
        answers = yield ask._replace(attention=looks, rule=self.rule, is_optional=is_optional)
        if any(answer.is_nan for answer in answers):
            raise ValueError(
                f"logits are NaN after {len(self.target)} target tokens: check the weights and their dtype."
            )
        ids = ask.target_ids or ask.source_ids
        tokens = [*ids[len(ids) - 1 - ask.guesses :], *ids[-1:] * len(ask.copies)]
        visible = [*[ask.visible_source] * (1 + ask.guesses), *ask.copies]
        attention = [None] * len(answers) if looks is None else looks.weights
        return [Stored(*each) for each in zip(tokens, visible, answers, attention, strict=True)]

    def _note(self, stored: Stored) -> Answer:
        self.attention = stored.attention
        self.queries.append(Query(len(self.tail) + len(self.target) - 1, self.reading.source_words))
        if self.keeps_logits:
            self.logits.append(stored.answer.logits)
        return stored.answer

    def _note_draft(self, target: list[int], stored: Stored) -> None:
        if self.keeps_logits:
            query = Query(len(self.tail) + len(target) - 1, self.reading.source_words)
            self.drafts.asked.append((query, target, stored.answer.logits))


__all__ = ["Questions"]
