# SPDX-License-Identifier: Apache-2.0
"""Connections to a server or to one of several, one after the other until all is said."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, TypeAdapter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_after_delay
from tenacity.wait import wait_random_exponential
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from ..messages import Error
from .failures import ConnectionLost, ServerError

_logger = logging.getLogger(__name__)
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
# Seconds between two attempts: a random part of 0.5, 1, 2 ... 10.
_BACKOFF = wait_random_exponential(multiplier=0.5, max=10)
# A connection that lasted so long, in seconds, was a good one, even if nothing was said.
_GOOD_S = 5.0
# Seconds: a connection that answers no ping for so long is lost, and a lost one is not waited for.
_OPTIONS: dict[str, Any] = {"ping_interval": 10, "ping_timeout": 10, "close_timeout": 2}
# What a connection that fails, breaks off or is refused before the protocol's first message raises.
_BROKEN = (OSError, EOFError, InvalidHandshake, ConnectionClosed, asyncio.TimeoutError)

Converse = Callable[[ClientConnection], Awaitable[None]]


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

    async def keep(self, path: str, converse: Converse, progress: Callable[[], int], wait_s: float) -> None:
        """Converse until a conversation comes to its end, on as many connections as it takes.

        Args:
            path (`str`): of the WebSocket.
            converse (`Callable`): a conversation, from its first message on; returns at the end of all, and raises if
                it was cut off.
            progress (`Callable[[], int]`): what was achieved so far; 0 until a server has agreed.
            wait_s (`float`): how long to wait for a server that agrees.

        Raises:
            ServerError: if a server said that something is wrong, or refused for too long.
            ConnectionLost: if no server could be reached for too long.
        """
        while True:
            patience_s = self.give_up_s if progress() else wait_s
            stop = stop_after_delay(patience_s) & stop_after_attempt(len(self.urls))
            try:
                async for attempt in AsyncRetrying(
                    retry=retry_if_exception(_may_pass), wait=self._pause, stop=stop, reraise=True
                ):
                    with attempt:
                        is_over = await self._once(path, converse, progress)
            except _BROKEN as error:
                url = self.urls[(self._turn - 1) % len(self.urls)]
                tried = f", tried for {patience_s:g} s" if patience_s and _may_pass(error) else ""
                raise ConnectionLost(f"no connection to {url}{tried}: {_why(error)}") from error
            if is_over:
                return

    async def _once(self, path: str, converse: Converse, progress: Callable[[], int]) -> bool:
        """One connection. Whether all is over; an error that may pass is raised only if nothing was achieved."""
        url = self.urls[self._turn % len(self.urls)]
        self._turn += 1
        before, began_s = progress(), time.monotonic()
        try:
            async with connect(url + path, additional_headers=self.headers, **_OPTIONS) as socket:
                await converse(socket)
            return True
        except Exception as error:
            if not _may_pass(error):
                raise
            if progress():
                _logger.info("lost the connection to %s: %s", url, _why(error))
                if self.on_lost is not None:
                    self.on_lost(error)
            if progress() > before or (before and time.monotonic() - began_s > _GOOD_S):
                return False
            raise

    def _pause(self, state: RetryCallState) -> float:
        if state.attempt_number < len(self.urls):
            return 0.0
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, ServerError) else None
        # On top of what the server asks for: whom it refused together must not come back together.
        return (asked_s or 0.0) + _BACKOFF(state)


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
    return " ".join(str(error).split()) or type(error).__name__


async def send(socket: ClientConnection, message: BaseModel) -> None:
    """Send a message.

    Args:
        socket (`ClientConnection`): where.
        message (`BaseModel`): of the protocol.
    """
    await socket.send(message.model_dump_json(exclude_none=True))


async def receive(socket: ClientConnection, adapter: TypeAdapter[Any], *kinds: type[BaseModel]) -> Any:
    """The next message of these kinds; others, also those of a newer server, are passed over.

    Args:
        socket (`ClientConnection`): where.
        adapter (`TypeAdapter`): of the messages that may come.
        *kinds (`type[BaseModel]`): of them.

    Raises:
        ServerError: if it is an error.
        ConnectionClosed: if the connection was closed.
    """
    types = {"error", *(kind.model_fields["type"].default for kind in kinds)}
    while True:
        text = await socket.recv()
        if json.loads(text).get("type") in types:
            message = adapter.validate_json(text)
            if isinstance(message, Error):
                raise ServerError(message)
            return message


__all__ = ["Line", "receive", "send", "socket_url"]
