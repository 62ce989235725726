# SPDX-License-Identifier: Apache-2.0
"""The client without asyncio."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..messages import Notice, RoomState, SentenceEnd, Started, WordMessage
from .client import SimulClient
from .incoming import Incoming
from .room import RoomListener
from .stream import ClientStream

Message = TypeVar("Message")


class _Plain(Generic[Message]):
    """Messages of an [`Incoming`] whose event loop runs in a thread of its own."""

    def __init__(self, portal: BlockingPortal, incoming: Incoming[Message]):
        self._portal, self._incoming = portal, incoming
        self._messages: AsyncIterator[Message] = incoming.messages()

    def messages(self) -> Iterator[Message]:
        """All that the server says, to the end. It may be left, and taken up later.

        Raises:
            ServerError, ConnectionLost: if it fails; after what came before.
        """
        while (message := self._portal.call(self._next)) is not None:
            yield message

    async def _next(self) -> Message | None:
        try:
            return await anext(self._messages, None)
        except Exception:
            # Who asks again is told again; a generator that has failed only ends.
            self._messages = self._incoming.messages()
            raise

    def __iter__(self) -> Iterator[WordMessage]:
        for message in self.messages():
            if isinstance(message, WordMessage):
                yield message

    @property
    def reconnects(self) -> int:
        """How often a lost connection was resumed."""
        return self._incoming.reconnects


class PlainStream(_Plain[WordMessage | SentenceEnd | Notice]):
    """A stream, from [`PlainSimulClient.open`]. One thread may put source while another takes words."""

    def __init__(self, portal: BlockingPortal, stream: ClientStream):
        super().__init__(portal, stream)
        self._stream = stream

    def put(self, text: str, at_ms: float | None = None) -> None:
        """As [`ClientStream.put`]."""
        self._portal.call(self._stream.put, text, at_ms)

    def end_sentence(self) -> None:
        """As [`ClientStream.end_sentence`]."""
        self._portal.call(self._stream.end_sentence)

    def end(self) -> None:
        """As [`ClientStream.end`]."""
        self._portal.call(self._stream.end)

    def cancel(self) -> None:
        """As [`ClientStream.cancel`]."""
        self._portal.call(self._stream.cancel)

    def flush(self) -> None:
        """As [`ClientStream.flush`]."""
        self._portal.call(self._stream.flush)

    @property
    def started(self) -> Started:
        """What the server that took it first said."""
        return self._stream.started

    @property
    def reason(self) -> str | None:
        """The stop reason, once it has ended by itself."""
        return self._stream.reason

    @property
    def now_ms(self) -> float:
        """As [`ClientStream.now_ms`]."""
        return self._stream.now_ms

    @property
    def source_words(self) -> int:
        """As [`ClientStream.source_words`]."""
        return self._stream.source_words


class PlainListener(_Plain[WordMessage | SentenceEnd | RoomState]):
    """A listener, from [`PlainSimulClient.listen`]."""

    def __init__(self, portal: BlockingPortal, listener: RoomListener):
        super().__init__(portal, listener)
        self._listener = listener

    @property
    def state(self) -> RoomState:
        """The room's state as it was told last."""
        return self._listener.state


class PlainSimulClient:
    """[`SimulClient`] for programs without asyncio: the same arguments, and `with` and `for` without `async`.

    Example:

    ```python
    with PlainSimulClient("http://127.0.0.1:8000").open(policy="wait-3") as stream:
        stream.put("A dog runs over the meadow. ")
        stream.end()
        for word in stream:
            print(word.text, "after", word.delay, "source words")
    ```
    """

    def __init__(self, *urls: str, **options: Any):
        self._client = SimulClient(*urls, **options)

    @contextlib.contextmanager
    def open(self, **options: Any) -> Iterator[PlainStream]:
        """Open a stream for the time of a `with` block.

        Args:
            **options: as of [`SimulClient.open`].

        Yields:
            `PlainStream`: the stream, which the server has taken.

        Raises:
            ValueError, ServerError, ConnectionLost: as [`SimulClient.open`] and its `async with`.
        """
        opened = self._client.open(**options)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(opened) as stream:
            yield PlainStream(portal, stream)

    @contextlib.contextmanager
    def listen(self, room: str, target_langs: Any = None, **options: Any) -> Iterator[PlainListener]:
        """Listen to a room for the time of a `with` block.

        Args:
            room (`str`): its name.
            target_langs (`Sequence[str]`, *optional*): of these; all without.
            **options: further ones of [`SimulClient.listen`].

        Yields:
            `PlainListener`: the listener, which is connected.

        Raises:
            ValueError, ServerError, ConnectionLost: as [`SimulClient.listen`] and its `async with`.
        """
        opened = self._client.listen(room, target_langs, **options)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(opened) as listener:
            yield PlainListener(portal, listener)


__all__ = ["PlainListener", "PlainSimulClient", "PlainStream"]
