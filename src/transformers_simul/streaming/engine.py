# SPDX-License-Identifier: Apache-2.0
"""StreamEngine: many live translations in one process, each at its own progress, answered by common forwards."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch

from ..models.cache import SimulCache
from ..models.decoding import decode_step
from ..models.generation import SimulLogitsProcessor
from ..models.policies import Policy
from ..models.row_decoder import Ask, RowDecoder
from ..models.streams import SourceCancelled, SourceReader, SourceStream, SourceTimeout
from ..models.text import ends_sentence
from .sentences import SentenceReader
from .streamer import SimulStreamer


class EngineFull(Exception):
    """All of the engine's streams are taken."""


class EngineStream:
    """One translation of a [`StreamEngine`].

    Attributes:
        source (`SourceStream`): put the source here, from any thread; `cancel()` gives the translation up.
        words (`SimulStreamer`): the committed words, for one consumer, `for` or `async for`.
        stop_reason (`str`): empty while it runs; then as in [`SimulGenerateOutput`], or `"max_tokens"` if the source or
            the translation outgrew the engine's cache, or `"error"`, which `words` then raises.
    """

    def __init__(self, source: SourceStream, words: SimulStreamer):
        self.source, self.words, self.stop_reason = source, words, ""


class _Run(NamedTuple):
    stream: EngineStream
    reader: SourceReader | SentenceReader
    steps: Generator[Ask | None, torch.Tensor | None, str]


