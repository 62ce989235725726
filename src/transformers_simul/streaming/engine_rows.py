# SPDX-License-Identifier: Apache-2.0
"""The rows of an engine's cache: the streams that have them, and the forwards that answer these."""

import logging
import threading
from collections.abc import Generator
from typing import NamedTuple

from ..models.cache import SimulCache
from ..models.choosing import Answer
from ..models.decoding import decode_step
from ..models.room import with_room
from ..models.row import Ask
from ..models.seam import StreamingModel
from .stream_life import StreamLife

_logger = logging.getLogger(__name__)


class _Run(NamedTuple):
    """A stream that has a place. The generator knows the life, not the other way round: no circle keeps either."""

    life: StreamLife
    steps: Generator[Ask | None, list[Answer] | None, str]


class EngineRows:
    """Runs the streams of a [`StreamEngine`], each in a row of its cache. One thread at a time may call it.

    Args:
        model (`StreamingModel`): answers.
        cache (`SimulCache`): holds what the streams have read and written.
        max_step_tokens (`int`): most tokens of one forward, unless a single stream asks for more.
        free (`list[int]`): gets each row whose stream has ended.
        changed (`threading.Condition`): guards `free`, and is notified then.

    Attributes:
        worker (`threading.Thread`, *optional*): the engine's own thread. A `KeyboardInterrupt` there can only be a
            callback's, and ends the stream alone; elsewhere it is Ctrl-C, which belongs to the caller who steps.
    """

    def __init__(
        self,
        model: StreamingModel,
        cache: SimulCache,
        max_step_tokens: int,
        free: list[int],
        changed: threading.Condition,
    ):
        self.model, self.cache, self.max_step_tokens = model, cache, max_step_tokens
        self._free, self._changed = free, changed
        self.worker: threading.Thread | None = None
        self._runs: dict[int, _Run] = {}
        # Rows that wait for source, and those that wait for a forward in the order in which they began to.
        self._waiting: set[int] = set()
        self._asks: dict[int, Ask] = {}
        # The head that each row's cache begins with.
        self._heads: dict[int, list[int]] = {}

    def add(self, row: int, life: StreamLife) -> None:
        """Begin a stream in a free row. Streams of the same languages begin alike, and a row computes their head once;
        if the last stream of this row had another, it is forgotten.

        Args:
            row (`int`): of the cache.
            life (`StreamLife`): of the stream.
        """
        if self._heads.get(row) != life.kept.head:
            self.cache.clear(row)
            self._heads[row] = life.kept.head
        self._runs[row] = _Run(life, life.run())
        self._waiting.add(row)

    def step(self) -> int:
        """Run one forward, and return how many streams it answered."""
        try:
            return self._step()
        except BaseException as error:
            # Those whose answer or turn got lost would wait for ever.
            for row in set(self._runs) - self._waiting - set(self._asks):
                self._close(row, "error", error)
            raise

    def _step(self) -> int:
        for row in list(self._waiting):
            self._advance(row, None)
        asks: dict[int, Ask] = {}
        tokens = 0
        for row, ask in self._asks.items():
            tokens += ask.tokens
            if asks and tokens > self.max_step_tokens:
                break
            asks[row] = ask
        for row in asks:
            del self._asks[row]
        if not asks:
            return 0
        try:
            answers = decode_step(self.model, self.cache, asks)
        except BaseException as error:
            for row in asks:
                self._close(row, "error", error)
            self._raise_interrupt(error)
        else:
            for row in asks:
                self._advance(row, answers[row])
        return len(asks)

    @property
    def wait_s(self) -> float | None:
        """Seconds until the first wait for source times out; None without a time-out."""
        waits = [self._runs[row].life.reader.wait_s for row in self._waiting]
        return min((wait for wait in waits if wait is not None), default=None)

    def close_all(self, reason: str, error: BaseException | None) -> None:
        """End every stream.

        Args:
            reason (`str`): to stop.
            error (`BaseException`, *optional*): what went wrong.
        """
        for row in list(self._runs):
            self._close(row, reason, error)

    def _advance(self, row: int, answer: list[Answer] | None) -> None:
        """Let a stream go on until it asks, waits or ends; what goes wrong in it ends it alone."""
        self._waiting.discard(row)
        if self._runs[row].life.stream.source.is_cancelled:
            # Nobody wants the rest, even where nothing is left to READ.
            self._close(row, "cancelled")
            return
        try:
            steps = self._runs[row].steps
            ask, reason = with_room(steps, steps.send(answer), self.model.config, self.cache, row)
        except StopIteration as end:
            self._close(row, end.value)
        except BaseException as error:
            # Whatever a policy, a processor or a criterion raises, SystemExit and CancelledError too.
            self._close(row, "error", error)
            self._raise_interrupt(error)
        else:
            if ask is None:
                self._waiting.add(row)
            elif reason:
                self._close(row, reason)
            else:
                self._asks[row] = ask

    def _close(self, row: int, reason: str, error: BaseException | None = None) -> None:
        """End a stream and free its row."""
        stream = self._runs.pop(row).life.stream
        self._waiting.discard(row)
        self._asks.pop(row, None)
        try:
            stream.finish(reason, error)
        except BaseException as failure:
            # A listener of the source; what was to be done is done.
            _logger.exception("A listener of %s failed.", stream.source.name)
            self._raise_interrupt(failure)
        finally:
            # The head stays, unless its forward failed half-way.
            self.cache.clear(row, keep=0 if error else len(self._heads[row]))
            with self._changed:
                self._free.append(row)
                self._changed.notify()

    def _raise_interrupt(self, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is not self.worker:
            raise error


__all__ = ["EngineRows"]
