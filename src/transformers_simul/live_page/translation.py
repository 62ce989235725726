# SPDX-License-Identifier: Apache-2.0
"""One live translation as a page shows it: source words as they come, target words as they are written."""

import logging
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any

from ..evaluation.latency import running_lagging
from ..models.policies import Policy
from ..models.streams import SourceStream
from ..models.text import ends_sentence
from ..streaming.engine import StreamEngine
from ..streaming.streamer import Word

_logger = logging.getLogger(__name__)

# A text without punctuation is cut here, so that it fits into the engine's cache.
MAX_SENTENCE_WORDS = 60


class LiveTranslation:
    """Feeds one stream of an engine, sentence by sentence, and collects what it writes in a thread of its own.

    Args:
        engine (`StreamEngine`): started.
        policy (`Policy`): when to READ and WRITE.
        title (`str`, *optional*): what the page calls it.
        timeout_s (`float`, *optional*): the longest wait for a source word; then the translation ends by itself.
        target_lang (`str`, *optional*): of those that the processor knows.
        glossary (`Glossary` or `Mapping[str, str]`, *optional*): terms to prefer.

    Raises:
        EngineFull: if the engine has no free place.

    Example:

    ```python
    >>> from transformers_simul import StreamEngine, WaitKPolicy
    >>> from transformers_simul.live_page.translation import LiveTranslation
    >>> with StreamEngine(model, processor, max_streams=1) as engine:
    ...     live = LiveTranslation(engine, WaitKPolicy(1))
    ...     live.feed(["a", "dog"])
    ...     live.end()
    ...     live.join()
    >>> live.source, live.is_done
    (['a', 'dog'], True)

    ```
    """

    def __init__(
        self,
        engine: StreamEngine,
        policy: Policy,
        title: str = "",
        timeout_s: float | None = None,
        target_lang: str | None = None,
        glossary: Any = None,
    ):
        self.title = title
        self.source: list[str] = []
        self.target: list[Word] = []
        # Milliseconds from the last word that a target word needed to the word itself.
        self.computing_ms: list[float] = []
        self.error = ""
        self._arrived_s: list[float] = []
        self._timeout_s = timeout_s
        source = SourceStream(unit=engine.processor.unit, timeout_s=timeout_s, max_waiting=engine.max_waiting)
        self._stream = engine.open(
            policy,
            source,
            sentences=True,
            max_sentence_words=MAX_SENTENCE_WORDS,
            target_lang=target_lang,
            glossary=glossary,
        )
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def feed(self, words: Sequence[str]) -> None:
        """Feed what is new in the words of the source so far; do nothing once the translation has ended."""
        for word in words[len(self.source) :]:
            # Noted first: the word that it leads to may be written before this thread goes on.
            self.source.append(word)
            self._arrived_s.append(time.monotonic())
            try:
                self._stream.source.put(f"{word} ")
            except (ValueError, BufferError):
                # Only the stream itself can say whether it still takes words; it may end at any moment.
                self.source.pop()
                self._arrived_s.pop()
                return

    def end(self) -> None:
        """Note that the source is complete."""
        self._stream.source.end()

    def cancel(self) -> None:
        """Give up the translation, and free its place."""
        self._stream.source.cancel()

    def join(self) -> None:
        """Wait until the last word is written."""
        self._reader.join()

    @property
    def is_done(self) -> bool:
        """Whether nothing more will be written."""
        return not self._reader.is_alive()

    def lagging_words(self) -> float | None:
        """Return the mean [`running_lagging`] of the sentences for which there is one; None if there is none."""
        lags = [running_lagging(delays, words) for words, delays in self._sentences()]
        shown = [lag for lag in lags if lag is not None]
        return statistics.fmean(shown) if shown else None

    def untranslated_words(self) -> int:
        """Return the number of source words for which little or nothing was written: sentences without a target word,
        and what followed the last target word if it came before half of its sentence was read. 0 while the translation
        runs."""
        if not self.is_done:
            return 0
        tails = [(words, words - max(delays, default=0)) for words, delays in self._sentences()]
        return sum(tail for words, tail in tails if 2 * tail > words)

    def median_ms(self) -> float | None:
        """Return the median time from the last source word that was needed to the target word; None without words."""
        return statistics.median(self.computing_ms) if self.computing_ms else None

    def _sentences(self) -> list[tuple[int, list[int]]]:
        """Return, for each sentence, the number of its source words so far and the delays of its target words within
        it."""
        delays = [word.delay for word in self.target]
        sentences, start = [], 0
        for end, word in enumerate(self.source, start=1):
            if ends_sentence(word) or end - start == MAX_SENTENCE_WORDS or end == len(self.source):
                sentences.append((end - start, [delay - start for delay in delays if start < delay <= end]))
                start = end
        return sentences

    def _collect(self) -> None:
        written_s = 0.0
        try:
            for word in self._stream.words:
                now = time.monotonic()
                needed = self._arrived_s[max(word.delay, 1) - 1]
                self.computing_ms.append(1000 * (now - max(needed, written_s)))
                self.target.append(word)
                written_s = now
        except Exception:
            # Its text may hold anything: the log has it, the visitor does not. The engine goes on.
            _logger.exception("a translation on the page ended with an error")
            self.error = "The translation has ended with an error inside the page's server."
        if self._stream.stop_reason.startswith("max_"):
            self.error = "A sentence was too long for this page, and the translation ended with it."
        if self._stream.stop_reason == "timeout":
            self.error = f"No word came for {self._timeout_s:.0f} seconds, so the translation has ended."


__all__ = ["LiveTranslation"]
