# SPDX-License-Identifier: Apache-2.0
"""A stream's life in the engine: one decoder for all of its source, or one for each sentence of an endless one."""

import time
from collections.abc import Callable, Generator, Sequence

from ..models.choosing import Answer
from ..models.committed import Committed
from ..models.row import Ask
from ..models.row_decoder import RowDecoder
from ..models.source import SourceCancelled, SourceTimeout
from ..models.streams import SourceReader
from .context import KeptSentences
from .engine_stream import EngineStream
from .sentences import SentenceReader, committed_before, committed_in, pass_over

# What ends a stream, not one of its sentences alone.
_SOURCE_LOST = ("cancelled", "timeout")


class StreamLife:
    """One stream of a [`StreamEngine`], from its first READ to its end.

    Args:
        stream (`EngineStream`): as who opened it sees it.
        reader (`SourceReader` or `SentenceReader`): of its source.
        make_decoder (`Callable[..., RowDecoder]`): takes what differs between its sentences.
        kept (`KeptSentences`): its row of the cache.
        committed (`Sequence[Committed]`): words that were shown before.
        words_before (`int`): source units that are not put again; delays count them too.
        words_over (`int`): source units, those before included, whose sentences are over.
    """

    def __init__(
        self,
        stream: EngineStream,
        reader: SourceReader | SentenceReader,
        make_decoder: Callable[..., RowDecoder],
        kept: KeptSentences,
        committed: Sequence[Committed],
        words_before: int,
        words_over: int,
    ):
        self.stream, self.reader, self.kept = stream, reader, kept
        self._make_decoder, self._committed = make_decoder, committed
        self._words_before, self._words_over = words_before, words_over

    def run(self) -> Generator[Ask | None, list[Answer] | None, str]:
        """As [`RowDecoder.run`], for all sentences; returns the reason to stop."""
        reason, started = "eos", time.perf_counter()
        try:
            while (begun := self.reader.begin()) is not False:
                if begun is None:
                    yield None
                    continue
                if isinstance(self.reader, SentenceReader):
                    stopped = yield from self._translate_sentence(self.reader, started)
                else:
                    return (yield from self._decode(self._committed, started))
                if stopped in _SOURCE_LOST:
                    return stopped
                # A sentence that was cut off is told of, also where the next ones were complete.
                reason = stopped if reason == "eos" else reason
        except SourceCancelled:
            return "cancelled"
        except SourceTimeout:
            return "timeout"
        return reason

    def _translate_sentence(
        self, reader: SentenceReader, started: float
    ) -> Generator[Ask | None, list[Answer] | None, str]:
        """Translate one sentence; returns the reason to stop."""
        over = self._words_over - self._words_before
        shown, stopped = (yield from committed_in(reader, self._committed, over)), "eos"
        is_over = shown is None
        # A sentence that was shown as a whole is only read, unless the next ones are to see it.
        if not is_over or self.kept.most_sentences:
            words = committed_before(reader, self._committed) if shown is None else shown
            stopped = yield from self._decode(words, started, is_over)
        if stopped not in _SOURCE_LOST:
            # A decoder that stopped early leaves the rest of its sentence unread.
            yield from pass_over(reader)
            self.stream.words.end_sentence(self._before_sentence + reader.units, stopped)
        return stopped

    def _decode(
        self, shown: Sequence[Committed], started: float, is_over: bool = False
    ) -> Generator[Ask | None, list[Answer] | None, str]:
        decoder = self._make_decoder(
            source=self.reader,
            head_is_fed=self.kept.has_head_alone,
            started=started,
            on_word=lambda ids, delay, ms: self.stream.words.put_word(0, ids, self._before_sentence + delay, ms),
            committed=shown,
            context=self.kept.ids,
            is_over=is_over,
        )
        yield from decoder.run()
        self.kept.end_sentence(decoder)
        return decoder.stop_reason

    @property
    def _before_sentence(self) -> int:
        """Source units before those that the decoder counts."""
        return self._words_before + self.reader.words_before


__all__ = ["StreamLife"]
