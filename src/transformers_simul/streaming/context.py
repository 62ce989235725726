# SPDX-License-Identifier: Apache-2.0
"""What an endless stream keeps of the sentences that have ended."""

from collections import deque
from itertools import chain

from ..models.cache import SimulCache
from ..models.row_decoder import RowDecoder


class KeptSentences:
    """The newest sentences of a stream that have ended: the context of the next, whose keys and values stay in the
    cache. The oldest leave it from the front, and nothing is computed again.

    Args:
        cache (`SimulCache`): holds them.
        row (`int`): of the cache.
        head (`list[int]`): ids that every sentence begins with.
        most_sentences (`int`): how many to keep, as many as training showed; 0 keeps nothing but the prompt's head.
        most_tokens (`int`): of all of them; older ones leave earlier, so that the next sentence has room.

    Attributes:
        ids (`list[int]`): their tokens, in the order of the text.
    """

    def __init__(self, cache: SimulCache, row: int, head: list[int], most_sentences: int, most_tokens: int):
        self.cache, self.row, self.head = cache, row, head
        self.most_sentences, self.most_tokens = most_sentences, most_tokens
        self._kept: deque[list[int]] = deque()

    @property
    def ids(self) -> list[int]:
        return [*chain.from_iterable(self._kept)]

    @property
    def has_head_alone(self) -> bool:
        """Whether the row holds the head and nothing else, so that the next sentence need not feed it."""
        return self.cache.used_tokens(self.row) == len(self.head)

    def end_sentence(self, decoder: RowDecoder) -> None:
        """Keep the sentence that a decoder has translated, and let the oldest go. One that was cut off leaves nothing,
        and what was before it goes too: a translation that runs away would be the next one's context.

        Args:
            decoder (`RowDecoder`): that has come to its end.
        """
        leaving = 0
        if self.most_sentences and decoder.stop_reason == "eos":
            ids, forgets = decoder.stored()
            self._kept.append(ids[sum(map(len, self._kept)) :])
            while len(self._kept) > self.most_sentences or len(ids) - leaving > self.most_tokens:
                leaving += len(self._kept.popleft())
            if self._kept:
                self.cache.settle(self.row, forgets, decoder.reading.visible, leaving)
                return
        self._kept.clear()
        self.cache.clear(self.row, keep=len(self.head))


__all__ = ["KeptSentences"]
