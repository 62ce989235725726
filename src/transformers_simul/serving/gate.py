# SPDX-License-Identifier: Apache-2.0
"""What the guards of the server and of the live page share: names that are ours, and bodies that are taken whole."""

import ipaddress
import re
import socket
from collections.abc import Collection
from typing import Any

from .failure import Failure

# How many times the allowed length is taken of a body that is too long before it is cut off.
_LOOKED_AT = 16


class Gate:
    """Around an ASGI application: who asks under a name that is not ours is turned away (a name elsewhere may be made
    to point here: DNS rebinding), and what is too long is refused before anything is done with it.

    Args:
        app: the application within.
        body_bytes (`int`): longest body.
        names (`Collection[str]`, *optional*): host names that are ours beside `localhost`, this machine's name and IP
            addresses; any without, or with `"*"`.

    Example:

    ```python
    >>> from transformers_simul.serving.gate import Gate
    >>> gate = Gate(None, 65_536, ["captions.example"])
    >>> gate.is_ours("captions.example:443"), gate.is_ours("127.0.0.1"), gate.is_ours("evil.example")
    (True, True, False)

    ```
    """

    def __init__(self, app: Any, body_bytes: int, names: Collection[str] | None):
        self.app, self.body_bytes = app, body_bytes
        self._names: set[str] | None = None
        if names is not None and "*" not in names:
            self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    def is_ours(self, host: str) -> bool:
        """Whether a name is one that we answer to.

        Args:
            host (`str`): as the request's header says it, perhaps with a port.
        """
        name = re.sub(r":\d*$", "", host).strip("[]").lower()
        if self._names is None or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    async def whole(self, receive: Any) -> Any:
        """Take a request's body.

        Args:
            receive: of ASGI.

        Raises:
            Failure: if it is too long.

        Returns:
            a `receive` that gives all of it at once; None if the client has left.
        """
        body, size, goes_on = bytearray(), 0, True
        while goes_on:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(message.get("body", b""))
            goes_on = message.get("more_body", False)
            if size <= self.body_bytes:
                body += message.get("body", b"")
            elif not goes_on or size > _LOOKED_AT * self.body_bytes:
                # Some is taken and thrown away: a client that still writes does not read the answer.
                raise Failure("message_too_big", f"A body may have {self.body_bytes} bytes.")
        whole = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Any:
            return whole.pop() if whole else await receive()

        return again


__all__ = ["Gate"]
