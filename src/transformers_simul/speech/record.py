# SPDX-License-Identifier: Apache-2.0
"""What became of a stream of speech: its log for `score`, and how late its words were."""

from collections import deque
from typing import Any

import numpy

from ..evaluation.instances import SpeechInstance
from .listening import Event, TranslatedWord

# Of an endless stream, so many of the newest words count.
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
        # Seconds from a source word's end to its recognition, computing aside, and to the target words that follow it.
        self._recognised: deque[float] = deque(maxlen=_MOST_WORDS)
        self._lags: deque[float] = deque(maxlen=_MOST_WORDS)
        self._counts = [0, 0]

    def add(self, event: Event) -> None:
        """What came of a block.

        Args:
            event (`Event`): it.
        """
        spoken = [word for word in event.source if word.text]
        self._recognised.extend(event.heard_s - word.end_s for word in spoken)
        target = [word for word in event.target if word.text]
        self._lags.extend(word.elapsed_s - word.spoken_s for word in target)
        self._counts = [self._counts[0] + len(spoken), self._counts[1] + len(target)]
        if self.keeps_words:
            self.words += target
            self.source += [word.text for word in spoken]

    def instance(self, index: int, audio: str, heard_s: float, reference: str, processor: Any) -> SpeechInstance:
        """The log's line.

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

    def summary(self, heard_s: float) -> str:
        """A sentence or two on what was heard and how late words were.

        Args:
            heard_s (`float`): audio that was heard.
        """
        source, target = self._counts
        if not source:
            return f"{heard_s:.1f} s of audio: no speech was heard in it."
        text = f"{heard_s:.1f} s of audio, {source} source words, {target} target words"
        text += f"; from a word's end to its recognition {_percentiles(self._recognised)}"
        return f"{text}, to the translation that it allows {_percentiles(self._lags)}" if self._lags else text


def _percentiles(values: "deque[float]") -> str:
    median, late = numpy.percentile([*values], [50, 95])
    return f"{median:.2f} s (95%: {late:.2f} s)"


__all__ = ["SpeechRecord"]
