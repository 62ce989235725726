# SPDX-License-Identifier: Apache-2.0
"""Written words on their way out; safe between threads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

from transformers.generation.streamers import BaseStreamer


class Word(NamedTuple):
    """A committed target unit.

    Attributes:
        text (`str`): the unit, without the space before it.
        delay (`int`): source units that had been read when it was written.
        elapsed_ms (`float`): since `generate()` started.
        row (`int`): its row in the batch.
    """

    text: str
    delay: int
    elapsed_ms: float
    row: int = 0


class SimulStreamer(BaseStreamer):
    """Committed words as they are written, for `generate(streamer=...)`.

    Any number of consumers may iterate, with `for` or `async for`; each gets every word from the first on. A slow
    consumer never holds the model up: words wait in memory.

    Args:
        processor (`SimulProcessor`): turns ids to text.
        max_unread (`int`, *optional*): for one consumer only: words are forgotten once it has them, and `put_word`
            raises `BufferError` when so many wait.

    Example:

    ```python
    >>> from transformers_simul import SimulStreamer
    >>> streamer = SimulStreamer(processor)
    >>> streamer.put_word(row=0, ids=processor.encode("Hund")[0], delay=2, elapsed_ms=1.5)
    >>> streamer.end()
    >>> [word.text for word in streamer]
    ['Hund']

    ```
    """

    def __init__(self, processor: Any, max_unread: int | None = None):
        if max_unread is not None and max_unread < 1:
            raise ValueError(f"max_unread must be at least 1, got {max_unread}.")
        self.processor, self.max_unread = processor, max_unread
        self._words: list[Word] = []
        self._done = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._listeners: set[Callable[[], None]] = set()

    def put(self, value: Any) -> None:
        """Takes the prompt that `generate()` shows every streamer first, and shows nothing of it."""

    def put_word(self, row: int, ids: list[int], delay: int, elapsed_ms: float) -> None:
        """Called by the decoder for each committed unit.

        Raises:
            BufferError: if `max_unread` words wait.
        """
        if self.max_unread is not None and len(self._words) >= self.max_unread:
            raise BufferError(f"max_unread is {self.max_unread} words, and nobody reads them.")
        self._publish(lambda: self._words.append(Word(self.processor.words([ids])[0], delay, elapsed_ms, row)))

    def end(self) -> None:
        """Called when generation is over."""
        self._publish(lambda: setattr(self, "_done", True))

    def fail(self, error: BaseException) -> None:
        """Called when generation broke: consumers get the error after the words that were written."""

        def note():
            self._error, self._done = error, True

        self._publish(note)

    def __iter__(self) -> Iterator[Word]:
        shown = 0
        while True:
            with self._changed:
                while not self._done and len(self._words) == shown:
                    self._changed.wait()
            words, shown, done = self._since(shown)
            yield from words
            if done:
                return

    async def __aiter__(self) -> AsyncIterator[Word]:
        loop, changed, shown = asyncio.get_running_loop(), asyncio.Event(), 0

        def wake():
            # A consumer whose loop is gone has nobody left to wake.
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        self._listeners.add(wake)
        try:
            while True:
                changed.clear()
                words, shown, done = self._since(shown)
                for word in words:
                    yield word
                if done:
                    return
                if not words:
                    await changed.wait()
        finally:
            self._listeners.discard(wake)

    def _since(self, shown: int) -> tuple[list[Word], int, bool]:
        """Words that a consumer has not got, how many are kept of what it has, and whether these are all."""
        with self._changed:
            words, done, error = self._words[shown:], self._done, self._error
            if self.max_unread is not None:
                self._words = []
            shown = len(self._words)
        if error is not None and not words:
            raise error
        return words, shown, done and error is None

    def _publish(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()
        for wake in list(self._listeners):
            wake()


__all__ = ["SimulStreamer", "Word"]
