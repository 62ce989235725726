# SPDX-License-Identifier: Apache-2.0
"""What may reach the application: our host names, allowed origins, short bodies; and the headers of its answers."""

from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from .failure import Failure
from .gate import Gate

_HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


class Guard(Gate):
    """ASGI middleware.

    A page elsewhere must not use a visitor's browser to reach a server that listens for this machine alone. So a
    request that names an origin must come from the server's own pages or an allowed one; and without tokens the server
    answers only to names that are its own.

    Args:
        app: the application within.
        body_bytes (`int`): longest body.
        origins (`Collection[str]`): allowed beside the server's own, such as `"https://captions.example"`; `"*"` for
            any.
        names (`Collection[str]`, *optional*): host names that are ours beside `localhost`, this machine's name and IP
            addresses; any without.
    """

    def __init__(self, app: Any, body_bytes: int, origins: Collection[str], names: Collection[str] | None = None):
        super().__init__(app, body_bytes, names)
        self.origins = {origin.rstrip("/").lower() for origin in origins}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        origin = headers.get(b"origin")
        if not self.is_ours(host):
            failure = Failure("forbidden", "This server does not answer to that host name.")
            await _refuse(scope, send, failure, 421)
        elif origin is not None and not self._may_ask(origin, host):
            await _refuse(scope, send, Failure("forbidden", "Pages of this origin may not use this server."))
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self._guarded(scope, receive, send)

    def _may_ask(self, origin: str, host: str) -> bool:
        origin = origin.lower()
        try:
            own = urlsplit(origin).netloc
        except ValueError:
            return False
        return "*" in self.origins or origin in self.origins or (bool(own) and own == host.lower())

    async def _guarded(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            again = await self.whole(receive)
        except Failure as failure:
            await _refuse(scope, send, failure)
            return
        if again is None:
            return

        async def headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in _HEADERS.items() if name not in there),
                ]
            await send(message)

        await self.app(scope, again, headed)


async def _refuse(scope: Any, send: Any, failure: Failure, status: int | None = None) -> None:
    if scope["type"] == "websocket":
        # Before the handshake: the server answers 403.
        await send({"type": "websocket.close", "code": 1008})
        return
    body = '{"error":%s}' % failure.message().model_dump_json(exclude_none=True)  # noqa: UP031 - braces
    headers = [(b"content-type", b"application/json"), (b"connection", b"close"), *_HEADERS.items()]
    await send({"type": "http.response.start", "status": status or failure.status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


__all__ = ["Guard"]
