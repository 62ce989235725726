# SPDX-License-Identifier: Apache-2.0
"""Speech in, translation out, in step: what was recognised is translated before the next audio is heard."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy

from ..models.policies import Policy
from ..models.processing import SimulProcessor
from ..streaming.engine import StreamEngine
from ..streaming.streamer import SimulStreamer
from .audio import RATE
from .recogniser import Recogniser, SpokenWord
from .writing import SentenceWriter


class TranslatedWord(NamedTuple):
    """A target word on the clock of the audio.

    Attributes:
        text (`str`): the word; empty for the end of a sentence.
        delay (`int`): source words that had been read.
        spoken_s (`float`): when the last of them had been said.
        heard_s (`float`): audio that had been heard: the delay of SimulEval's speech logs, without computing time.
        elapsed_s (`float`): when the word was there, computing included; see [`Clock`].
    """

    text: str
    delay: int
    spoken_s: float
    heard_s: float
    elapsed_s: float


class Clock(Protocol):
    """When things are there, in seconds from the start of the audio."""

    def hear(self, heard_s: float) -> None:
        """Note that work on new audio begins.

        Args:
            heard_s (`float`): where it ends.
        """

    def now_s(self) -> float:
        """Return the time."""


class WallClock:
    """The clock of audio that arrives while it is said. The audio began at the latest when a piece arrived, less all
    audio up to that piece's end; a pipe may bring a recording faster than it was said, whose words are no earlier for
    that."""

    def __init__(self) -> None:
        self._start: float | None = None

    def hear(self, heard_s: float) -> None:
        """See [`Clock`]."""
        start = time.monotonic() - heard_s
        self._start = start if self._start is None else min(self._start, start)

    def now_s(self) -> float:
        """See [`Clock`]."""
        return time.monotonic() - (self._start or 0.0)


class ReplayClock:
    """The clock of a recording that is read as fast as possible: audio arrives when it was said, and work on it begins
    when it is there and the work before is done.

    Args:
        timer (`Callable[[], float]`, *optional*): what work is measured by, in seconds: `time.perf_counter` without;
            `time.process_time` is the clock of a machine that does nothing else, on one thread.
    """

    def __init__(self, timer: Callable[[], float] | None = None) -> None:
        self._timer = timer or time.perf_counter
        self._begin = self._began = 0.0

    def hear(self, heard_s: float) -> None:
        """See [`Clock`]."""
        self._begin = max(self.now_s(), heard_s) if self._began else heard_s
        self._began = self._timer()

    def now_s(self) -> float:
        """See [`Clock`]."""
        return self._begin + self._timer() - self._began


class Event(NamedTuple):
    """What came of a block of audio.

    Attributes:
        heard_s (`float`): audio heard so far.
        source (`list[SpokenWord]`): source words that were committed; an empty text is a pause.
        target (`list[TranslatedWord]`): target words that were written.
    """

    heard_s: float
    source: list[SpokenWord]
    target: list[TranslatedWord]


class _Collector(SimulStreamer):
    """Hands every word over as it is written."""

    def __init__(self, processor: SimulProcessor, listener: "Listener"):
        super().__init__(processor)
        self.listener = listener

    def put_word(self, row: int, ids: list[int], delay: int, elapsed_ms: float) -> None:
        self.listener.write(self.word(row, ids, delay, elapsed_ms).text, delay)

    def end_sentence(self, source_units: int, reason: str) -> None:
        self.listener.write("", source_units)


class Hearing:
    """Hears a stream of audio, and has what was said translated: what [`Listener`] and [`RemoteListener`] share.

    Args:
        recogniser, writer, clock: as [`Listener`] has them.

    Attributes:
        heard_s (`float`): audio heard so far.
        worked_s (`float`): time spent on it so far.
    """

    def __init__(self, recogniser: Recogniser, writer: SentenceWriter | None, clock: Clock | None):
        self.recogniser, self.writer, self.clock = recogniser, writer, clock or ReplayClock()
        self.heard_s = self.worked_s = 0.0

    def listen(self, blocks: Iterable[numpy.ndarray]) -> Iterator[Event]:
        """Hear all blocks as they come, and their end.

        Args:
            blocks (`Iterable[numpy.ndarray]`): float32 samples at 16 kHz, as [`AudioFile.blocks`], [`pcm_blocks`] or a
                microphone give them.

        Yields:
            [`Event`]: for each block, and for the end.
        """
        for block in blocks:
            yield self.hear(block)
        yield self.hear(numpy.zeros(0, dtype=numpy.float32), is_last=True)

    def hear(self, samples: numpy.ndarray, is_last: bool = False) -> Event:
        """Hear the next samples, and translate what was said.

        Args:
            samples (`numpy.ndarray`): float32 at 16 kHz, `(samples,)`.
            is_last (`bool`, *optional*): whether the audio ends with them.

        Raises:
            RuntimeError: if the translation has broken.
            ServerError, ConnectionLost: if a server translates, and the stream has failed.
        """
        began = time.perf_counter()
        self.heard_s += len(samples) / RATE
        self.clock.hear(self.heard_s)
        words = self.recogniser.hear(samples, is_last)
        if self.writer is not None:
            words = self.writer.write(words, is_last)
        target = self._translate(words, is_last)
        self.worked_s += time.perf_counter() - began
        return Event(self.heard_s, words, target)

    def _translate(self, words: list[SpokenWord], is_last: bool) -> list[TranslatedWord]:
        """Have these words translated, and return what has been written since the last time."""
        raise NotImplementedError


class Listener(Hearing):
    """Translates one stream of audio, sentence by sentence. Memory is bounded, whatever its length.

    Args:
        model: of any family.
        processor (`SimulProcessor`): saved beside it.
        recogniser (`Recogniser`): for this stream alone.
        policy (`Policy` or `str`): when to READ and WRITE, in source words.
        writer (`SentenceWriter`, *optional*): for a recogniser that writes no punctuation.
        clock (`Clock`, *optional*): a [`ReplayClock`] unless told.
        max_sentence_words (`int`, *optional*): where to end a sentence that has no end.
        max_tokens (`int`, *optional*): most tokens of the stream's row, as [`StreamEngine`] takes them.
        **kwargs: of [`StreamEngine.open`], such as `max_new_tokens`.

    Raises:
        ValueError: for a processor that counts tokens.

    Example:

    ```python
    >>> import numpy
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.speech.listening import Listener
    >>> from transformers_simul.speech.recogniser import SpokenWord
    >>> class Knows:
    ...     def hear(self, samples, is_last=False):
    ...         return [SpokenWord("a", 0.0, 0.1), SpokenWord("dog", 0.1, 0.4)] if is_last else []
    >>> listener = Listener(model, processor, Knows(), WaitKPolicy(1), max_new_tokens=4)
    >>> events = list(listener.listen([numpy.zeros(16000, dtype="float32")]))
    >>> [word.text for event in events for word in event.source], events[-1].target[0].heard_s
    (['a', 'dog'], 1.0)

    ```
    """

    def __init__(
        self,
        model: Any,
        processor: SimulProcessor,
        recogniser: Recogniser,
        policy: Policy | str,
        writer: SentenceWriter | None = None,
        clock: Clock | None = None,
        max_sentence_words: int = 60,
        max_tokens: int = 1024,
        **kwargs: Any,
    ):
        if processor.unit == "token":
            raise ValueError("processor must count words or characters: a recogniser knows no tokens.")
        super().__init__(recogniser, writer, clock)
        self.processor = processor
        # When the source units that may still be asked about had been said, and the number of the first of them.
        self._spoken: deque[float] = deque([0.0])
        self._first = 0
        self._target: list[TranslatedWord] = []
        self._engine = StreamEngine(model, processor, max_streams=1, max_tokens=max_tokens)
        self._stream = self._engine.open(
            policy,
            sentences=True,
            max_sentence_words=max_sentence_words,
            streamer=_Collector(processor, self),
            **kwargs,
        )

    def _translate(self, words: list[SpokenWord], is_last: bool) -> list[TranslatedWord]:
        for word in words:
            self._put(word)
        if is_last:
            self._stream.source.end()
        while self._engine.step():
            pass
        if is_last:
            self._engine.close()
        # What went wrong in the model or the policy.
        for _ in self._stream.words if self._stream.stop_reason else ():
            pass
        target, self._target = self._target, []
        return target

    def close(self) -> None:
        """Give the translation up."""
        self._stream.close()
        self._engine.close()

    def _put(self, word: SpokenWord) -> None:
        if not word.text:
            return
        source = self._stream.source
        before = source.put_units
        # A word is complete when white space follows it; characters need none between them.
        source.put(word.text if source.unit == "char" else f"{word.text} ")
        self._spoken.extend([word.end_s] * (source.put_units - before))

    def write(self, text: str, delay: int) -> None:
        """Called for each word that is written, and at the end of a sentence.

        Args:
            text (`str`): the word; empty for the end of a sentence.
            delay (`int`): source units that had been read.
        """
        # Delays do not fall, so nobody asks about the units before.
        while self._first < delay and len(self._spoken) > 1:
            self._spoken.popleft()
            self._first += 1
        self._target.append(TranslatedWord(text, delay, self._spoken[0], self.heard_s, self.clock.now_s()))


__all__ = ["Clock", "Event", "Hearing", "Listener", "ReplayClock", "TranslatedWord", "WallClock"]
