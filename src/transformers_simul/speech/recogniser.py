# SPDX-License-Identifier: Apache-2.0
"""What `listen` asks of a recogniser: audio in, committed words with their times out."""

from typing import NamedTuple, Protocol

import numpy


class SpokenWord(NamedTuple):
    """A word as it was heard.

    Attributes:
        text (`str`): the word with its punctuation, without white space; empty for a pause of the speaker.
        start_s, end_s (`float`): when it was said, in seconds from the start of the audio.
    """

    text: str
    start_s: float
    end_s: float


class Recogniser(Protocol):
    """Audio in, committed words with times out. One object hears one stream."""

    def hear(self, samples: numpy.ndarray, is_last: bool = False) -> list[SpokenWord]:
        """Hear the next samples.

        Args:
            samples (`numpy.ndarray`): float32 at 16 kHz, `(samples,)`; any number, none too.
            is_last (`bool`, *optional*): whether the audio ends with them.

        Returns:
            `list[SpokenWord]`: words that are certain now, which no later call revises, in order.
        """


class Transcriber(Protocol):
    """A model that writes down a piece of audio as a whole; [`LocalAgreementRecogniser`] makes it incremental.

    Attributes:
        punctuates (`bool`): whether it writes punctuation and capitals.
    """

    punctuates: bool

    def transcribe(self, samples: numpy.ndarray, before: str) -> list[SpokenWord]:
        """Write down a piece of audio.

        Args:
            samples (`numpy.ndarray`): float32 at 16 kHz, `(samples,)`.
            before (`str`): what was said just before, for models that look at it.

        Returns:
            `list[SpokenWord]`: its words, with times from its start.
        """


class Voice(Protocol):
    """Tells speech from silence, noise and music, frame by frame."""

    def probability(self, frame: numpy.ndarray) -> float:
        """Return the probability that somebody speaks in the next frame.

        Args:
            frame (`numpy.ndarray`): [`FRAME`] float32 samples at 16 kHz.
        """

    def reset(self) -> None:
        """Forget what was heard."""


# Samples that voice activity is asked about: 32 ms.
FRAME = 512

__all__ = ["FRAME", "Recogniser", "SpokenWord", "Transcriber", "Voice"]
