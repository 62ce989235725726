# SPDX-License-Identifier: Apache-2.0
"""The shortest way for applications: words in, translated words out."""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

from ..models.policies import Policy
from ..models.streams import SourceStream
from .streamer import SimulStreamer, Word


def translate_stream(
    model: Any, processor: Any, source_words: Iterable[str], policy: Policy, **kwargs: Any
) -> Iterator[Word]:
    """Translate while `source_words` is being iterated.

    Leaving the loop early cancels the translation. An error in the source or in the model is raised here.

    Args:
        model: of any family, in evaluation mode.
        processor (`SimulProcessor`): saved beside it.
        source_words (`Iterable[str]`): source words as they come; iterated in a thread of its own.
        policy (`Policy`): when to READ and WRITE.
        **kwargs: further arguments of `generate()`.

    Yields:
        [`Word`]: as soon as it is committed.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy, translate_stream
    >>> words = list(translate_stream(model, processor, ["A", "dog", "runs"], WaitKPolicy(1), max_new_tokens=4))
    >>> 1 <= words[0].delay <= 3
    True

    ```
    """
    stream, streamer = SourceStream(unit=processor.unit), SimulStreamer(processor)

    def feed():
        try:
            for word in source_words:
                stream.put(_with_space(processor, word))
        except BaseException as error:
            streamer.fail(error)
            stream.cancel()
        else:
            stream.end()

    workers = [
        threading.Thread(target=feed, daemon=True),
        threading.Thread(target=_generate, args=(model, processor, stream, streamer, policy, kwargs), daemon=True),
    ]
    for worker in workers:
        worker.start()
    try:
        yield from streamer
    finally:
        stream.cancel()
        workers[1].join()


async def translate_stream_async(
    model: Any, processor: Any, source_words: AsyncIterable[str] | Iterable[str], policy: Policy, **kwargs: Any
) -> AsyncIterator[Word]:
    """As [`translate_stream`], for `async for`; the model runs in a thread and never blocks the event loop.

    Args:
        model, processor, policy, **kwargs: as there.
        source_words (`AsyncIterable[str]` or `Iterable[str]`): source words as they come.

    Yields:
        [`Word`]: as soon as it is committed.

    Example:

    ```python
    >>> import asyncio
    >>> from transformers_simul import WaitKPolicy, translate_stream_async
    >>> async def main():
    ...     words = translate_stream_async(model, processor, ["A", "dog", "runs"], WaitKPolicy(1), max_new_tokens=4)
    ...     return [word async for word in words]
    >>> 1 <= asyncio.run(main())[0].delay <= 3
    True

    ```
    """
    stream, streamer = SourceStream(unit=processor.unit), SimulStreamer(processor)

    async def feed():
        try:
            async for word in _async_iterable(source_words):
                stream.put(_with_space(processor, word))
        except asyncio.CancelledError:
            stream.cancel()
            raise
        except Exception as error:
            streamer.fail(error)
            stream.cancel()
        else:
            stream.end()

    feeder = asyncio.create_task(feed())
    worker = asyncio.create_task(asyncio.to_thread(_generate, model, processor, stream, streamer, policy, kwargs))
    try:
        async for word in streamer:
            yield word
    finally:
        stream.cancel()
        feeder.cancel()
        await asyncio.gather(worker, feeder, return_exceptions=True)


def _generate(model, processor, stream, streamer, policy, kwargs) -> None:
    try:
        model.generate(**processor(source=stream), policy=policy, streamer=streamer, **kwargs)
    except BaseException as error:
        streamer.fail(error)


def _with_space(processor: Any, word: str) -> str:
    """A word is complete when white space follows it; characters need none between them."""
    return word if processor.unit == "char" else f"{word} "


async def _async_iterable(words: AsyncIterable[str] | Iterable[str]) -> AsyncIterator[str]:
    if isinstance(words, AsyncIterable):
        async for word in words:
            yield word
    else:
        for word in words:
            yield word
            # Let the translation show what it has before the next word is taken.
            await asyncio.sleep(0)


__all__ = ["translate_stream", "translate_stream_async"]
