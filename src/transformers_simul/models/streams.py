# SPDX-License-Identifier: Apache-2.0
"""Source text that is still arriving; safe between threads."""

import logging
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any

from .source import Encoder, SourceCancelled, SourceProcessor, SourceTimeout
from .text import UNITS, split_at_breaks

_logger = logging.getLogger(__name__)


class SourceStream:
    """Source text as it arrives: the mirror image of `TextIteratorStreamer`. `generate()` blocks on it to READ.

    Pieces may be words, parts of words or paragraphs. A word is complete when white space or the end follows it.

    Args:
        text (`str`, *optional*): text that is already there.
        unit (`str`, *optional*): the processor's unit, `"word"`, `"char"` or `"token"`.
        timeout_s (`float`, *optional*): longest wait for one unit; then [`SourceTimeout`].
        max_waiting (`int`, *optional*): most units, or characters of an incomplete one, that may wait unread; then
            `put` raises `BufferError`.
        name (`str`, *optional*): what errors call it.
        goes_on (`bool`, *optional*): whether text came before, elsewhere: white space at the start of this one is then
            between two characters, and with `unit="char"` a unit.

    Raises:
        ValueError: for an unknown unit or a bound that is not above 0.

    Example:

    ```python
    >>> from transformers_simul import SourceStream
    >>> stream = SourceStream()
    >>> stream.put("A d"); stream.put("og ru")
    >>> stream.poll(), stream.poll(), stream.poll()
    ((True, 'A'), (True, 'dog'), (False, None))
    >>> stream.end()
    >>> stream.poll(), stream.poll()
    ((True, 'ru'), (True, None))

    ```
    """

    def __init__(
        self,
        text: str = "",
        unit: str = "word",
        timeout_s: float | None = None,
        max_waiting: int | None = None,
        name: str = "the source",
        goes_on: bool = False,
    ):
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {UNITS}, got {unit!r}.")
        for argument, value in (("timeout_s", timeout_s), ("max_waiting", max_waiting)):
            if value is not None and not value > 0:
                raise ValueError(f"{argument} must be above 0, got {value}.")
        self.unit, self.timeout_s, self.max_waiting, self.name = unit, timeout_s, max_waiting, name
        self.goes_on = goes_on
        self._lock = threading.Lock()
        self._waiting: deque[Any] = deque()
        # The pieces of the unit that is not complete yet, and their characters.
        self._partial: list[Any] = []
        self._partial_size = 0
        self._ended = False
        # Why the source was given up; empty while it is not.
        self._given_up = ""
        self._put_units = 0
        # Where among them the caller ended sentences, in ascending order.
        self._sentence_ends: list[int] = []
        self._listeners: list[Callable[[], None]] = []
        self._wait_listeners: list[Callable[[], None]] = []
        if text:
            self.put(text)

    def put(self, text: str) -> None:
        """Add a piece of source.

        Args:
            text (`str`): any piece of it.

        Raises:
            ValueError: if it is no string, or the source has ended, was given up or is read no more.
            BufferError: if more than `max_waiting` units would wait unread; nothing of the piece is taken then.
        """
        if not isinstance(text, str):
            raise ValueError(f"text must be a string, got {type(text).__name__}.")
        with self._lock:
            self._check_open(f"put({text[:40]!r})")
            units, left, goes_on = self._complete(text)
            waiting, size = len(self._waiting) + len(units), len(left) + (self._partial_size if goes_on else 0)
            self._check_waiting(waiting, f"{waiting} units")
            self._check_waiting(size, f"a unit of {size} characters")
            if not goes_on:
                self._partial.clear()
            if left:
                self._partial.append(left)
            self._partial_size = size
            self._add(units)
        if units:
            self._notify()

    def end(self) -> None:
        """End the source: it is complete. Ending twice is no error."""
        with self._lock:
            if not (self._ended or self._given_up):
                self._complete_partial()
            self._ended = True
        self._notify()

    def end_sentence(self) -> None:
        """End a sentence, with or without punctuation; only [`StreamEngine`] with `sentences` looks at it."""
        with self._lock:
            if self._ended or self._given_up:
                return
            self._complete_partial()
            if not self._sentence_ends or self._sentence_ends[-1] != self._put_units:
                self._sentence_ends.append(self._put_units)
        self._notify()

    def cancel(self, reason: str = "cancel()") -> None:
        """Give the source up: the next READ raises [`SourceCancelled`], whatever still waits. Only the first call
        counts.

        Args:
            reason (`str`, *optional*): what a `put` that comes later is told.
        """
        with self._lock:
            self._given_up = self._given_up or reason
        self._notify()

    @property
    def put_units(self) -> int:
        """Units put so far, complete ones."""
        return self._put_units

    @property
    def is_cancelled(self) -> bool:
        """Whether the source was given up."""
        return bool(self._given_up)

    def poll(self) -> tuple[bool, str | None]:
        """Return without waiting: `(True, unit)`, `(True, None)` at the end, or `(False, None)` if nothing has come.

        Raises:
            SourceCancelled: if the source was given up.
        """
        with self._lock:
            if self._given_up:
                raise SourceCancelled(f"{self.name} was given up: {self._given_up}")
            if self._waiting:
                return True, self._waiting.popleft()
            return self._ended, None

    def sentence_ends_at(self, units: int) -> bool:
        """Whether the caller ended a sentence there.

        Args:
            units (`int`): of the source, from its start.
        """
        with self._lock:
            place = bisect_left(self._sentence_ends, units)
            return self._sentence_ends[place : place + 1] == [units]

    def forget_sentence_ends(self, units: int) -> None:
        """Forget ends of sentences up to there, since nobody will ask for them any more.

        Args:
            units (`int`): of the source, from its start.
        """
        with self._lock:
            del self._sentence_ends[: bisect_right(self._sentence_ends, units)]

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back, from the writer's thread, whenever a poll may give something else. What it raises is logged."""
        self._listeners.append(callback)

    def listen_for_waits(self, callback: Callable[[], None]) -> None:
        """Call back, from the reader's thread, whenever a READ begins to wait for a unit."""
        self._wait_listeners.append(callback)

    def note_wait(self) -> None:
        """Called by the reader when a READ begins to wait."""
        for callback in self._wait_listeners:
            callback()

    def bind(self, processor: SourceProcessor) -> "SourceReader":
        """Return the reader of token ids that `generate()` takes.

        Args:
            processor (`SimulProcessor`): gives the ids of each unit.

        Raises:
            ValueError: if the processor counts other units.
        """
        if processor.source_unit != self.unit:
            raise ValueError(
                f"unit of {self.name} must be the processor's {processor.source_unit!r}, got {self.unit!r}."
            )
        return SourceReader(self, processor.source_encoder())

    def _check_open(self, what: str) -> None:
        if self._ended or self._given_up:
            raise ValueError(f"{self.name}: {what} came after {self._given_up or 'end()'}.")

    def _check_waiting(self, size: int, what: str) -> None:
        if self.max_waiting is not None and size > self.max_waiting:
            raise BufferError(
                f"{self.name}: max_waiting is {self.max_waiting}, but {what} would wait unread; put less, or later."
            )

    def _complete(self, text: str) -> tuple[list[str], str, bool]:
        """The units that `text` completes, what it leaves incomplete, and whether that goes on with what was."""
        first, *rest = split_at_breaks(text)
        if self.unit != "char":
            if not rest:
                return [], first, True
            *whole, left = rest
            begun = "".join([*self._partial, first])
            return [begun, *whole] if begun else whole, left, False
        # The white space between two characters is a unit once the second is there.
        units: list[str] = []
        gap = bool(self._partial)
        for index, piece in enumerate([first, *rest]):
            gap = gap or (index > 0 and (self.goes_on or bool(units or self._put_units)))
            if piece:
                units += ([" "] if gap else []) + list(piece)
                gap = False
        return units, " " if gap else "", False

    def _complete_partial(self) -> None:
        last = "".join(self._partial)
        # Between characters, what waits is only the space before the next.
        if self.unit != "char" and last:
            self._add([last])
            self._partial.clear()
            self._partial_size = 0

    def _add(self, units: list[str]) -> None:
        self._waiting.extend(units)
        self._put_units += len(units)

    def _notify(self) -> None:
        interrupt: BaseException | None = None
        for callback in list(self._listeners):
            try:
                callback()
            except Exception:
                # Neither the writer nor the other listeners are at fault.
                _logger.exception("A listener of %s failed.", self.name)
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


