# SPDX-License-Identifier: Apache-2.0
"""One stream of a client: source out, words in, over as many connections as it takes."""

import asyncio
import math
import time
from collections import deque

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ..messages import (
    SERVER_MESSAGES,
    Cancel,
    End,
    Ended,
    EndSentence,
    Limits,
    Notice,
    Ping,
    SentenceEnd,
    SourcePiece,
    Start,
    Started,
    WordMessage,
)
from ..pace import Pace
from .connection import Line, receive, send
from .incoming import Incoming
from .kept import Kept

# Characters of a piece, and those that wait to be sent before `put` waits too.
_PIECE, _WAITING = 1000, 65_536
# The share that is used of what the server allows, since its clock is not ours.
_SHARE = 0.9
# Seconds that a stream which is given up may take to say so.
_GOODBYE_S = 2.0


class ClientStream(Incoming[WordMessage | SentenceEnd | Notice]):
    """A stream, from [`SimulClient.open`]; `async with` opens it, and gives it up where it is left early.

    `async for` gives its words, each once; `messages()` ends of sentences and warnings too.

    Args:
        line (`Line`): to the servers.
        start (`Start`): the first message.
        wait_s (`float`): how long to wait for a server that takes it.

    Attributes:
        started (`Started`): what the server that took it first said: languages, unit, limits.
        reason (`str`, *optional*): the stop reason, once it has ended by itself.
        reconnects (`int`): how often a lost connection was resumed.
    """

    started: Started

    def __init__(self, line: Line, start: Start, wait_s: float):
        super().__init__(line, "/v1/stream", wait_s)
        self._kept = Kept(start)
        self._begun_s = time.monotonic()
        self._outbox: deque[SourcePiece | EndSentence | End | Cancel] = deque()
        self._outbox_size = 0
        self._limits: Limits
        # When something was sent last.
        self._sent_s = 0.0
        self._has_ended = self._is_cancelled = False
        self.reason: str | None = None

    async def put(self, text: str, at_ms: float | None = None) -> None:
        """Send a piece of source; waits while too much of it waits to be sent. A stream that the server has ended takes
        it and drops it.

        Args:
            text (`str`): of any length; a word is complete once white space, `end_sentence` or `end` follows.
            at_ms (`float`, *optional*): when it came, in milliseconds on a clock of yours; that of `now_ms` without.

        Raises:
            ValueError: if it is no text, or came after `end` or `cancel`.
            ServerError, ConnectionLost: if the stream has failed.
        """
        if not isinstance(text, str):
            raise ValueError(f"text must be a string, got {type(text).__name__}.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("text must be what UTF-8 can hold, got half of a surrogate pair.") from None
        at_ms = self.now_ms if at_ms is None else at_ms
        for place in range(0, len(text), _PIECE):
            await self._add(SourcePiece(text=text[place : place + _PIECE], at_ms=at_ms))

    async def end_sentence(self) -> None:
        """End a sentence of the source, with or without punctuation.

        Raises:
            ValueError: if it came after `end` or `cancel`.
            ServerError, ConnectionLost: if the stream has failed.
        """
        await self._add(EndSentence())

    async def end(self) -> None:
        """End the source; the rest of the words follow. Ending twice is no error.

        Raises:
            ServerError, ConnectionLost: if the stream has failed.
        """
        if not self._has_ended:
            await self._add(End())
            self._has_ended = True

    async def cancel(self) -> None:
        """Cancel the translation: nobody wants the rest."""
        self._has_ended = self._is_cancelled = True
        self._outbox.clear()
        self._outbox_size = 0
        self._outbox.append(Cancel())
        self._ring()

    @property
    def now_ms(self) -> float:
        """Milliseconds since the stream was made: the clock of `source_at_ms`, unless `put` was told another."""
        return (time.monotonic() - self._begun_s) * 1000

    @property
    def source_words(self) -> int:
        """Source units that were sent, as the server counts them; what `put` has taken may still wait."""
        return self._kept.source_words

    async def flush(self) -> None:
        """Wait until all that was put is sent.

        Raises:
            ServerError, ConnectionLost: if the stream has failed.
        """
        while self._outbox and not self._is_over:
            await self._change()
        self._check()

    async def close(self) -> None:
        """Give the stream up if it has not ended, and its connection."""
        if self._work is not None and not self._is_over and self._progress:
            # A room is over then; a lost connection would leave it waiting for its speaker.
            await self.cancel()
            await asyncio.wait([self._work], timeout=_GOODBYE_S)
        await super().close()

    async def _add(self, message: SourcePiece | EndSentence | End) -> None:
        if self._has_ended:
            raise ValueError("put and end_sentence must come before end and cancel.")
        while self._outbox_size > _WAITING and not self._is_over:
            await self._change()
        self._check()
        if self._work is not None and self._is_over:
            # The server has ended the stream: nobody takes it.
            return
        self._outbox.append(message)
        self._outbox_size += len(message.text) if isinstance(message, SourcePiece) else 0
        self._ring()

    async def _greet(self, socket: ClientConnection) -> bool:
        if self._is_cancelled:
            self.reason = "cancelled"
            return False
        await send(socket, self._kept.start())
        started = await receive(socket, SERVER_MESSAGES, Started)
        self._kept.begin(started)
        if not self._progress:
            self.started = started
        self._limits, self._sent_s = started.limits, time.monotonic()
        self._agree()
        return True

    async def _converse(self, socket: ClientConnection) -> None:
        hearing = asyncio.create_task(self._hear(socket))
        sending = asyncio.create_task(self._send_all(socket))
        try:
            await asyncio.wait([hearing, sending], return_when=asyncio.FIRST_COMPLETED)
            # A closed connection may still hold what the server said last.
            if sending.done() and not isinstance(sending.exception(), ConnectionClosed):
                sending.result()
            await hearing
        finally:
            hearing.cancel()
            sending.cancel()
            await asyncio.gather(hearing, sending, return_exceptions=True)

    async def _hear(self, socket: ClientConnection) -> None:
        while True:
            message = await receive(socket, SERVER_MESSAGES, WordMessage, SentenceEnd, Notice, Ended)
            if isinstance(message, Ended):
                self.reason = message.reason
                return
            if isinstance(message, Notice) or self._kept.heard(message):
                self._take(message)

    async def _send_all(self, socket: ClientConnection) -> None:
        """Send what was sent before, if the stream goes on; then what comes, and pings while nothing does."""
        limits = self._limits
        longest = max(1, min(_PIECE, limits.burst_words // 2, limits.waiting_words // 2))
        pace = Pace(limits.words_per_second * _SHARE, max(longest, limits.burst_words * _SHARE))
        for message in list(self._kept.again(longest)):
            await self._send(socket, message, self._kept.count(message), pace)
        while True:
            if not self._outbox:
                await self._quiet(socket)
                continue
            next_message = self._outbox.popleft()
            if isinstance(next_message, Cancel):
                await send(socket, next_message)
                return
            message = next_message
            if isinstance(message, SourcePiece):
                self._outbox_size -= len(message.text)
                if len(message.text) > longest:
                    rest = message.model_copy(update={"text": message.text[longest:]})
                    self._outbox.appendleft(rest)
                    self._outbox_size += len(rest.text)
                    message = message.model_copy(update={"text": message.text[:longest]})
            # Kept first: what is not sent for certain is sent again.
            words = self._kept.add(message)
            self._ring()
            await self._send(socket, message, words, pace)

    async def _send(
        self, socket: ClientConnection, message: SourcePiece | EndSentence | End, words: int, pace: Pace
    ) -> None:
        """Send a message once the server takes so many words."""
        while not pace.take(words) and not self._is_cancelled:
            await self._quiet(socket, min(1.0, words / self._limits.words_per_second))
        while self._kept.words_ahead > self._limits.waiting_words * _SHARE and not self._is_cancelled:
            await self._quiet(socket)
        if not self._is_cancelled:
            await send(socket, message)
            self._sent_s = time.monotonic()

    async def _quiet(self, socket: ClientConnection, longest_s: float = math.inf) -> None:
        """Wait until something has changed; who has sent nothing for long, whatever came, tells that it is there."""
        due_s = self._sent_s + max(self._limits.idle_s / 3, 0.05)
        await self._change(max(0.0, min(due_s - time.monotonic(), longest_s)))
        if time.monotonic() >= due_s:
            await send(socket, Ping())
            self._sent_s = time.monotonic()


__all__ = ["ClientStream"]
