# SPDX-License-Identifier: Apache-2.0
"""Why a request or stream is refused or ends: a code, a line, and what the client should do."""

from .messages import Action, Error, ErrorCode

# For each code: what to do about it, the HTTP status, and how a client mends it.
_KNOWN: dict[ErrorCode, tuple[Action, int, str]] = {
    "bad_message": ("fix", 422, "send what docs/protocol.schema.json describes"),
    "bad_order": ("fix", 422, "send start first and once, and nothing after end or cancel but ping"),
    "bad_version": ("fix", 422, "speak version 1"),
    "bad_policy": ("fix", 422, "name a policy as docs/policies.md does, such as wait-3"),
    "bad_option": ("fix", 422, "leave the option out, or within its bounds"),
    "bad_resume": ("fix", 422, "resume with the words as they were sent, or begin anew"),
    "unauthorized": ("fix", 401, "send a token: 'Authorization: Bearer TOKEN', or the first message's field token"),
    "forbidden": ("fix", 403, "ask the operator to allow it"),
    "unknown_model": ("fix", 404, "choose one that /v1/models lists"),
    "message_too_big": ("fix", 413, "send less at once"),
    "too_fast": ("resume", 429, "send no more words a second than the limits say"),
    "too_much_waiting": ("resume", 429, "wait for words before sending more source"),
    "too_many_streams": ("retry", 429, "end another stream of the token first"),
    "full": ("retry", 503, "try again later, or another server"),
    "slow_reader": ("resume", 503, "read what the server sends"),
    "idle_timeout": ("resume", 408, "send ping while the source is silent"),
    "total_timeout": ("resume", 408, "resume in a new stream"),
    "draining": ("resume", 503, "go on at another server"),
    "room_taken": ("retry", 409, "choose another room, or wait until it is over"),
    "room_full": ("retry", 503, "try again later"),
    "not_found": ("fix", 404, "look at docs/protocol.md"),
    "internal": ("resume", 500, "go on at another server, and tell the operator when it was"),
}
# Of all answers that are errors.
STATUSES = {status for _, status, _ in _KNOWN.values()}


class Failure(Exception):
    """Ends a request or a stream; everything in it may be shown to the client.

    Args:
        code (`str`): of the protocol.
        message (`str`): what is wrong, in a line.
        retry_after_s (`float`, *optional*): when to try again.

    Example:

    ```python
    >>> from transformers_simul.serving.failure import Failure
    >>> Failure("full", "All 64 places are taken.").message().action
    'retry'

    ```
    """

    def __init__(self, code: ErrorCode, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.code, self.retry_after_s = code, retry_after_s
        self.action, self.status, self.remedy = _KNOWN[code]

    def message(self) -> Error:
        """The message that the client gets."""
        return Error(
            code=self.code,
            message=str(self)[:1000],
            remedy=self.remedy,
            action=self.action,
            retry_after_s=self.retry_after_s,
        )


__all__ = ["STATUSES", "Failure"]
