# SPDX-License-Identifier: Apache-2.0
"""Translate documents line by line, with the sentences before in view."""

import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ..models.policies import Policy
from ..models.streams import SourceStream
from ..streaming.engine import EngineStream, StreamEngine
from ..streaming.streamer import SimulStreamer
from .instances import Instance


class _Streamer(SimulStreamer):
    """A streamer that also notes where a translation was cut off: the source units up to there."""

    def __init__(self, processor: Any):
        super().__init__(processor)
        self.cut: list[int] = []

    def end_sentence(self, source_units: int, reason: str) -> None:
        if reason != "eos":
            self.cut.append(source_units)


def translate_documents(
    model: Any,
    processor: Any,
    documents: Sequence[Sequence[str]],
    policy: Policy,
    context_sentences: int,
    batch_size: int = 8,
    max_tokens: int = 2048,
    **kwargs: Any,
) -> tuple[list[list[Instance]], list[int]]:
    """Translate each document as one endless stream, whose lines end sentences.

    Args:
        model, processor, policy: as in [`translate_corpus`].
        documents (`Sequence[Sequence[str]]`): the lines of each, in order.
        context_sentences (`int`): how many sentences that have ended stay in view; see [`StreamEngine.open`].
        batch_size (`int`, *optional*): documents at a time, which changes speed, not output.
        max_tokens (`int`, *optional*): of a document's stream in the cache.
        **kwargs: further arguments of [`StreamEngine.open`].

    Returns:
        An instance per line of each document, without reference, numbered over all documents; delays count from the
        line's beginning, times from when the line before was written. And the numbers of lines in which a translation
        was cut off at its limit of tokens.

    Raises:
        ValueError: as [`StreamEngine.open`]; or if a sentence outgrows `max_tokens`, with the document.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.evaluation.documents import translate_documents
    >>> lines = ["a dog runs", "two children watch it"]
    >>> log, cut = translate_documents(model, processor, [lines], WaitKPolicy(2), 1, max_new_tokens=4)
    >>> [(line.index, line.source_length) for line in log[0]]
    [(0, 3), (1, 4)]

    ```
    """
    engine = StreamEngine(model, processor, batch_size, max_tokens)
    written: list[list[Instance]] = []
    cut: list[int] = []
    for start in range(0, len(documents), batch_size):
        group = documents[start : start + batch_size]
        streams = [_open(engine, policy, lines, context_sentences, kwargs) for lines in group]
        while engine.step():
            pass
        for number, (stream, lines) in enumerate(zip(streams, group, strict=True), start=start):
            if stream.stop_reason == "max_tokens":
                raise ValueError(
                    f"max_tokens must hold a sentence and its context, got {max_tokens}: document {number}."
                )
            first, ends = sum(map(len, written)), _ends(processor, lines)
            written.append(_lines_of(processor, stream, lines, ends, first))
            cut += [first + bisect.bisect_left(ends, units) for units in stream.words.cut]  # type: ignore[attr-defined]
    return written, [*dict.fromkeys(cut)]


def _open(
    engine: StreamEngine, policy: Policy, lines: Sequence[str], context_sentences: int, options: dict[str, Any]
) -> EngineStream:
    source = SourceStream(unit=engine.processor.unit, max_waiting=10**9)
    ways: dict[str, Any] = {
        "sentences": True,
        "context_sentences": context_sentences,
        "streamer": _Streamer(engine.processor),
    }
    stream = engine.open(policy, source, **ways | options)
    for line in lines:
        # White space around a line is none of its source, but a character of the stream; a word is complete when some
        # follows it.
        text = line.strip()
        source.put(text if source.unit == "char" else f"{text} ")
        source.end_sentence()
    source.end()
    return stream


def _ends(processor: Any, lines: Sequence[str]) -> list[int]:
    """Return the source units of a document up to the end of each line."""
    return [*accumulate(len(processor.encode(line)) for line in lines)]


def _lines_of(
    processor: Any, stream: EngineStream, lines: Sequence[str], ends: Sequence[int], first: int
) -> list[Instance]:
    words: list[list[Any]] = [[] for _ in lines]
    for word in stream.words:
        # It has read at least one unit of its line, and none of the next.
        words[bisect.bisect_left(ends, word.delay)].append(word)
    instances, before_ms = [], 0.0
    for number, (line, begins, written) in enumerate(zip(lines, [0, *ends[:-1]], words, strict=True)):
        instances.append(
            Instance(
                index=first + number,
                prediction=processor.join([word.text for word in written]),
                delays=[word.delay - begins for word in written],
                elapsed=[round(word.elapsed_ms - before_ms, 3) for word in written],
                prediction_length=len(written),
                reference="",
                source=line,
                source_length=ends[number] - begins,
            )
        )
        before_ms = written[-1].elapsed_ms if written else before_ms
    return instances


__all__ = ["translate_documents"]
