# SPDX-License-Identifier: Apache-2.0
"""The process: uvicorn around the application, what slow peers get of it, and its end."""

import asyncio
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .service import Service
from .settings import Settings

# The most bytes that the headers of an HTTP request may have.
_HEADER_BYTES = 16_384


class _CutsSlowReaders(asyncio.Protocol):
    """Cuts the connection of a peer that has not fetched what it was sent for `send_s`."""

    settings: Settings
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _full: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # Also what is little: a connection that is closed stays open until its peer has fetched the last byte.
        transport.set_write_buffer_limits(high=0)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full = self.loop.call_later(self.settings.send_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._full is not None:
            self._full.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._full is not None:
            self._full.cancel()
        super().connection_lost(exc)


class _WebSocket(_CutsSlowReaders, WebSocketsSansIOProtocol):
    """uvicorn's protocol for WebSockets."""


class _Http(_CutsSlowReaders, H11Protocol):
    """uvicorn's protocol for HTTP; a request, once begun, must be complete within `start_s`."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_request(self) -> None:
        is_whole = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        if is_whole or self.transport.is_closing() or self.transport.get_protocol() is not self:
            self._stop_waiting()
        elif self._late is None:
            self._late = self.loop.call_later(self.settings.start_s, self._give_up)

    def _give_up(self) -> None:
        self._late = None
        # A connection that idles between two requests is closed by uvicorn's own timer.
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and self.transport.get_protocol() is self:
            self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """uvicorn, which on SIGTERM or Ctrl-C lets the streams finish first; a second signal ends it at once.

    Args:
        config (`uvicorn.Config`): from [`make_server`].
        service (`Service`): of the application.
        on_start (`Callable[[str], None]`, *optional*): called with the address once it listens.
    """

    def __init__(self, config: uvicorn.Config, service: Service, on_start: Callable[[str], None] | None = None):
        super().__init__(config)
        self.service, self.on_start = service, on_start
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: Any = None) -> None:
        """As uvicorn's; then tells where it listens."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self.on_start is not None and self.started:
            self.on_start(self.url)

    @property
    def url(self) -> str:
        """The address at which it listens."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, and end at the second."""
        if self._loop is None or self._draining is not None or self.service.is_draining:
            self.force_exit = sig == signal.SIGINT
            self.should_exit = True
            return
        self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Let the streams finish, then end; called in the server's event loop."""
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        count = self.service.sessions
        if count:
            print(f"waiting for {count} streams to end, at most {self.service.settings.drain_s:g} s", file=sys.stderr)
        await self.service.drain()
        self.should_exit = True


def make_server(
    app: Any,
    service: Service,
    host: str = "127.0.0.1",
    port: int = 8000,
    on_start: Callable[[str], None] | None = None,
    root_path: str = "",
) -> Server:
    """Make a server, ready for `run()` or `await serve()`.

    Args:
        app: from [`build_app`].
        service (`Service`): of it.
        host (`str`, *optional*): address to listen on.
        port (`int`, *optional*): to listen on; 0 for a free one.
        on_start (`Callable[[str], None]`, *optional*): called with the address once it listens.
        root_path (`str`, *optional*): under which a proxy shows it.
    """
    settings = service.settings
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        # uvicorn makes them itself, one for each connection.
        http=type("Http", (_Http,), {"settings": settings}),
        ws=type("WebSocket", (_WebSocket,), {"settings": settings}),
        ws_max_size=settings.message_bytes,
        ws_ping_interval=settings.ping_s,
        ws_ping_timeout=settings.ping_s,
        # Messages are short; and what is compressed may be a thousand times as long as what was sent.
        ws_per_message_deflate=False,
        limit_concurrency=settings.connections,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=5,
        # Its log of requests would hold addresses of clients.
        access_log=False,
        log_level="warning",
        server_header=False,
        root_path=root_path,
    )
    return Server(config, service, on_start)


__all__ = ["Server", "make_server"]
