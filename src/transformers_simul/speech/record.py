# SPDX-License-Identifier: Apache-2.0
"""What became of a stream of speech: its log for `score`, and how late its words were."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy

from ..evaluation.instances import SpeechInstance
from .listening import Event, TranslatedWord

# An endless stream is scored on so many of its newest words.
_MOST_WORDS = 100_000


class SpeechRecord:
    """Takes the events of a [`Listener`].

    Args:
        keeps_words (`bool`, *optional*): whether all target words are kept, for the log; otherwise memory is bounded.
    """

    def __init__(self, keeps_words: bool = True):
        self.keeps_words = keeps_words
        self.words: list[TranslatedWord] = []
        self.source: list[str] = []
        # Source and target words so far.
        self.counts = [0, 0]
        self._recognised: deque[float] = deque(maxlen=_MOST_WORDS)
        self._heard: deque[float] = deque(maxlen=_MOST_WORDS)
        self._there: deque[float] = deque(maxlen=_MOST_WORDS)

    def add(self, event: Event) -> None:
        """Record what came of a block.

        Args:
            event (`Event`): what came of it.
        """
        spoken = [word for word in event.source if word.text]
        self._recognised.extend(event.heard_s - word.end_s for word in spoken)
        target = [word for word in event.target if word.text]
        self._heard.extend(word.heard_s - word.spoken_s for word in target)
        self._there.extend(word.elapsed_s - word.spoken_s for word in target)
        self.counts = [self.counts[0] + len(spoken), self.counts[1] + len(target)]
        if self.keeps_words:
            self.words += target
            self.source += [word.text for word in spoken]

    def lags(self) -> dict[str, Sequence[float]]:
        """How late the newest words were.

        Returns:
            `dict[str, Sequence[float]]`: seconds from the end of a source word to its recognition, and to each target
            word for which it was the last that had been read: by audio that had been heard, which leaves computing
            aside, and by the clock.
        """
        return {
            "word to its recognition": self._recognised,
            "word to its translation, computing aside": self._heard,
            "word to its translation": self._there,
        }

    def instance(self, index: int, audio: str, heard_s: float, reference: str, processor: Any) -> SpeechInstance:
        """Return the line of the log.

        Args:
            index (`int`): its number.
            audio (`str`): the recording.
            heard_s (`float`): its length.
            reference (`str`): its translation.
            processor (`SimulProcessor`): joins words.
        """
        words = self.words
        milliseconds: dict[str, Any] = {
            "delays": [round(1000 * word.heard_s, 3) for word in words],
            "elapsed": [round(1000 * max(word.elapsed_s, word.heard_s), 3) for word in words],
            "source_length": round(1000 * heard_s, 3),
        }
        text = processor.join([word.text for word in words])
        return SpeechInstance(
            index=index,
            prediction=text,
            prediction_length=len(words),
            reference=reference,
            source=audio,
            **milliseconds,
        )

    def summary(self, heard_s: float, worked_s: float | None = None) -> str:
        """Say in a sentence or two what was heard and how late words were.

        Args:
            heard_s (`float`): audio that was heard.
            worked_s (`float`, *optional*): time that was spent on it; above `heard_s` nobody keeps up with a speaker.
        """
        source, target = self.counts
        if not source:
            return f"{heard_s:.1f} s of audio: no speech was heard in it."
        text = f"{heard_s:.1f} s of audio, {source} source words, {target} target words"
        if worked_s is not None:
            text += f", {worked_s / heard_s:.2f} s of work for each second"
        text += f"; from a word's end to its recognition {_percentiles(self._recognised)}"
        return f"{text}, to the translation that it allows {_percentiles(self._there)}" if self._there else text


def _percentiles(values: "deque[float]") -> str:
    median, late = numpy.percentile([*values], [50, 95])
    return f"{median:.2f} s (95%: {late:.2f} s)"


__all__ = ["SpeechRecord"]
