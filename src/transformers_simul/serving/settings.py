# SPDX-License-Identifier: Apache-2.0
"""What an operator decides: limits and times of a server."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Settings:
    """Limits of a server. Every one is a bound on what a client can send, hold or wait for.

    Args:
        policy (`str`, *optional*): of streams that name none; without, what their model names, or wait-3.
        message_bytes (`int`, *optional*): most bytes of a message or a request's body.
        words_per_second (`float`, *optional*): of source, that a stream may send in the long run.
        burst_words (`int`, *optional*): of source, that a stream may send at once; also the longest text of
            `/v1/translate`.
        waiting_words (`int`, *optional*): of source, that may wait unread in a stream.
        unsent_messages (`int`, *optional*): that may wait for a client, or listener, who does not read.
        streams_per_token (`int`, *optional*): at once; without tokens no such limit holds.
        connections (`int`, *optional*): at once, those that idle included.
        sentence_words (`int`, *optional*): where a sentence without an end is cut, unless the client says sooner.
        start_s (`float`, *optional*): within which a connection must have said what it wants.
        send_s (`float`, *optional*): within which a client must take what it is sent.
        idle_s (`float`, *optional*): that a stream may be silent.
        total_s (`float`, *optional*): that a stream may last.
        ping_s (`float`, *optional*): between the protocol's own pings, and the wait for an answer.
        drain_s (`float`, *optional*): that running streams get to finish after SIGTERM.
        rooms, listeners (`int`, *optional*): rooms at once, 0 for none, and listeners of a room.
        room_words (`int`, *optional*): of a room's language that are kept for late listeners.
        room_s (`float`, *optional*): that a room waits for a speaker whose connection was lost.

    Raises:
        ValueError: for a limit that is not above 0.

    Example:

    ```python
    >>> from transformers_simul.serving.settings import Settings
    >>> Settings(idle_s=0)
    Traceback (most recent call last):
    ValueError: idle_s must be above 0, got 0.

    ```
    """

    policy: str | None = None
    message_bytes: int = 65_536
    words_per_second: float = 50.0
    burst_words: int = 2000
    waiting_words: int = 2000
    unsent_messages: int = 5000
    streams_per_token: int = 64
    connections: int = 2000
    sentence_words: int = 60
    start_s: float = 10.0
    send_s: float = 20.0
    idle_s: float = 60.0
    total_s: float = 4 * 3600.0
    ping_s: float = 20.0
    drain_s: float = 30.0
    rooms: int = 64
    listeners: int = 1000
    room_words: int = 20_000
    room_s: float = 300.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "rooms" and not value >= 0:
                raise ValueError(f"rooms must be at least 0, got {value}.")
            if field.name not in ("policy", "rooms") and not value > 0:
                raise ValueError(f"{field.name} must be above 0, got {value}.")


__all__ = ["Settings"]