class StreamEngine:
    """Translates many live sources at once.

    Every forward answers all streams that have something to ask, within `max_step_tokens`; a stream's ids are those
    that it would get alone. Memory is bounded: `max_streams * max_tokens` cache entries, allocated once.

    Args:
        model: of any family, put into evaluation mode.
        processor (`SimulProcessor`): saved beside it.
        max_streams (`int`, *optional*): most streams at a time; [`StreamEngine.open`] refuses more.
        max_tokens (`int`, *optional*): most tokens that one stream may hold: prompt, source and target; of an endless
            one, of one sentence.
        max_step_tokens (`int`, *optional*): most tokens of one forward, unless a single stream asks for more; the
            streams that have waited longest come first.
        max_waiting (`int`, *optional*): most source units of a stream that may wait unread; then `put` raises.
        max_unread (`int`, *optional*): most words of a stream that may wait for their reader; then it ends.

    Raises:
        ValueError: if a bound is below 1.

    Example:

    ```python
    >>> from transformers_simul import StreamEngine, WaitKPolicy
    >>> with StreamEngine(model, processor, max_streams=8) as engine:
    ...     stream = engine.open(WaitKPolicy(1), max_new_tokens=4)
    ...     stream.source.put("a dog runs")
    ...     stream.source.end()
    ...     words = [word.text for word in stream.words]
    >>> 1 <= len(words) <= 4
    True

    ```
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        max_streams: int = 64,
        max_tokens: int = 512,
        max_step_tokens: int = 1024,
        max_waiting: int = 10_000,
        max_unread: int = 10_000,
    ):
        if max_step_tokens < 1:
            raise ValueError(f"max_step_tokens must be at least 1, got {max_step_tokens}.")
        self.model, self.processor = model.eval(), processor
        self.max_step_tokens, self.max_waiting, self.max_unread = max_step_tokens, max_waiting, max_unread
        self.max_tokens, self.cache = max_tokens, SimulCache(max_streams, max_tokens)
        self.word_rule = SimulLogitsProcessor(
            processor.token_kinds.to(model.device), model.config.vocab_size, processor.bare_first_word
        )
        # Free rows of the cache and streams that join, shared with the threads that open; the rest is the worker's.
        self._changed = threading.Condition()
        self._free = list(range(max_streams))
        self._joining: deque[tuple[int, _Run]] = deque()
        self._runs: dict[int, _Run] = {}
        # Rows that wait for source, and those that wait for a forward in the order in which they began to.
        self._waiting: set[int] = set()
        self._asks: dict[int, Ask] = {}
        self._arrived = threading.Event()
        self._worker: threading.Thread | None = None
        self._closing = False

    def open(
        self,
        policy: Policy,
        source: SourceStream | None = None,
        sentences: bool = False,
        max_sentence_words: int | None = None,
        ends_sentence: Callable[[str], bool] = ends_sentence,
        wait_s: float = 0.0,
        row_decoder: type[RowDecoder] = RowDecoder,
        **options: Any,
    ) -> EngineStream:
        """Begin a translation; from any thread.

        Args:
            policy (`Policy`): when to READ and WRITE.
            source (`SourceStream`, *optional*): where the source arrives; a new one without.
            sentences (`bool`, *optional*): whether the source is endless and translated sentence by sentence: what was
                read and written leaves the cache at each sentence's end.
            max_sentence_words (`int`, *optional*): where to end a sentence that has no end.
            ends_sentence (`Callable[[str], bool]`, *optional*): whether a sentence ends with this word.
            wait_s (`float`, *optional*): how long to wait for a place.
            row_decoder (`type`, *optional*): how it reads and writes.
            **options: further arguments of [`RowDecoder`]: `max_new_tokens`, `generator`, `processors` and so on.

        Raises:
            EngineFull: if there is no place.
            RuntimeError: if the engine is closed.
            ValueError: if the source counts other units than the processor, or for `max_sentence_words` without
                `sentences`.
        """
        if source is None:
            source = SourceStream(unit=self.processor.unit, max_waiting=self.max_waiting)
        if max_sentence_words is not None and not sentences:
            raise ValueError(f"max_sentence_words={max_sentence_words} needs sentences=True.")
        bound = source.bind(self.processor)
        reader = SentenceReader(bound, max_sentence_words, ends_sentence) if sentences else bound
        stream = EngineStream(source, SimulStreamer(self.processor, max_unread=self.max_unread))
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closing, wait_s)
            if self._closing:
                raise RuntimeError("the engine is closed.")
            if not self._free:
                raise EngineFull(f"max_streams is {self.cache.batch_size}, and all are taken.")
            row = self._free.pop()
            steps = self._translate(row, stream, reader, policy, row_decoder, options)
            self._joining.append((row, _Run(stream, reader, steps)))
        source.listen(self._arrived.set)
        self._arrived.set()
        return stream

    def step(self) -> int:
        """One forward; returns how many streams it answered. The engine's own thread calls it, or you do instead."""
        self._join()
        for row in list(self._waiting):
            self._advance(row, None)
        asks: dict[int, Ask] = {}
        tokens = 0
        for row, ask in self._asks.items():
            tokens += ask.tokens
            if asks and tokens > self.max_step_tokens:
                break
            asks[row] = ask
        for row in asks:
            del self._asks[row]
        if not asks:
            return 0
        try:
            answers = decode_step(self.model, self.cache, asks)
        except Exception as error:
            for row in asks:
                self._close(row, "error", error)
        else:
            for row in asks:
                self._advance(row, answers[row])
        return len(asks)

    @property
    def active_streams(self) -> int:
        """Streams that have a place."""
        with self._changed:
            return self.cache.batch_size - len(self._free)

    def start(self) -> None:
        """Work in a thread of its own until [`StreamEngine.close`]."""
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def close(self) -> None:
        """Cancel what runs and stop the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._arrived.set()
        if self._worker is not None:
            self._worker.join()
        self._join()
        for row in list(self._runs):
            self._close(row, "cancelled")

    def __enter__(self) -> "StreamEngine":
        self.start()
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def _work(self) -> None:
        while not self._closing:
            self._arrived.clear()
            if not self.step():
                waits = [self._runs[row].reader.wait_s for row in self._waiting]
                self._arrived.wait(min((wait for wait in waits if wait is not None), default=None))

    def _join(self) -> None:
        with self._changed:
            while self._joining:
                row, self._runs[row] = self._joining.popleft()
                self._waiting.add(row)

    def _advance(self, row: int, answer: torch.Tensor | None) -> None:
        """Let a stream go on until it asks, waits or ends; what goes wrong in it ends it alone."""
        self._waiting.discard(row)
        if self._runs[row].stream.source.is_cancelled:
            # Nobody wants the rest, even where nothing is left to READ.
            self._close(row, "cancelled")
            return
        try:
            ask = self._runs[row].steps.send(answer)
        except StopIteration as end:
            self._close(row, end.value)
        except Exception as error:
            self._close(row, "error", error)
        else:
            if ask is None:
                self._waiting.add(row)
            elif self._outgrows(row, ask):
                self._close(row, "max_tokens")
            else:
                self._asks[row] = ask

    def _outgrows(self, row: int, ask: Ask) -> bool:
        return self.cache.used_tokens(row) - len(ask.forgets) + ask.tokens > self.max_tokens

    def _translate(
        self, row: int, stream: EngineStream, reader: Any, policy: Policy, row_decoder: Any, options: dict
    ) -> Generator[Ask | None, torch.Tensor | None, str]:
        """A stream's life, one decoder per sentence; returns the reason to stop."""
        reason, started, head = "eos", time.perf_counter(), self.processor.head_ids
        try:
            while (begun := reader.begin()) is not False:
                if begun is None:
                    yield None
                    continue
                decoder = row_decoder(
                    source=reader,
                    policy=policy,
                    head=head,
                    head_is_fed=self.cache.used_tokens(row) == len(head),
                    tail=self.processor.tail_ids,
                    word_rule=self.word_rule,
                    started=started,
                    on_word=lambda ids, delay, ms: stream.words.put_word(0, ids, reader.words_before + delay, ms),
                    **options,
                )
                yield from decoder.run()
                self.cache.clear(row, keep=len(head))
                reason = decoder.stop_reason
                if reason in ("cancelled", "timeout"):
                    break
                # A decoder that stopped early leaves the rest of its sentence unread.
                while not (polled := reader.poll())[0] or polled[1] is not None:
                    if not polled[0]:
                        yield None
        except SourceCancelled:
            reason = "cancelled"
        except SourceTimeout:
            reason = "timeout"
        return reason

    def _close(self, row: int, reason: str, error: Exception | None = None) -> None:
        """End a stream and free its row."""
        stream = self._runs.pop(row).stream
        self._waiting.discard(row)
        self._asks.pop(row, None)
        # All streams begin with the same prompt: a row computes it once, unless its forward failed half-way.
        self.cache.clear(row, keep=0 if error else len(self.processor.head_ids))
        stream.stop_reason = reason
        stream.source.cancel()
        if error is None:
            stream.words.end()
        else:
            stream.words.fail(error)
        with self._changed:
            self._free.append(row)
            self._changed.notify()


__all__ = ["EngineFull", "EngineStream", "StreamEngine"]
