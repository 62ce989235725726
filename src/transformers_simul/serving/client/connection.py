# SPDX-License-Identifier: Apache-2.0
"""Connections to a server or to one of several, one after the other until all is said."""

import asyncio
import logging
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import anyio
from pydantic import BaseModel, TypeAdapter, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_after_delay
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from ...text_files import one_line
from ..messages import Error, what_is_wrong
from .failures import ConnectionLost, ServerError

_logger = logging.getLogger(__name__)
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
# A connection that lasted so long, in seconds, since the server agreed, was a good one, even if nothing was said.
GOOD_S = 5.0
# Seconds: a server that takes a connection and does not answer its first message for so long is none, and no server is
# waited for longer because it asks for that.
ANSWER_S, _MOST_ASKED_S = 30.0, 60.0
# Seconds: a connection that answers no ping for so long is lost, and a lost one is not waited for.
_OPTIONS: dict[str, Any] = {"ping_interval": 10, "ping_timeout": 10, "close_timeout": 2}
# What a connection that fails, breaks off or is refused before the protocol's first message raises.
_BROKEN = (OSError, EOFError, InvalidHandshake, ConnectionClosed, asyncio.TimeoutError)

Greet = Callable[[ClientConnection], Awaitable[bool]]
Converse = Callable[[ClientConnection], Awaitable[None]]


class _Cut(NamedTuple):
    """A connection that got somewhere and was lost."""

    error: Exception
    was_good: bool


def backoff_s(number: int) -> float:
    """Draw the seconds before the next attempt, by the number of those that failed: a part of 0.5, 1, 2 ... 10."""
    return random.uniform(0.0, min(10.0, 0.5 * 2 ** min(number - 1, 10)))


