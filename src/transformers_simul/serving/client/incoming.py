# SPDX-License-Identifier: Apache-2.0
"""What a stream and a listener have in common: messages that come, on as many connections as it takes."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, TypeVar

import anyio
from websockets.asyncio.client import ClientConnection

from ..messages import WordMessage
from .connection import Line

Message = TypeVar("Message")
# Messages that may wait for the caller to read them: hours of speech.
MOST_UNREAD = 100_000
Self = TypeVar("Self", bound="Incoming[Any]")


class Incoming(Generic[Message]):
    """Messages of a server, while the block of `async with` lasts.

    Args:
        line (`Line`): to the servers.
        path (`str`): of the WebSocket.
        wait_s (`float`): how long to wait for a server that agrees.

    Attributes:
        reconnects (`int`): how often a lost connection was got back.
    """

    def __init__(self, line: Line, path: str, wait_s: float):
        self._line, self._path, self._wait_s = line, path, wait_s
        self._inbox: deque[Message] = deque()
        # Messages that were new, and one for the first agreement; 0 before that.
        self._progress = 0
        self._failure: BaseException | None = None
        self._work: asyncio.Task[None] | None = None
        # Set whenever something came, went or ended, and then replaced.
        self._bell = asyncio.Event()
        self.reconnects = 0

    async def __aenter__(self: Self) -> Self:
        self._work = asyncio.create_task(self._run())
        try:
            while not self._progress and not self._work.done():
                await self._change()
        except BaseException:
            await self.close()
            raise
        if not self._progress:
            self._check()
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def messages(self) -> AsyncIterator[Message]:
        """Yield all that the server says, to the end. The loop may be left, and taken up later.

        Raises:
            ServerError, ConnectionLost: if it fails; after what came before.
            BufferError: if more than 100,000 messages had to wait to be read.
            ValueError: if a server breaks the protocol.
        """
        while True:
            while self._inbox:
                yield self._inbox.popleft()
            if self._is_over:
                break
            await self._change()
        self._check()

    async def __aiter__(self) -> AsyncIterator[WordMessage]:
        """Yield words alone."""
        async for message in self.messages():
            if isinstance(message, WordMessage):
                yield message

    async def close(self) -> None:
        """Give up what has not ended, and the connection."""
        if self._work is not None:
            self._work.cancel()
            # Its cancellation ends here; one of the caller's own goes on.
            await asyncio.wait([self._work])

    @property
    def _is_over(self) -> bool:
        return self._work is None or self._work.done()

    async def _run(self) -> None:
        try:
            await self._line.keep(self._path, self._greet, self._converse, lambda: self._progress, self._wait_s)
        except Exception as error:
            # Raised where somebody waits for a message, or sends one.
            self._failure = error
        finally:
            # Once this task is done.
            asyncio.get_running_loop().call_soon(self._ring)

    async def _greet(self, socket: ClientConnection) -> bool:
        """The first message and its answer; False if nothing is wanted any more."""
        raise NotImplementedError

    async def _converse(self, socket: ClientConnection) -> None:
        raise NotImplementedError

    def _agree(self) -> None:
        """Note that the server agreed."""
        if self._progress:
            self.reconnects += 1
        else:
            self._progress = 1
        self._ring()

    def _take(self, message: Message, is_progress: bool = True) -> None:
        if len(self._inbox) >= MOST_UNREAD:
            raise BufferError(f"messages must be read as they come: {MOST_UNREAD:,} wait.")
        self._inbox.append(message)
        self._progress += is_progress
        self._ring()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _ring(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()

    async def _change(self, timeout_s: float | None = None) -> bool:
        """Wait until something has changed, or for so long; whether it has."""
        # Not asyncio.wait_for: until Python 3.12 it may swallow a cancellation that comes with what it waits for.
        with anyio.move_on_after(timeout_s) as scope:
            await self._bell.wait()
        return not scope.cancelled_caught


__all__ = ["Incoming"]
