# SPDX-License-Identifier: Apache-2.0
"""Source text that is still arriving; safe between threads."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .text import UNITS, split_at_breaks


class SourceTimeout(Exception):
    """No source unit came within the stream's time-out."""


class SourceCancelled(Exception):
    """The source was given up."""


class SourceStream:
    """Source text as it arrives: the mirror image of `TextIteratorStreamer`. `generate()` blocks on it to READ.

    Pieces may be words, parts of words or paragraphs. A word is complete when white space or the end follows it.

    Args:
        text (`str`, *optional*): text that is already there.
        unit (`str`, *optional*): the processor's unit, `"word"`, `"char"` or `"token"`.
        timeout_s (`float`, *optional*): longest wait for one unit; then [`SourceTimeout`].
        max_waiting (`int`, *optional*): most units, or characters of an incomplete one, that may wait unread; then
            `put` raises `BufferError`.

    Example:

    ```python
    >>> from transformers_simul import SourceStream
    >>> stream = SourceStream()
    >>> stream.put("A d"); stream.put("og ru")
    >>> stream.read(), stream.read()
    ('A', 'dog')
    >>> stream.end()
    >>> stream.read(), stream.read()
    ('ru', None)

    ```
    """

    def __init__(
        self,
        text: str = "",
        unit: str = "word",
        timeout_s: float | None = None,
        max_waiting: int | None = None,
    ):
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {UNITS}, got {unit!r}.")
        for name, value in (("timeout_s", timeout_s), ("max_waiting", max_waiting)):
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}.")
        self.unit, self.timeout_s, self.max_waiting = unit, timeout_s, max_waiting
        self.arrivals_ms: list[float | None] = []
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._partial: list[str] = []
        self._ended = self._cancelled = False
        # Units put so far, and where among them the caller ended sentences.
        self._put_units = 0
        self._sentence_ends: deque[int] = deque()
        self._listeners: list[Callable[[], None]] = []
        if text:
            self.put(text)

    def put(self, text: str, arrival_ms: float | None = None) -> None:
        """Add a piece of source.

        Args:
            text (`str`): any piece of it.
            arrival_ms (`float`, *optional*): when it came, if the caller keeps the time; see `arrivals_ms`.

        Raises:
            ValueError: if it is no string, or the source has ended.
            BufferError: if `max_waiting` units wait unread; nothing of the piece is taken then.
        """
        if not isinstance(text, str):
            raise ValueError(f"text must be a string, got {type(text).__name__}.")
        with self._changed:
            if self._ended or self._cancelled:
                raise ValueError(f"put() after {'cancel' if self._cancelled else 'end'}(): {text!r} came too late.")
            units, partial = self._complete(text)
            most = max(len(self._waiting) + len(units), sum(map(len, partial)))
            if self.max_waiting is not None and most > self.max_waiting:
                raise BufferError(f"max_waiting is {self.max_waiting} units; put less, or later.")
            self._add(units, arrival_ms)
            self._partial = partial
        self._notify()

    def end(self) -> None:
        """The source is complete. Ending twice is no error."""
        with self._changed:
            if not (self._ended or self._cancelled):
                last = "".join(self._partial).strip(" ")
                self._add([last] if last else [], None)
            self._partial, self._ended = [], True
        self._notify()

    def end_sentence(self) -> None:
        """A sentence is complete, with or without punctuation; only [`StreamEngine`] with `sentences` looks at it."""
        with self._changed:
            last = "".join(self._partial).strip(" ")
            self._add([last] if last else [], None)
            # Between characters, what waits is only the space before the next.
            self._partial = [] if last else self._partial
            if not self._sentence_ends or self._sentence_ends[-1] != self._put_units:
                self._sentence_ends.append(self._put_units)
        self._notify()

    def cancel(self) -> None:
        """Give the source up: the next READ raises [`SourceCancelled`], whatever still waits."""
        with self._changed:
            self._cancelled = True
        self._notify()

    @property
    def is_cancelled(self) -> bool:
        """Whether the source was given up."""
        return self._cancelled

    def poll(self) -> tuple[bool, str | None]:
        """Without waiting: `(True, unit)`, `(True, None)` at the end, `(False, None)` if nothing has come yet.

        Raises:
            SourceCancelled: if the source was given up.
        """
        with self._changed:
            if self._cancelled:
                raise SourceCancelled("the source was cancelled")
            if self._waiting:
                return True, self._waiting.popleft()
            return self._ended, None

    def sentence_ends_at(self, units: int) -> bool:
        """Whether the caller ended a sentence there.

        Args:
            units (`int`): of the source, from its start.
        """
        with self._changed:
            return units in self._sentence_ends

    def forget_sentence_ends(self, units: int) -> None:
        """Nobody will ask any more for ends up to there.

        Args:
            units (`int`): of the source, from its start.
        """
        with self._changed:
            while self._sentence_ends and self._sentence_ends[0] <= units:
                self._sentence_ends.popleft()

    def read(self) -> str | None:
        """Wait for the next unit; None at the end.

        Raises:
            SourceTimeout: after `timeout_s` without one.
            SourceCancelled: if the source was given up.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._ended or self._cancelled, self.timeout_s):
                raise SourceTimeout(f"no source came for {self.timeout_s} s")
        return self.poll()[1]

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back, from the writer's thread, whenever something changes."""
        self._listeners.append(callback)

    def bind(self, processor: Any) -> "SourceReader":
        """The reader of token ids that `generate()` takes.

        Raises:
            ValueError: if the processor counts other units.
        """
        if processor.unit != self.unit:
            raise ValueError(f"unit of the stream must be the processor's {processor.unit!r}, got {self.unit!r}.")
        return SourceReader(self, processor)

    def _complete(self, text: str) -> tuple[list[str], list[str]]:
        """The units that `text` completes, and what remains unfinished."""
        first, *rest = split_at_breaks(text)
        if self.unit != "char":
            pieces, units, partial = [first, *rest], [], list(self._partial)
            for index, piece in enumerate(pieces):
                if index and any(partial):
                    units.append("".join(partial))
                partial = [*([] if index else partial), piece]
            return units, [piece for piece in partial if piece]
        # The white space between two characters is a unit once the second is there.
        units, gap = [], bool(self._partial)
        for index, piece in enumerate([first, *rest]):
            gap = gap or (index > 0 and bool(units or self.arrivals_ms))
            if piece:
                units += ([" "] if gap else []) + list(piece)
                gap = False
        return units, [" "] if gap else []

    def _add(self, units: list[str], arrival_ms: float | None) -> None:
        self._waiting.extend(units)
        self._put_units += len(units)
        self.arrivals_ms.extend([arrival_ms] * len(units))

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
        for callback in list(self._listeners):
            callback()