class SourceReader:
    """Token ids of a [`SourceStream`], unit by unit: a [`Source`].

    Attributes:
        units (`int`): units of the stream that were read.
    """

    is_known = False
    # A [`SentenceReader`] counts what came before its sentence; here all is one.
    words_before = 0

    def __init__(self, stream: SourceStream, encoder: Encoder):
        self.stream, self.encoder = stream, encoder
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
        self.note_wait(not ready)
        return ids is not None if ready else None

    def poll(self) -> tuple[bool, list[int] | None]:
        """As [`SourceStream.poll`], with ids.

        Raises:
            SourceTimeout: if the stream's time-out has passed since the first poll in vain.
            SourceCancelled: if the source was given up.
        """
        ready, ids = self.peek(0)
        self.note_wait(not ready)
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
            *first, last = self.encoder.encode_piece(text)
            self._ahead += [*((ids, None) for ids in first), (last, text)]
        return True, self._ahead[index][0]

    @property
    def units_ahead(self) -> int:
        """Units to come that were peeked."""
        return len(self._ahead)

    def text(self, index: int) -> str | None:
        """The text that a peeked unit completes; None for one within a text of several units.

        Args:
            index (`int`): units from here, 0 for the next; below `units_ahead`.
        """
        return self._ahead[index][1]

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back whenever something changes."""
        self.stream.listen(callback)

    @property
    def wait_s(self) -> float | None:
        """Seconds until the time-out of the current wait; None without one."""
        if self.stream.timeout_s is None or self._waits_since is None:
            return self.stream.timeout_s
        return max(0.0, self.stream.timeout_s - (time.monotonic() - self._waits_since))

    def note_wait(self, waits: bool) -> None:
        """Start or end the clock of the time-out.

        Args:
            waits (`bool`): whether a READ was in vain.

        Raises:
            SourceTimeout: if the stream's time-out has passed since the first READ in vain.
        """
        if not waits:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = time.monotonic()
            self.stream.note_wait()
        elif self.wait_s == 0:
            raise SourceTimeout(f"{self.stream.name}: no unit came within timeout_s={self.stream.timeout_s}")


__all__ = ["SourceReader", "SourceStream"]
