# SPDX-License-Identifier: Apache-2.0
"""What may reach the page's server: no files, small bodies, no foreign host names."""

import os
import re
from collections.abc import Callable, Collection
from typing import Any

from ..serving.failure import Failure
from ..serving.gate import Gate

MAX_BODY_BYTES = 64 * 1024
# What the page itself sends; above all no file, which Gradio would keep on disk.
_POSTS = re.compile(r"^(/gradio_api)?/(queue/join|run/[\w-]+|api/[\w-]+|cancel|reset)/?$")
_HEARTBEAT = re.compile(r"/heartbeat/([\w-]+)$")


class Guard(Gate):
    """ASGI middleware around Gradio's application.

    It refuses requests that name another host (a page elsewhere whose name is made to point here: DNS rebinding),
    requests that write anything but the page's own calls, and bodies of more than 64 KiB. It also tells who has left,
    since Gradio's own `unload` event is lost when a connection breaks.

    Args:
        app: the application.
        names (`Collection[str]`): host names that are ours, beside `localhost`, this machine's name and IP addresses;
            `"*"` for any.
        on_arrive, on_leave (`Callable[[str], None]`): called with a session when its connection begins and has ended.
    """

    def __init__(
        self,
        app: Any,
        names: Collection[str],
        on_arrive: Callable[[str], None],
        on_leave: Callable[[str], None],
    ):
        super().__init__(app, MAX_BODY_BYTES, {*names, os.environ.get("SPACE_HOST", "localhost")})
        self.on_arrive, self.on_leave = on_arrive, on_leave

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] == "websocket":
            # The page has none.
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not self.is_ours(headers.get(b"host", "")):
            await _refuse(send, 421, "This page does not answer to that host name.")
        elif scope["method"] in ("GET", "HEAD", "OPTIONS"):
            heartbeat = _HEARTBEAT.search(scope["path"])
            if heartbeat:
                self.on_arrive(heartbeat[1])
            try:
                await self.app(scope, receive, send)
            finally:
                if heartbeat:
                    self.on_leave(heartbeat[1])
        elif scope["method"] != "POST" or not _POSTS.match(scope["path"].removeprefix(scope.get("root_path", ""))):
            await _refuse(send, 403, "This page takes no files.")
        else:
            try:
                again = await self.whole(receive)
            except Failure as failure:
                await _refuse(send, failure.status, str(failure))
                return
            if again is not None:
                await self.app(scope, again, send)


async def _refuse(send: Any, code: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode()})


__all__ = ["MAX_BODY_BYTES", "Guard"]