def socket_url(url: str) -> str:
    """The WebSocket address of a server.

    Args:
        url (`str`): its address, with `http`, `https`, `ws` or `wss`, and a path if a proxy shows it under one.

    Raises:
        ValueError: if it is none.

    Example:

    ```python
    >>> from transformers_simul.serving.client.connection import socket_url
    >>> socket_url("https://captions.example/live/")
    'wss://captions.example/live'

    ```
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if is_address and "@" in parts.netloc:
        raise ValueError("url must not hold a name or password: the server takes a token.")
    if not is_address or parts.query or parts.fragment:
        raise ValueError(f"url must be an address such as 'http://127.0.0.1:8000', got {url!r}.")
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, parts.path.rstrip("/"), "", ""))


class Line:
    """A line to servers: which, with what token, and how long a silence of theirs is borne.

    Args:
        urls (`Sequence[str]`): of servers with the same models; each attempt takes the next.
        token (`str`, *optional*): that they ask for.
        give_up_s (`float`): how long to try to get a lost connection back.
        on_lost (`Callable[[Exception], None]`, *optional*): called whenever a connection is lost.

    Raises:
        ValueError: for an address, a token or a time that is none.
    """

    def __init__(
        self,
        urls: Sequence[str],
        token: str | None,
        give_up_s: float,
        on_lost: Callable[[Exception], None] | None,
    ):
        if not urls:
            raise ValueError("urls must hold at least one address, got none.")
        if not give_up_s >= 0:
            raise ValueError(f"give_up_s must be at least 0, got {give_up_s}.")
        # Whatever it is, it is not shown.
        if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ValueError("token must be of printable ASCII characters without spaces, and is not.")
        self.urls = [socket_url(url) for url in urls]
        self.give_up_s, self.on_lost = give_up_s, on_lost
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._turn = 0

    async def keep(
        self, path: str, greet: Greet, converse: Converse, progress: Callable[[], int], wait_s: float
    ) -> None:
        """Converse until a conversation comes to its end, on as many connections as it takes.

        Args:
            path (`str`): of the WebSocket.
            greet (`Callable`): its first message, and the server's agreement; False if nothing is wanted any more.
            converse (`Callable`): what follows; returns at the end of all, and raises if it was cut off.
            progress (`Callable[[], int]`): what was achieved so far; 0 until a server has agreed.
            wait_s (`float`): how long to wait for a server that agrees.

        Raises:
            ServerError: if a server said that something is wrong, or refused for too long.
            ConnectionLost: if no server could be reached for too long.
        """
        brief = 0
        while True:
            patience_s = self.give_up_s if progress() else wait_s
            stop = stop_after_delay(patience_s) & stop_after_attempt(len(self.urls))
            try:
                async for attempt in AsyncRetrying(
                    retry=retry_if_exception(_may_pass), wait=self._pause, stop=stop, reraise=True
                ):
                    with attempt:
                        cut = await self._once(path, greet, converse, progress)
            except _BROKEN as error:
                url = self.urls[(self._turn - 1) % len(self.urls)]
                tried = f", tried for {patience_s:g} s" if patience_s and _may_pass(error) else ""
                raise ConnectionLost(f"no connection to {url}{tried}: {_why(error)}") from error
            if cut is None:
                return
            # Who gets a word of each connection would come back a thousand times a second.
            brief = 1 if cut.was_good else brief + 1
            await asyncio.sleep(_asked_s(cut.error) + backoff_s(brief))

    async def _once(self, path: str, greet: Greet, converse: Converse, progress: Callable[[], int]) -> _Cut | None:
        """Converse on one connection. Return None if all is over; an error that may pass is raised only if nothing was
        achieved."""
        url = self.urls[self._turn % len(self.urls)]
        self._turn += 1
        before, agreed_s = progress(), math.inf
        try:
            async with connect(url + path, additional_headers=self.headers, **_OPTIONS) as socket:
                if await _answered(greet(socket)):
                    agreed_s = time.monotonic()
                    await converse(socket)
            return None
        except Exception as error:
            if not _may_pass(error):
                raise
            if progress():
                _logger.info("lost the connection to %s: %s", url, _why(error))
                if self.on_lost is not None:
                    self.on_lost(error)
            was_good = time.monotonic() - agreed_s > GOOD_S
            if progress() > before or was_good:
                return _Cut(error, was_good)
            raise

    def _pause(self, state: RetryCallState) -> float:
        if state.attempt_number < len(self.urls):
            return 0.0
        error = state.outcome.exception() if state.outcome else None
        # Added to what the server asks for, so that clients refused together do not return together.
        return _asked_s(error) + backoff_s(state.attempt_number)


async def _answered(greeting: Awaitable[bool]) -> bool:
    """Wait for a greeting, but not for ever for a server that says nothing."""
    try:
        with anyio.fail_after(ANSWER_S):
            return await greeting
    except TimeoutError:
        raise TimeoutError(f"the server did not answer the first message for {ANSWER_S:g} s") from None


def _asked_s(error: BaseException | None) -> float:
    """How long the server asks its clients to stay away."""
    asked_s = error.retry_after_s if isinstance(error, ServerError) else None
    return min(max(0.0, asked_s or 0.0), _MOST_ASKED_S)


def _may_pass(error: BaseException) -> bool:
    """Whether trying again, here or elsewhere, may help."""
    if isinstance(error, ServerError):
        return error.action != "fix"
    if isinstance(error, InvalidStatus):
        return error.response.status_code >= 500
    if isinstance(error, ConnectionClosed):
        # 1008, 1009: what we send is not taken, and would not be the next time.
        return error.rcvd is None or error.rcvd.code not in (1008, 1009)
    return isinstance(error, _BROKEN)


def _why(error: Exception) -> str:
    return one_line(error) or type(error).__name__


async def send(socket: ClientConnection, message: BaseModel) -> None:
    """Send a message.

    Args:
        socket (`ClientConnection`): where.
        message (`BaseModel`): of the protocol.
    """
    await socket.send(message.model_dump_json(exclude_none=True))


class _Any(BaseModel):
    type: str


async def receive(socket: ClientConnection, adapter: TypeAdapter[Any], *kinds: type[BaseModel]) -> Any:
    """The next message of these kinds; others, also those of a newer server, are passed over.

    Args:
        socket (`ClientConnection`): where.
        adapter (`TypeAdapter`): of the messages that may come.
        *kinds (`type[BaseModel]`): of them.

    Raises:
        ServerError: if it is an error.
        ConnectionClosed: if the connection was closed.
        ValueError: if it is no message of the protocol.
    """
    types = {"error", *(kind.model_fields["type"].default for kind in kinds)}
    while True:
        text = await socket.recv()
        try:
            if _Any.model_validate_json(text).type not in types:
                continue
            message = adapter.validate_json(text)
        except ValidationError as error:
            raise ValueError(f"the server sent what is no message of the protocol: {what_is_wrong(error)}.") from None
        if isinstance(message, Error):
            raise ServerError(message)
        return message


__all__ = ["Line", "receive", "send", "socket_url"]
