# SPDX-License-Identifier: Apache-2.0
"""The shortest way for applications: words in, translated words out."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from ..models.committed import committed_words, encoded_unit
from ..models.policies import Policy
from ..models.processing import SimulProcessor
from ..models.seam import StreamingModel
from ..models.streams import SourceStream
from .streamer import SimulStreamer, Word, reader_error

# So many words of a list are put at once, so that the decoder can look ahead.
_AT_ONCE = 256


def translate_stream(
    model: StreamingModel,
    processor: SimulProcessor,
    source_words: Iterable[str],
    policy: Policy | str,
    source_lang: str | None = None,
    target_lang: str | None = None,
    **kwargs: Any,
) -> Iterator[Word]:
    """Translate while `source_words` is being iterated.

    A source word is taken when the policy READs it, no earlier, in the caller's thread; only the model runs in another.
    The words of a list or tuple are there already, and the decoder looks ahead among them. Leaving the loop cancels the
    translation at once. An error in the source or in the model is raised here.

    Args:
        model: of any family, in evaluation mode.
        processor (`SimulProcessor`): saved beside it.
        source_words (`Iterable[str]`): source words as they come; it may block.
        policy (`Policy` or `str`): when to READ and WRITE, or a name as in `generate()`.
        source_lang, target_lang (`str`, *optional*): languages, of those that the processor knows.
        **kwargs: further arguments of `generate()`; `committed` is a list of words here, as [`StreamEngine.open`]
            takes them: those of a translation that was cut off, after which this one goes on.

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
    processor = processor.with_languages(source_lang, target_lang)
    stream, words = SourceStream(unit=processor.unit), iter(source_words)
    events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
    worker = _start(model, processor, stream, policy, kwargs, events.put)
    count = _AT_ONCE if isinstance(source_words, Sequence) else 1
    try:
        while not isinstance(event := events.get(), _End):
            if event is not None:
                yield event
                continue
            while not _put(stream, list(islice(words, count))):
                pass
        event.check()
    finally:
        stream.cancel()
        worker.join()


async def translate_stream_async(
    model: StreamingModel,
    processor: SimulProcessor,
    source_words: AsyncIterable[str] | Iterable[str],
    policy: Policy | str,
    source_lang: str | None = None,
    target_lang: str | None = None,
    **kwargs: Any,
) -> AsyncIterator[Word]:
    """Do as [`translate_stream`], for `async for`. Neither the model, which runs in a thread of its own, nor a source
    that blocks ever blocks the event loop.

    Args:
        model, processor, policy, source_lang, target_lang, **kwargs: as there.
        source_words (`AsyncIterable[str]` or `Iterable[str]`): source words as they come. Each word of an iterable that
            is neither asynchronous nor a list is taken in a thread, which ends with that word: a task that is cancelled
            while such a source is silent leaves that thread waiting.

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
    processor = processor.with_languages(source_lang, target_lang)
    stream, loop = SourceStream(unit=processor.unit), asyncio.get_running_loop()
    events: asyncio.Queue[_Event] = asyncio.Queue()

    def send(event: _Event) -> None:
        try:
            loop.call_soon_threadsafe(events.put_nowait, event)
        except RuntimeError:
            # The loop is closed, and nobody listens any more.
            stream.cancel()

    pull = _puller(source_words)
    _start(model, processor, stream, policy, kwargs, send)
    event: _Event = None
    try:
        while not isinstance(event := await events.get(), _End):
            if event is not None:
                yield event
                continue
            while not _put(stream, await pull()):
                pass
        event.check()
    finally:
        stream.cancel()
        while not isinstance(event, _End) and not loop.is_closed():
            event = await events.get()


class _End(NamedTuple):
    """The model has finished or failed."""

    error: BaseException | None

    def check(self) -> None:
        if self.error is not None:
            raise reader_error(self.error, "translate_stream")


# Events of the model's thread: a word, a READ that waits (None), the end.
_Event = Word | _End | None


class _Sender(SimulStreamer):
    """Sends each word on. `_start` tells of the end, also if decoding never began."""

    def __init__(self, processor: SimulProcessor, send: Callable[[_Event], None]):
        super().__init__(processor)
        self.send = send

    def put_word(self, row: int, ids: list[int], delay: int, elapsed_ms: float) -> None:
        self.send(self.word(row, ids, delay, elapsed_ms))


class _Cancelled(StoppingCriteria):
    """Stops writing if the source was given up and nothing is left to READ."""

    def __init__(self, stream: SourceStream):
        self.stream = stream

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.stream.is_cancelled, device=input_ids.device)


def _start(
    model: StreamingModel,
    processor: SimulProcessor,
    stream: SourceStream,
    policy: Policy | str,
    kwargs: dict[str, Any],
    send: Callable[[_Event], None],
) -> threading.Thread:
    """Run the model in a thread, which sends what happens; the last event is an [`_End`]."""
    stream.listen_for_waits(lambda: send(None))
    rule, shown = processor.prompt.fit(model).rule, kwargs.pop("committed", ())
    committed = committed_words(shown, rule, encoded_unit(processor))
    criteria = StoppingCriteriaList([*(kwargs.pop("stopping_criteria", None) or []), _Cancelled(stream)])

    def generate() -> None:
        try:
            inputs, streamer = processor(source=stream), _Sender(processor, send)
            options = kwargs | {"stopping_criteria": criteria, "committed": [committed]}
            model.generate(**inputs, policy=policy, streamer=streamer, **options)
        except BaseException as error:
            send(_End(error))
        else:
            send(_End(None))

    worker = threading.Thread(target=generate, daemon=True, name="translate_stream")
    worker.start()
    return worker


def _put(stream: SourceStream, words: list[str]) -> bool:
    """Put words, or the end of the source if there are none, and return whether a READ can go on."""
    before = stream.put_units
    for word in words:
        stream.put(word)
        if stream.unit != "char":
            # A word is complete when white space follows it.
            stream.put(" ")
    if not words:
        stream.end()
    return not words or stream.put_units > before


def _puller(words: AsyncIterable[str] | Iterable[str]) -> Callable[[], Awaitable[list[str]]]:
    """Return a function that takes the next words, none at the end."""
    if isinstance(words, AsyncIterable):
        later = aiter(words)

        async def pull() -> list[str]:
            try:
                return [await anext(later)]
            except StopAsyncIteration:
                return []

        return pull
    rest = iter(words)
    if isinstance(words, Sequence):

        async def pull() -> list[str]:
            return list(islice(rest, _AT_ONCE))

        return pull
    return lambda: _in_thread(lambda: list(islice(rest, 1)))


async def _in_thread(call: Callable[[], list[str]]) -> list[str]:
    """Wait for a call that may block for ever, in a thread of its own, since asyncio has only a few."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[str]] = loop.create_future()

    def settle(words: list[str], error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(words)
        else:
            future.set_exception(error)

    def work() -> None:
        words: list[str] = []
        failure: BaseException | None = None
        try:
            words = call()
        except BaseException as error:
            failure = reader_error(error, "source_words")
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, words, failure)

    threading.Thread(target=work, daemon=True).start()
    return await future


__all__ = ["translate_stream", "translate_stream_async"]
