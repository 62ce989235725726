# SPDX-License-Identifier: Apache-2.0
"""All that a server holds: models, sessions, rooms, tokens; what it refuses, and how it ends."""

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import anyio

from .failure import Failure
from .messages import PROTOCOL_VERSION, Notice, Start
from .metrics import Metrics
from .models import Served, choose
from .punctuation import EndsBetween
from .rooms import Listener, Rooms
from .session import Session
from .settings import Settings
from .tokens import Principal, Tokens
from .track import check_policy

_logger = logging.getLogger(__name__)
_SWEEP_S = 5.0


class Service:
    """What all connections share. Everything but the engines lives in one event loop.

    Args:
        served (`Sequence[Served]`): the models.
        settings (`Settings`, *optional*): limits.
        tokens (`Tokens`, *optional*): who may come; everybody without.
        metrics (`Metrics`, *optional*): those that the models were given.
        segmenters (`Mapping[str, Callable]`, *optional*): as for [`Session`].

    Attributes:
        running (`dict[Session, tuple]`): each stream that runs, with who opened it and the timer that ends it.
        held (`Counter[Principal]`): how many of them each has open.

    Raises:
        ValueError: without a model, or for a policy that streams may not follow.
    """

    def __init__(
        self,
        served: Sequence[Served],
        settings: Settings | None = None,
        tokens: Tokens | None = None,
        metrics: Metrics | None = None,
        segmenters: Mapping[str, EndsBetween] = MappingProxyType({}),
    ):
        if not served:
            raise ValueError("served must hold at least one model, got none.")
        self.served, self.settings, self.tokens = list(served), settings or Settings(), tokens or Tokens()
        for each in self.served:
            try:
                check_policy(self.settings.policy or each.policy, each.engine.model)
            except ValueError as error:
                raise ValueError(f"policy of model {each.name!r} cannot be followed: {error}") from error
        self.metrics, self.rooms = metrics or Metrics(), Rooms(self.settings)
        self.is_draining, self.segmenters = False, segmenters
        self.running: dict[Session, tuple[Principal, asyncio.TimerHandle]] = {}
        self.held: Counter[Principal] = Counter()
        self._changed, self._being_told = asyncio.Event(), 0
        self._sweeper: asyncio.Task[None] | None = None
        gauges, metrics = self.metrics.gauge, self.metrics
        gauges(metrics.rooms, lambda: len(self.rooms))
        gauges(metrics.listeners, lambda: self.rooms.listeners)
        gauges(metrics.is_draining, lambda: self.is_draining)
        gauges(metrics.waiting_words, lambda: sum(session.waiting_words for session in list(self.running)))
        gauges(metrics.unsent, lambda: sum(session.unsent for session in list(self.running)))

    def start(self) -> None:
        """Start the engines."""
        for served in self.served:
            served.engine.start()
        loop = asyncio.get_running_loop()
        # Figures are asked for in the loop's own thread.
        self.metrics.gauge(self.metrics.tasks, lambda: len(asyncio.all_tasks(loop)))
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """End all that runs, and the engines."""
        self.is_draining = True
        self.stop_all()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for served in self.served:
            # It waits for the forward that runs.
            await asyncio.to_thread(served.engine.close)

    @property
    def is_ready(self) -> bool:
        """Whether new streams are taken."""
        return not self.is_draining and not any(served.engine.is_closed for served in self.served)

    @property
    def sessions(self) -> int:
        """Streams that run."""
        return len(self.running)

    def open(self, start: Start, principal: Principal) -> Session:
        """Begin a stream; [`Service.release`] must follow.

        Args:
            start (`Start`): what the client wants.
            principal (`Principal`): who it is.

        Raises:
            Failure: if it is refused.
        """
        if start.version != PROTOCOL_VERSION:
            raise Failure("bad_version", f"This server speaks version {PROTOCOL_VERSION}, not {start.version}.")
        if not principal.speaks:
            raise Failure("forbidden", "This token may only listen to rooms.")
        if self.is_draining:
            raise Failure("draining", "This server is about to end and takes no new streams.")
        most = self.settings.streams_per_token
        if self.tokens and self.held[principal] >= most:
            raise Failure("too_many_streams", f"This token has {most} streams, as many as it may.", retry_after_s=5.0)
        session = Session(choose(self.served, start), start, self.settings, self.metrics, self.segmenters)
        self.held[principal] += 1
        late = Failure("total_timeout", f"A stream may last {self.settings.total_s:g} seconds.")
        timer = asyncio.get_running_loop().call_later(self.settings.total_s, session.stop, late)
        self.running[session] = (principal, timer)
        _logger.info("stream %s of %s begins", session.name, principal.name)
        return session

    def release(self, session: Session) -> None:
        """Free the places of a stream that is over or given up. Releasing it twice is no error.

        Args:
            session (`Session`): from [`Service.open`].
        """
        session.close()
        principal, timer = self.running.pop(session, (None, None))
        if principal is None or timer is None:
            return
        timer.cancel()
        self.held[principal] -= 1
        if not self.held[principal]:
            del self.held[principal]
        self._changed.set()
        reasons = ", ".join(f"{track.target_lang}: {track.stop_reason or 'given up'}" for track in session.tracks)
        _logger.info("stream %s ends (%s)", session.name, reasons)

    def leave(self, listener: Listener) -> None:
        """Remove a room's listener, which listens no more."""
        self.rooms.leave(listener)
        self._changed.set()

    @contextlib.contextmanager
    def last_words(self) -> Iterator[None]:
        """While a client is told why its stream ended, after its places were freed: [`Service.drain`] waits for it."""
        self._being_told += 1
        try:
            yield
        finally:
            self._being_told -= 1
            self._changed.set()

    def refuse(self, failure: Failure) -> None:
        """Count what is refused, or ended with an error."""
        self.metrics.refusals.labels(failure.code).inc()

    async def drain(self, seconds: float | None = None) -> None:
        """Take no new streams, and wait until those that run have ended; end those that have not in time.

        Args:
            seconds (`float`, *optional*): how long they get; the settings' without.
        """
        self.is_draining = True
        seconds = self.settings.drain_s if seconds is None else seconds
        text = f"This server ends in {math.ceil(seconds)} seconds: go on elsewhere at the end of a sentence."
        for session in list(self.running):
            session.say(Notice(code="draining", message=text, seconds=seconds))
        # Not asyncio.wait_for: until Python 3.12 it may swallow a cancellation that comes with what it waits for.
        with anyio.move_on_after(seconds):
            await self._wait_for_end()
        self.stop_all()
        # They say so to their clients, and go.
        with anyio.move_on_after(min(seconds, 5.0) + 1.0):
            await self._wait_for_end(with_listeners=True)

    async def _wait_for_end(self, with_listeners: bool = False) -> None:
        while self.running or self._being_told or (with_listeners and self.rooms.listeners):
            self._changed.clear()
            await self._changed.wait()

    def stop_all(self) -> None:
        """End all streams, and all listeners of rooms."""
        for session in list(self.running):
            session.stop(Failure("draining", "This server ends before the stream does."))
        for room in self.rooms:
            for listener in list(room.listeners):
                listener.stop(Failure("draining", "This server ends."))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.rooms.sweep()


__all__ = ["Service"]
