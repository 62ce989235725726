# SPDX-License-Identifier: Apache-2.0
"""Models that write down what is said, by name."""

from .recogniser import Transcriber
from .stock import StockTranscriber
from .whisper import WhisperTranscriber

_FASTER = "faster-whisper:"


def make_transcriber(name: str = "tiny.en", language: str = "en") -> Transcriber:
    """Load a model that writes down what is said, by name.

    Args:
        name (`str`, *optional*): `"tiny.en"`, Whisper's tiny English model, which needs no hub; any other that
            faster-whisper knows, or a folder in its format: `"faster-whisper:small"`; or a speech model of
            Transformers, a folder or a name on the Hub.
        language (`str`, *optional*): code of what is spoken.

    Raises:
        ValueError: if there is no such model, or a package is missing.
    """
    if name == "tiny.en" or name.startswith(_FASTER):
        return WhisperTranscriber(name.removeprefix(_FASTER), language)
    return StockTranscriber.from_pretrained(name, language)


__all__ = ["make_transcriber"]
