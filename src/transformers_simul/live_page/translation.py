# SPDX-License-Identifier: Apache-2.0
"""One live translation as a page shows it: source words as they come, target words as they are written."""

import asyncio
import statistics
import time
from collections.abc import Sequence

from ..evaluation.latency import running_lagging
from ..serving.failure import Failure
from ..serving.messages import Ended, SentenceEnd, Start, WordMessage
from ..serving.metrics import Metrics
from ..serving.models import Served
from ..serving.punctuation import EndsBetween
from ..serving.session import Session
from ..serving.settings import Settings


class LiveTranslation:
    """A stream of the server without a network, and what a page shows of it. All calls come from one event loop.

    Args:
        served (`Served`): the language pair; its engine is started.
        policy (`str`): the name of the policy.
        metrics (`Metrics`): gets the figures.
        title (`str`, *optional*): what the page calls it.
        idle_s (`float`, *optional*): the longest wait for a source word; then the translation ends by itself.
        ends_between (`Callable`, *optional*): where sentences end in source without punctuation, which is then added.

    Raises:
        Failure: if the engine has no free place, or cannot follow the policy.

    Example:

    ```python
    >>> import asyncio
    >>> from transformers_simul import StreamEngine
    >>> from transformers_simul.live_page.translation import LiveTranslation
    >>> from transformers_simul.serving.metrics import Metrics
    >>> from transformers_simul.serving.models import Served
    >>> async def main(engine):
    ...     live = LiveTranslation(Served("demo", engine, "en", "de"), "wait-1", Metrics())
    ...     live.feed(["a", "dog"])
    ...     live.end()
    ...     await live.join()
    ...     return live.source, live.is_done
    >>> with StreamEngine(model, processor, max_streams=1) as engine:
    ...     asyncio.run(main(engine))
    (['a', 'dog'], True)

    ```
    """

    def __init__(
        self,
        served: Served,
        policy: str,
        metrics: Metrics,
        title: str = "",
        idle_s: float = 60.0,
        ends_between: EndsBetween | None = None,
    ):
        self.title = title
        self.source: list[str] = []
        self.target: list[WordMessage] = []
        # When the engine got each source word.
        self._given_ms: list[float] = []
        # Milliseconds from the last word that a target word needed, once the engine had it, to the word itself.
        self.computing_ms: list[float] = []
        self.error = ""
        # Source words up to the end of each sentence.
        self.sentence_ends: list[int] = []
        self._idle_s = idle_s
        start = Start(policy=policy, add_punctuation=ends_between is not None)
        self._session = Session([served], start, Settings(), metrics, {"": ends_between} if ends_between else {})
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(idle_s, self._time_out)
        self._reader = self._loop.create_task(self._collect())

    def feed(self, words: Sequence[str]) -> None:
        """Feed what is new in the words of the source so far; do nothing once the source or the translation has
        ended."""
        for word in words[len(self.source) :]:
            if self.is_done or self._session.has_ended:
                return
            try:
                self._session.put(f"{word} ")
            except Failure as failure:
                self._session.stop(failure)
                return
            self.source.append(word)
            self._note_given()
            self._timer.cancel()
            self._timer = self._loop.call_later(self._idle_s, self._time_out)

    def end(self) -> None:
        """Note that the source is complete."""
        self._timer.cancel()
        try:
            self._session.end()
        except Failure as failure:
            self._session.stop(failure)
        self._note_given()

    def _note_given(self) -> None:
        # A word that waits for the next, which may begin another sentence, is not given yet.
        given = self._session.tracks[0].source.put_units
        self._given_ms += [_now_ms()] * (given - len(self._given_ms))

    def cancel(self) -> None:
        """Give up the translation, and free its place."""
        self._session.cancel()

    async def join(self) -> None:
        """Wait until the last word is written."""
        await self._reader

    @property
    def is_done(self) -> bool:
        """Whether nothing more will be written."""
        return self._reader.done()

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
        for end in [*self.sentence_ends, len(self.source)]:
            if end > start:
                sentences.append((end - start, [delay - start for delay in delays if start < delay <= end]))
            start = end
        return sentences

    def _time_out(self) -> None:
        self._session.stop(Failure("idle_timeout", f"No word came for {self._idle_s:.0f} seconds."))

    async def _collect(self) -> None:
        written_ms = 0.0
        try:
            async for message in self._session.messages():
                match message:
                    case WordMessage():
                        now_ms = _now_ms()
                        self.computing_ms.append(now_ms - max(self._given_ms[message.delay - 1], written_ms))
                        self.target.append(message)
                        written_ms = now_ms
                    case SentenceEnd():
                        self.sentence_ends.append(message.source_words)
                    case Ended() if message.reason.startswith("max_"):
                        self.error = "A sentence was too long for this page, and the translation ended with it."
        except Failure as failure:
            # The log has what was wrong inside, the visitor does not.
            self.error = f"The translation has ended: {failure}"
        finally:
            self._timer.cancel()
            self._session.close()


def _now_ms() -> float:
    return 1000 * time.monotonic()


__all__ = ["LiveTranslation"]