class SourceReader:
    """Token ids of a [`SourceStream`], unit by unit.

    Attributes:
        units (`int`): units of the stream that were read.
    """

    is_known = False
    # A [`SentenceReader`] counts what came before its sentence; here all is one.
    words_before = 0

    def __init__(self, stream: SourceStream, processor: Any):
        self.stream, self.processor = stream, processor
        self.units = 0
        # Ids of units to come, and the text that each completes.
        self._ahead: deque[tuple[list[int], str | None]] = deque()
        self._waits_since: float | None = None

    def begin(self) -> bool | None:
        """Whether there is something to translate: True once a unit is there, False if the source has ended, None
        before.

        Raises:
            SourceTimeout, SourceCancelled: as [`SourceReader.poll`].
        """
        ready, ids = self.peek(0)
        self._note_wait(not ready)
        return ids is not None if ready else None

    def poll(self) -> tuple[bool, list[int] | None]:
        """As [`SourceStream.poll`], with ids.

        Raises:
            SourceTimeout: if the stream's time-out has passed since the first poll in vain.
            SourceCancelled: if the source was given up.
        """
        ready, ids = self.peek(0)
        self._note_wait(not ready)
        if ids is not None:
            self.units += self._ahead.popleft()[1] is not None
        return ready, ids

    def peek(self, index: int) -> tuple[bool, list[int] | None]:
        """What the poll after `index` more would give, without reading it.

        Args:
            index (`int`): units from here, 0 for the next.

        Raises:
            SourceCancelled: if the source was given up.
        """
        while len(self._ahead) <= index:
            ready, text = self.stream.poll()
            if text is None:
                return ready, None
            *first, last = self.processor.encode_piece(text)
            self._ahead += [*((ids, None) for ids in first), (last, text)]
        return True, self._ahead[index][0]

    def text(self, index: int) -> str | None:
        """The text that a unit to come completes; None for one within a text of several units, or one not there.

        Args:
            index (`int`): units from here, 0 for the next.
        """
        return self._ahead[index][1] if index < len(self._ahead) else None

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back whenever something changes."""
        self.stream.listen(callback)

    @property
    def wait_s(self) -> float | None:
        """Seconds until the time-out of the current wait; None without one."""
        if self.stream.timeout_s is None or self._waits_since is None:
            return self.stream.timeout_s
        return max(0.0, self.stream.timeout_s - (time.monotonic() - self._waits_since))

    def _note_wait(self, waits: bool) -> None:
        """Start or end the clock of the time-out."""
        now = time.monotonic()
        self._waits_since = (now if self._waits_since is None else self._waits_since) if waits else None
        if waits and self.wait_s == 0:
            raise SourceTimeout(f"no source came for {self.stream.timeout_s} s")


__all__ = ["SourceCancelled", "SourceReader", "SourceStream", "SourceTimeout"]
