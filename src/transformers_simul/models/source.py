# SPDX-License-Identifier: Apache-2.0
"""Where a row reads its source: what it asks of one, and a source that is known from the start."""

from collections.abc import Callable
from itertools import count, takewhile
from typing import Any, Protocol


class Source(Protocol):
    """Where a row reads its source, as token ids, unit by unit. `poll` and `peek` never wait: they return
    `(True, ids)`, `(True, None)` at the end of the source, or `(False, None)` if nothing has come yet."""

    @property
    def is_known(self) -> bool:
        """Whether all of it is there from the start."""

    @property
    def wait_s(self) -> float | None:
        """Seconds until the current wait times out; None without a time-out."""

    def poll(self) -> tuple[bool, list[int] | None]:
        """Read the next unit."""

    def peek(self, index: int) -> tuple[bool, list[int] | None]:
        """What the poll after `index` more would give, without reading it."""

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back whenever a poll may give something else."""


class Encoder(Protocol):
    """Gives the ids of a source's units."""

    def encode_piece(self, piece: Any) -> list[list[int]]:
        """Ids of each unit in one unit of a stream: one, or with token units as many as tokens."""


class SourceProcessor(Protocol):
    """What a live source asks of a processor."""

    @property
    def source_unit(self) -> str:
        """What the processor counts."""

    def source_encoder(self) -> Encoder:
        """What gives the ids of a stream's units, one after the other."""


class SourceTimeout(Exception):
    """No source unit came within the stream's time-out."""


class SourceCancelled(Exception):
    """The source was given up."""


class KnownSource:
    """A [`Source`] that is there from the start: fed at once, shown word by word.

    Args:
        words (`list[list[int]]`): ids of each source word.
    """

    is_known = True
    wait_s: float | None = None

    def __init__(self, words: list[list[int]]):
        self.words = words
        self._next = 0

    def poll(self) -> tuple[bool, list[int] | None]:
        """As [`Source.poll`], but never `(False, None)`: all units are there."""
        polled = self.peek(0)
        self._next += 1
        return polled

    def peek(self, index: int) -> tuple[bool, list[int] | None]:
        """What the poll after `index` more would give."""
        word = self._next + index
        return True, self.words[word] if word < len(self.words) else None

    def listen(self, callback: Callable[[], None]) -> None:
        """Do nothing, since nothing ever arrives."""


def all_words(source: Source) -> list[list[int]]:
    """Return the ids of all words of a known source that were not read."""
    words = (source.peek(index)[1] for index in count())
    return [*takewhile(lambda word: word is not None, words)]  # type: ignore[list-item]


__all__ = [
    "Encoder",
    "KnownSource",
    "Source",
    "SourceCancelled",
    "SourceProcessor",
    "SourceTimeout",
    "all_words",
]
