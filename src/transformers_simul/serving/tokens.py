# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens: who may speak, who may only listen. Tokens themselves are kept nowhere, and never written to a log."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from .failure import Failure

_SHORTEST = 16


class Principal(NamedTuple):
    """Who asks.

    Attributes:
        name (`str`): the same for the same token, and no way back to it.
        speaks (`bool`): whether it may have text translated, or listen alone.
    """

    name: str
    speaks: bool = True


class Tokens:
    """The tokens that a server takes; without any, everybody may do everything.

    Args:
        lines (`Iterable[str]`): a token each, of at least 16 characters, with `listen` after it for one that may only
            listen to rooms; empty lines and those that begin with `#` say nothing.

    Raises:
        ValueError: for a line that is none of these; it names the line's number only.

    Example:

    ```python
    >>> from transformers_simul.serving.tokens import Tokens
    >>> tokens = Tokens(["0123456789abcdef", "fedcba9876543210 listen"])
    >>> tokens.check("0123456789abcdef").speaks, tokens.check("fedcba9876543210").speaks
    (True, False)

    ```
    """

    def __init__(self, lines: Iterable[str] = ()):
        # A key of this process: what is kept cannot be looked up elsewhere.
        self._key = secrets.token_bytes(32)
        self._known: list[tuple[bytes, Principal]] = []
        for number, line in enumerate(lines, start=1):
            token, *rights = line.split()[:3] or [""]
            if not token or token.startswith("#"):
                continue
            if len(token) < _SHORTEST or rights not in ([], ["listen"]):
                raise ValueError(
                    f"tokens must stand one in a line, of at least {_SHORTEST} characters, with 'listen' after it or "
                    f"nothing; line {number} is something else."
                )
            digest = self._digest(token)
            self._known.append((digest, Principal(digest.hex()[:16], not rights)))

    def __bool__(self) -> bool:
        return bool(self._known)

    def check(self, token: str | None) -> Principal:
        """Return who this is. It takes as long for a wrong token as for a right one.

        Args:
            token (`str`, *optional*): as it was sent.

        Raises:
            Failure: without a token, or for one that is not known.
        """
        if not self._known:
            return Principal("anyone")
        digest = self._digest(token or "")
        found = None
        for known, principal in self._known:
            if hmac.compare_digest(known, digest):
                found = principal
        if found is None:
            raise Failure("unauthorized", "This server asks for a token, and got none that it knows.")
        return found

    def _digest(self, token: str) -> bytes:
        return hmac.new(self._key, token.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization` header.

    Args:
        header (`str`, *optional*): as it was sent.
    """
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


__all__ = ["Principal", "Tokens", "bearer"]
