# SPDX-License-Identifier: Apache-2.0
"""One of an engine's streams, as who opened it sees it."""

from collections.abc import AsyncIterator, Iterator

from ..models.streams import SourceStream
from .streamer import SimulStreamer, Word


class EngineStream:
    """One translation of a [`StreamEngine`], which makes it.

    Iterating over the stream itself, with `for` or `async for`, gives its words; leaving that loop, or a `with` block,
    gives the translation up and frees its place. Iterating over `words` instead can be left and resumed.

    Attributes:
        number (`int`): how many the engine had opened before; errors name it.
        source (`SourceStream`): put the source here, from any thread.
        words (`SimulStreamer`): the committed words, for one consumer.
        stop_reason (`str`): empty while it runs; then as in [`SimulGenerateOutput`], or `"max_tokens"` if the source or
            the translation outgrew the engine's cache, or `"error"`, which `words` then raises.

    Example:

    ```python
    >>> from transformers_simul import StreamEngine, WaitKPolicy
    >>> with StreamEngine(model, processor) as engine:
    ...     with engine.open(WaitKPolicy(3)) as stream:
    ...         stream.source.put("a dog ")
    >>> stream.stop_reason
    'cancelled'

    ```
    """

    def __init__(self, number: int, source: SourceStream, words: SimulStreamer):
        self.number, self.source, self.words, self.stop_reason = number, source, words, ""

    def close(self) -> None:
        """Give the translation up if it still runs; its place is free from the engine's next step on."""
        self.source.cancel("the stream was closed")

    def finish(self, reason: str, error: BaseException | None = None) -> None:
        """Called by the engine at the end.

        Args:
            reason (`str`): to stop.
            error (`BaseException`, *optional*): what went wrong.
        """
        self.stop_reason = reason
        if error is None:
            self.words.end()
        else:
            self.words.fail(error)
        self.source.cancel(f"its translation had ended: {reason}")

    def __enter__(self) -> "EngineStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Word]:
        try:
            yield from self.words
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[Word]:
        try:
            async for word in self.words:
                yield word
        finally:
            self.close()


__all__ = ["EngineStream"]
