# SPDX-License-Identifier: Apache-2.0
"""A recogniser that listens while somebody speaks, made of a model that only knows whole recordings."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy

from .audio import RATE
from .recogniser import FRAME, SpokenWord, Transcriber, Voice

# Probabilities at which speech begins and ends: between them it goes on as it was.
_BEGINS, _ENDS = 0.5, 0.35
# Audio kept from before speech was noticed, and the least speech that is worth writing down, in seconds.
_LEAD_S, _LEAST_S = 0.3, 0.15
# Words of an utterance that a model is told of once their audio is gone.
_CONTEXT_WORDS = 30
# Nobody says more words in a second, and nobody says the same words more often in a row.
_WORDS_PER_SECOND, _MOST_REPEATS = 6, 4
# Words that may be repeated so.
_LONGEST_LOOP = 8


class LocalAgreementRecogniser:
    """LocalAgreement-2 (Liu et al. 2020; Macháček et al. 2023): a word is committed once two transcriptions of a piece
    of audio that grows agree on it.

    Only what voice activity takes for speech is transcribed, from `_LEAD_S` before it to a pause. So silence, noise and
    most music cost nothing, and a model is not asked to find words where there are none. The piece never grows beyond
    `window_s`: then what has been committed leaves it, and if nothing was, the words of the newest transcription are
    committed as far as they must leave. Repetitions without end, which models of this kind fall into, are cut off.
    Memory is bounded, and times are counted in samples, so they do not drift.

    Args:
        transcriber (`Transcriber`): the model.
        voice (`Voice`): tells speech from other sounds.
        step_s (`float`, *optional*): how much new audio is worth a transcription.
        window_s (`float`, *optional*): most audio that is transcribed at once.
        pause_s (`float`, *optional*): a pause that ends an utterance: all of it is committed.

    Raises:
        ValueError: for times that are not positive, or a window of less than three steps.

    Example, with a model that hears a word in each half second:

    ```python
    >>> import numpy
    >>> from transformers_simul.speech.agreement import LocalAgreementRecogniser
    >>> from transformers_simul.speech.recogniser import SpokenWord
    >>> class Counts:
    ...     punctuates = False
    ...     def transcribe(self, samples, before):
    ...         return [SpokenWord(f"word{i}", i / 2, i / 2 + 0.5) for i in range(len(samples) // 8000)]
    >>> class Always:
    ...     def probability(self, frame): return 1.0
    ...     def reset(self): pass
    >>> recogniser = LocalAgreementRecogniser(Counts(), Always())
    >>> second = numpy.ones(16000, dtype="float32")
    >>> [[word.text for word in recogniser.hear(second)] for _ in range(3)]
    [[], ['word0'], ['word1', 'word2']]

    ```
    """

    def __init__(
        self,
        transcriber: Transcriber,
        voice: Voice,
        step_s: float = 1.0,
        window_s: float = 12.0,
        pause_s: float = 0.7,
    ):
        for name, value in (("step_s", step_s), ("window_s", window_s), ("pause_s", pause_s)):
            if not 0 < value <= 30:
                raise ValueError(f"{name} must be above 0 and at most 30 seconds, got {value}.")
        if window_s < 3 * step_s:
            raise ValueError(f"window_s must be at least three times step_s, got {window_s} and {step_s}.")
        self.transcriber, self.voice = transcriber, voice
        voice.reset()
        self.step, self.window, self.pause = (round(each * RATE) for each in (step_s, window_s, pause_s))
        # Samples that were heard, and those that make no whole frame yet.
        self._heard, self._rest = 0, numpy.zeros(0, dtype=numpy.float32)
        self._lead: deque[numpy.ndarray] = deque(maxlen=round(_LEAD_S * RATE / FRAME))
        # The end of what was committed, in seconds; it outlives an utterance.
        self._until_s = 0.0
        self._begin([])

    def _begin(self, frames: list[numpy.ndarray]) -> None:
        """Begin a new utterance, or none if there is no frame."""
        self._frames, self._size = frames, sum(map(len, frames))
        # Samples since the last transcription, of those since then with speech, of speech in all, since speech.
        self._new, self._new_voiced, self._voiced, self._silent = self._size, 0, 0, 0
        # Committed words whose audio is in the window, those that have left it, and the rest of the last transcription.
        self._said: list[SpokenWord] = []
        self._gone: deque[SpokenWord] = deque(maxlen=_CONTEXT_WORDS)
        self._open: list[SpokenWord] = []
        self._recent: deque[str] = deque(maxlen=_LONGEST_LOOP * (_MOST_REPEATS + 1))

    def hear(self, samples: numpy.ndarray, is_last: bool = False) -> list[SpokenWord]:
        """See [`Recogniser`]. A pause has an empty text."""
        words = [word for frame in self._cut(samples) for word in self._take(frame)]
        if is_last:
            self._heard += len(self._rest)
            if self._frames:
                self._frames.append(self._rest)
            self._rest = self._rest[:0]
            return words + self._finish()
        # A block may end within a frame.
        if self._frames and self._new > self.step - FRAME and self._new_voiced:
            words += self._agree()
        return words

    def _cut(self, samples: numpy.ndarray) -> Iterator[numpy.ndarray]:
        samples = numpy.concatenate([self._rest, samples])
        whole = len(samples) // FRAME * FRAME
        self._rest = samples[whole:].copy()
        yield from samples[:whole].reshape(-1, FRAME)

    def _take(self, frame: numpy.ndarray) -> list[SpokenWord]:
        probability = self.voice.probability(frame)
        self._heard += FRAME
        if not self._frames:
            # A view would keep all of the caller's block.
            self._lead.append(frame.copy())
            if probability < _BEGINS:
                return []
            self._begin([*self._lead])
            self._lead.clear()
            self._voiced = self._new_voiced = FRAME
            return []
        self._frames.append(frame.copy())
        self._size, self._new = self._size + FRAME, self._new + FRAME
        if probability >= _ENDS:
            self._voiced, self._new_voiced, self._silent = self._voiced + FRAME, self._new_voiced + FRAME, 0
        else:
            self._silent += FRAME
        if self._silent >= self.pause:
            return self._finish()
        return self._slide() if self._size >= self.window else []

    def _finish(self) -> list[SpokenWord]:
        """The utterance has ended: all of it is certain."""
        words: list[SpokenWord] = []
        if self._voiced >= _LEAST_S * RATE:
            words = self._commit(self._transcribe() if self._new_voiced else self._open)
            if words or self._said or self._gone:
                words.append(SpokenWord("", self._until_s, max(self._until_s, self._heard / RATE)))
        self.voice.reset()
        self._begin([])
        return words

    def _agree(self) -> list[SpokenWord]:
        """Commit what two transcriptions agree on."""
        last, self._open = self._open, self._transcribe()
        count = 0
        while count < min(len(last), len(self._open)) and _key(last[count]) == _key(self._open[count]):
            count += 1
        words, self._open = self._open[:count], self._open[count:]
        return self._commit(words)

    def _slide(self) -> list[SpokenWord]:
        """Make room in a full window."""
        words = self._agree()
        # At the latest here, so that the next transcription is a step away.
        must = self._heard / RATE - (self.window - self.step) / RATE
        forced = [word for word in self._open if word.start_s < must]
        words += self._commit(forced)
        self._open = self._open[len(forced) :]
        begin = self._heard - self._size
        cut_s = max(must, min(self._until_s, (self._heard - FRAME) / RATE))
        count = max(1, min(len(self._frames) - 1, round((cut_s * RATE - begin) / FRAME)))
        self._size -= sum(map(len, self._frames[:count]))
        del self._frames[:count]
        self._gone.extend(self._said)
        self._said = []
        return words

    def _transcribe(self) -> list[SpokenWord]:
        """Words of the window that are not committed yet, with times from the start of the audio."""
        begin_s = (self._heard - self._size) / RATE
        before = " ".join(word.text for word in self._gone)
        heard = self.transcriber.transcribe(numpy.concatenate(self._frames), before)
        self._new = self._new_voiced = 0
        words = [SpokenWord(word.text, word.start_s + begin_s, word.end_s + begin_s) for word in heard if word.text]
        words = without_loops(words)[: int(self._size / RATE * _WORDS_PER_SECOND) + 4]
        return words[self._known(words) :]

    def _known(self, words: Sequence[SpokenWord]) -> int:
        """How many words of a new transcription are those that were committed: as few differences as can be, and an end
        near theirs."""
        if not self._said:
            return 0
        # Levenshtein's distances of the committed words to the first 0, 1, 2, ... of the new ones.
        row = list(range(len(words) + 1))
        for count, said in enumerate(self._said, start=1):
            last, row = row, [count]
            for index, word in enumerate(words):
                row.append(min(last[index] + (_key(said) != _key(word)), last[index + 1] + 1, row[index] + 1))
        ends = [self._said[0].start_s, *(word.end_s for word in words)]
        costs = [distance + abs(end - self._until_s) for distance, end in zip(row, ends, strict=True)]
        return costs.index(min(costs))

    def _commit(self, words: Sequence[SpokenWord]) -> list[SpokenWord]:
        """Commit words, whose times never go backwards nor beyond what was heard, and which are not repeated
        endlessly."""
        committed = []
        for word in words:
            self._recent.append(_key(word))
            if _goes_round([*self._recent]):
                continue
            start = min(max(word.start_s, self._until_s), self._heard / RATE)
            self._until_s = min(max(word.end_s, start), self._heard / RATE)
            committed.append(SpokenWord(word.text, start, self._until_s))
        self._said += committed
        return committed


def without_loops(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Return words in which up to eight that are said again and again are said once.

    Args:
        words (`Sequence[SpokenWord]`): of a transcription.

    Example:

    ```python
    >>> from transformers_simul.speech.agreement import without_loops
    >>> from transformers_simul.speech.recogniser import SpokenWord
    >>> words = [SpokenWord(text, 0.0, 0.0) for text in ("I said " + "thank you " * 9 + "all").split()]
    >>> " ".join(word.text for word in without_loops(words))
    'I said thank you all'

    ```
    """
    keys, at = [_key(word) for word in words], 0
    kept: list[SpokenWord] = []
    while at < len(words):
        size, times = next(
            (
                (size, times)
                for size in range(1, _LONGEST_LOOP + 1)
                if (times := _times(keys, at, size)) > _MOST_REPEATS
            ),
            (1, 1),
        )
        kept += words[at : at + size]
        at += size * times
    return kept


def _goes_round(keys: Sequence[str]) -> bool:
    """Whether the last words were said once too often in a row."""
    return any(_times(keys[::-1], 0, size) > _MOST_REPEATS for size in range(1, _LONGEST_LOOP + 1))


def _times(keys: Sequence[str], at: int, size: int) -> int:
    """Return how often in a row the words there are said."""
    times = 1
    while keys[at + times * size : at + (times + 1) * size] == keys[at : at + size]:
        times += 1
    return times


def _key(word: SpokenWord) -> str:
    """What must be equal for two words to agree: letters and digits, and a mark that ends a sentence."""
    text = word.text.casefold()
    return "".join(character for character in text if character.isalnum() or character in ".?!") or text


__all__ = ["LocalAgreementRecogniser", "without_loops"]
