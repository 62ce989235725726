# SPDX-License-Identifier: Apache-2.0
"""simulstream's metrics log of recordings."""

import os
from typing import Any, NamedTuple

from ..text_files import json_rows
from .instances import SpeechInstance

# SentencePiece's mark of a word's first piece.
_MARK = "▁"


class _Token(NamedTuple):
    text: str
    delay_ms: float
    elapsed_ms: float


def read_simulstream_recordings(path: str | os.PathLike) -> list[SpeechInstance]:
    """Read simulstream's metrics log of speech that is never revised.

    A token is a word, or a piece of one where pieces bear SentencePiece's mark; a word was there when its last piece
    was. The log does not say how long a recording is: it ends with the last audio that was processed.

    Args:
        path (`str` or `os.PathLike`): file of the log.

    Returns:
        `list[SpeechInstance]`: of each recording, without reference.

    Raises:
        ValueError: for a line that is wrong, or that deletes tokens.
    """
    names: dict[Any, str] = {}
    tokens: dict[Any, list[_Token]] = {}
    ends_ms: dict[Any, float] = {}
    for number, line in json_rows(path):
        try:
            if "metadata" in line:
                if line["id"] in names:
                    raise ValueError(f"id must be of one recording, got {line['id']!r} twice")
                names[line["id"]], tokens[line["id"]] = str(line["metadata"]["wav_name"]), []
            elif "generated_tokens" in line:
                heard_ms = round(1000 * line["total_audio_processed"], 6)
                elapsed_ms = round(heard_ms + 1000 * line["computation_time"], 6)
                texts = line["generated_tokens"]
                if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
                    raise ValueError(f"generated_tokens must be a list of texts, got {texts!r}")
                if not 0 <= heard_ms <= elapsed_ms:
                    raise ValueError(f"times must not be negative, got {heard_ms} and {elapsed_ms} ms")
                tokens[line["id"]] += [_Token(text, heard_ms, elapsed_ms) for text in texts]
                ends_ms[line["id"]] = heard_ms
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"line {number} of {str(path)!r} must be of simulstream's log: {error!r}.") from error
        if line.get("deleted_tokens"):
            raise ValueError(f"line {number} of {str(path)!r} must not delete tokens: revised text has no delay.")
    return [_instance(index, names[key], tokens[key], ends_ms.get(key, 0.0)) for index, key in enumerate(names)]


def _instance(index: int, name: str, tokens: list[_Token], end_ms: Any) -> SpeechInstance:
    words: list[_Token] = []
    has_marks = any(token.text.startswith(_MARK) for token in tokens)
    # A word's computing may end after the next word's began.
    latest_ms = 0.0
    for token in tokens:
        latest_ms = max(latest_ms, token.elapsed_ms)
        token = token._replace(elapsed_ms=latest_ms)
        if has_marks and words and not token.text.startswith(_MARK):
            words[-1] = token._replace(text=words[-1].text + token.text)
        elif text := token.text.removeprefix(_MARK):
            words.append(token._replace(text=text))
    delays: Any = [word.delay_ms for word in words]
    return SpeechInstance(
        index=index,
        prediction=" ".join(word.text for word in words),
        delays=delays,
        elapsed=[word.elapsed_ms for word in words],
        prediction_length=len(words),
        reference="",
        source=name,
        source_length=end_ms,
    )


__all__ = ["read_simulstream_recordings"]
