# SPDX-License-Identifier: Apache-2.0
"""One live translation as a page shows it: source words as they come, target words as they are written."""

import statistics
import threading
import time
from collections.abc import Sequence

from ..evaluation.latency import running_lagging
from ..models.policies import Policy
from ..streaming.engine import StreamEngine
from ..streaming.streamer import Word


class LiveTranslation:
    """Feeds one stream of an engine and collects what it writes, in a thread of its own.

    Args:
        engine (`StreamEngine`): started.
        policy (`Policy`): when to READ and WRITE.
        title (`str`, *optional*): what the page calls it.
        wait_s (`float`, *optional*): how long to wait for a place.

    Raises:
        EngineFull: if there is none.

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

    def __init__(self, engine: StreamEngine, policy: Policy, title: str = "", wait_s: float = 0.0):
        self.title = title
        self.source: list[str] = []
        self.target: list[Word] = []
        # Milliseconds from the last word that a target word needed to the word itself.
        self.computing_ms: list[float] = []
        self.error = ""
        self._arrived_s: list[float] = []
        # The page calls from several threads.
        self._feeding, self._is_closed = threading.Lock(), False
        self._stream = engine.open(policy, wait_s=wait_s)
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def feed(self, words: Sequence[str]) -> None:
        """What is new in the source so far; nothing once the translation has ended.

        Args:
            words (`Sequence[str]`): all of its words.
        """
        with self._feeding:
            for word in words[len(self.source) :]:
                if self.is_done or self._is_closed:
                    return
                self.source.append(word)
                self._arrived_s.append(time.monotonic())
                self._stream.source.put(f"{word} ")

    def end(self) -> None:
        """The source is complete."""
        with self._feeding:
            self._is_closed = True
            self._stream.source.end()

    def cancel(self) -> None:
        """Give the translation up and its place free."""
        with self._feeding:
            self._is_closed = True
            self._stream.source.cancel()

    def join(self) -> None:
        """Wait until the last word is written."""
        self._reader.join()

    @property
    def is_done(self) -> bool:
        """Whether nothing more will be written."""
        return not self._reader.is_alive()

    def lagging_words(self) -> float | None:
        """See [`running_lagging`]."""
        return running_lagging([word.delay for word in self.target], max(len(self.source), 1))

    def median_ms(self) -> float | None:
        """Of the time from the last source word that was needed to the target word; None without words."""
        return statistics.median(self.computing_ms) if self.computing_ms else None

    def _collect(self) -> None:
        written_s = 0.0
        try:
            for word in self._stream.words:
                now = time.monotonic()
                needed = self._arrived_s[max(word.delay, 1) - 1]
                self.computing_ms.append(1000 * (now - max(needed, written_s)))
                self.target.append(word)
                written_s = now
        except Exception as error:
            # Shown on the page; the engine goes on.
            self.error = str(error)
        if self._stream.stop_reason in ("max_tokens", "max_new_tokens"):
            self.error = "The text is longer than one sentence may be here; what was written stands."


__all__ = ["LiveTranslation"]
