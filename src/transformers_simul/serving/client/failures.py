# SPDX-License-Identifier: Apache-2.0
"""How a server refuses a client or fails it."""

from ..messages import Action, Error


class ServerError(Exception):
    """The server refused a request or ended a stream, and the client could not mend it by trying again.

    Args:
        error (`Error`): what the server said.

    Attributes:
        code (`str`): of the protocol, such as `"unauthorized"` or `"full"` (docs/protocol.md).
        action (`str`): `"fix"`, `"retry"` or `"resume"`.
        remedy (`str`): what to do, in a line.
        retry_after_s (`float`, *optional*): when to try again.

    Example:

    ```python
    >>> from transformers_simul.serving.client import ServerError
    >>> from transformers_simul.serving.messages import Error
    >>> error = Error(code="full", message="All 64 places are taken.", remedy="try again later", action="retry")
    >>> print(ServerError(error))
    full: All 64 places are taken. (try again later)

    ```
    """

    def __init__(self, error: Error):
        super().__init__(f"{error.code}: {error.message} ({error.remedy})")
        self.code, self.remedy, self.retry_after_s = error.code, error.remedy, error.retry_after_s
        self.action: Action = error.action


class ConnectionLost(ConnectionError):
    """No server could be reached, or none any more, for as long as the client was told to try."""


__all__ = ["ConnectionLost", "ServerError"]
