# SPDX-License-Identifier: Apache-2.0
"""Written words on their way out; safe between threads."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from transformers.generation.streamers import BaseStreamer


class Word(NamedTuple):
    """A committed target unit.

    Attributes:
        text (`str`): the unit, without the space before it; with token units, what it adds to the text.
        delay (`int`): source units that had been read when it was written.
        elapsed_ms (`float`): time since `generate()` started.
        row (`int`): its row in the batch.
        ids (`list[int]`): its token ids, with which a stream that was cut off is resumed.
    """

    text: str
    delay: int
    elapsed_ms: float
    row: int = 0
    ids: Sequence[int] = ()


def reader_error(error: BaseException, name: str) -> Exception:
    """Return what to raise to a reader: the error itself, or a `RuntimeError` caused by it if the error would end the
    reader's own thread, task or generator (`SystemExit`, `KeyboardInterrupt`, `CancelledError`, `StopIteration`, ...).

    Args:
        error (`BaseException`): what ended the translation, in another thread.
        name (`str`): name of the stream.
    """
    if isinstance(error, Exception) and not isinstance(error, (StopIteration, StopAsyncIteration)):
        return error
    wrapped = RuntimeError(f"{name}: the translation ended with {error!r}.")
    wrapped.__cause__ = error
    return wrapped


class Words(Protocol):
    """What a streamer needs of a processor."""

    def words(self, words: Iterable[Sequence[int]]) -> list[str]:
        """Return the text of each written unit."""

    def is_half(self, text: str) -> bool:
        """Whether the text ends within a character."""


class SimulStreamer(BaseStreamer):
    """Committed words as they are written, for `generate(streamer=...)`.

    Any number of consumers may iterate, with `for` or `async for`; each gets every word from the first on. A slow
    consumer never holds the model up: words wait in memory.

    Args:
        processor (`SimulProcessor`): turns ids to text.
        max_unread (`int`, *optional*): for one consumer only: a word is forgotten once the consumer has it, so that one
            who leaves the loop and iterates again goes on with the next; and `put_word` raises `BufferError` when so
            many wait.
        name (`str`, *optional*): what errors call it.

    Raises:
        ValueError: if `max_unread` is below 1.

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

    def __init__(self, processor: Words, max_unread: int | None = None, name: str = "the streamer"):
        if max_unread is not None and max_unread < 1:
            raise ValueError(f"max_unread must be at least 1, got {max_unread}.")
        self.processor, self.max_unread, self.name = processor, max_unread, name
        self._words: list[Word] = []
        # Token units of each row that end within a character.
        self._held: dict[int, list[int]] = {}
        self._is_done = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._listeners: set[Callable[[], None]] = set()

    def put(self, value: Any) -> None:
        """Ignore the prompt, which `generate()` shows every streamer first."""

    def put_word(self, row: int, ids: list[int], delay: int, elapsed_ms: float) -> None:
        """Take a committed unit; called by the decoder.

        Raises:
            BufferError: if `max_unread` words wait.
        """
        word = self.word(row, ids, delay, elapsed_ms)
        with self._changed:
            if self.max_unread is not None and len(self._words) >= self.max_unread:
                raise BufferError(
                    f"{self.name}: max_unread is {self.max_unread}, and {len(self._words)} words wait for a reader."
                )
            self._words.append(word)
        self._notify()

    def word(self, row: int, ids: list[int], delay: int, elapsed_ms: float) -> Word:
        """Return a committed unit as its readers get it; a half character stays empty until its other half comes."""
        whole = [*self._held.pop(row, []), *ids]
        text = self.processor.words([whole])[0]
        if self.processor.is_half(text):
            self._held[row], text = whole, ""
        return Word(text, delay, elapsed_ms, row, ids)

    def end_sentence(self, source_units: int, reason: str) -> None:
        """Called by an engine when a sentence of an endless stream is over; here nothing more is said of it.

        Args:
            source_units (`int`): of the stream, up to there.
            reason (`str`): why its translation stopped.
        """

    def end(self) -> None:
        """Note that generation is over."""
        with self._changed:
            self._is_done = True
        self._notify()

    def fail(self, error: BaseException) -> None:
        """Note that generation failed: consumers get the error (see [`reader_error`]) after the words that were
        written."""
        with self._changed:
            self._error, self._is_done = error, True
        self._notify()

    def __iter__(self) -> Iterator[Word]:
        shown = 0
        while True:
            with self._changed:
                while (word := self._next(shown)) is None and not self._is_done:
                    self._changed.wait()
            if word is None:
                return
            shown += 1
            yield word

    async def __aiter__(self) -> AsyncIterator[Word]:
        loop, changed, shown = asyncio.get_running_loop(), asyncio.Event(), 0

        def wake() -> None:
            # A consumer whose loop is closed has nobody left to wake; it may close between any two lines.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        self._listeners.add(wake)
        try:
            while True:
                changed.clear()
                with self._changed:
                    word, is_done = self._next(shown), self._is_done
                if word is not None:
                    shown += 1
                    yield word
                elif is_done:
                    return
                else:
                    await changed.wait()
        finally:
            self._listeners.discard(wake)

    def _next(self, shown: int) -> Word | None:
        """Return the next word for a consumer that has got so many, or None if there is none. Raise the error after the
        last."""
        if self.max_unread is not None and self._words:
            return self._words.pop(0)
        if shown < len(self._words):
            return self._words[shown]
        if self._error is not None:
            raise reader_error(self._error, self.name)
        return None

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
        for wake in list(self._listeners):
            wake()


__all__ = ["SimulStreamer", "Word", "reader_error"]
