# SPDX-License-Identifier: Apache-2.0
"""Speech with transcripts and translations, in folders as MuST-C has them.

`FOLDER/data/SPLIT/wav/*` are the recordings; `FOLDER/data/SPLIT/txt/SPLIT.yaml` says where in them each sentence is;
`SPLIT.en`, `SPLIT.de` hold its text, a line each.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..text_files import read_lines, write_text


class Utterance(NamedTuple):
    """A sentence within a recording.

    Attributes:
        audio (`Path`): the recording.
        offset_s, duration_s (`float`): where in it.
        source, target (`str`): what is said, and its translation.
        speaker (`str`): who says it; empty if unknown.
    """

    audio: Path
    offset_s: float
    duration_s: float
    source: str
    target: str
    speaker: str = ""


def read_utterances(
    folder: str | os.PathLike, split: str, source_lang: str = "en", target_lang: str = "de"
) -> list[Utterance]:
    """Read a split.

    Args:
        folder (`str` or `os.PathLike`): that holds `data/SPLIT`, `SPLIT` or `en-de/data/SPLIT`.
        split (`str`): such as `"train"` or `"tst-COMMON"`.
        source_lang, target_lang (`str`, *optional*): how the text files end.

    Raises:
        ValueError: if there is no such split, the files do not fit one another, a line of text is empty, or the YAML
            says something else.
        OSError: if a file cannot be read.
    """
    places = [Path(folder, *parts, split) for parts in (("data",), (), (f"{source_lang}-{target_lang}", "data"))]
    place = next((each for each in places if (each / "txt" / f"{split}.yaml").is_file()), None)
    if place is None:
        raise ValueError(f"folder must hold data/{split}/txt/{split}.yaml, got {str(folder)!r}.")
    segments = read_segments(place / "txt" / f"{split}.yaml")
    texts = [read_lines(place / "txt" / f"{split}.{language}") for language in (source_lang, target_lang)]
    for language, lines in zip((source_lang, target_lang), texts, strict=True):
        if len(lines) != len(segments):
            raise ValueError(
                f"{split}.{language} must have a line for each of the {len(segments)} segments, got {len(lines)}."
            )
        blank = [number for number, line in enumerate(lines, start=1) if not line.strip()]
        if blank:
            raise ValueError(f"{split}.{language} must have text in every line, but line {blank[0]} is empty.")
    return [
        Utterance(
            place / "wav" / each["wav"], each["offset"], each["duration"], source, target, each.get("speaker_id", "")
        )
        for each, source, target in zip(segments, *texts, strict=True)
    ]


def read_segments(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read where each sentence is: `wav`, `offset` and `duration` (seconds), `speaker_id`.

    Args:
        path (`str` or `os.PathLike`): of the YAML, as MuST-C, OmniSTEval and simulstream have it.

    Raises:
        ValueError: if it says something else, or a recording's name leads out of its folder.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        segments = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} must be YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(segments, list):
        raise ValueError(f"{str(path)!r} must be a list of segments, got {type(segments).__name__}.")
    for number, each in enumerate(segments, start=1):
        if not isinstance(each, dict) or not isinstance(each.get("wav"), str):
            raise ValueError(f"segment {number} of {str(path)!r} must have wav, offset and duration, got {each!r}.")
        if Path(each["wav"]).name != each["wav"]:
            raise ValueError(f"wav of segment {number} of {str(path)!r} must be a file's name, got {each['wav']!r}.")
        for name, least in (("offset", 0), ("duration", 1e-3)):
            if isinstance(each.get(name), bool) or not isinstance(each.get(name), (int, float)) or each[name] < least:
                raise ValueError(
                    f"{name} of segment {number} of {str(path)!r} must be seconds of at least {least}, got "
                    f"{each.get(name)!r}."
                )
    return segments


def write_texts(
    folder: str | os.PathLike, split: str, utterances: Iterable[Utterance], source_lang: str, target_lang: str
) -> None:
    """Write a split's YAML and text files; its recordings are there already.

    Args:
        folder (`str` or `os.PathLike`): that gets `data/SPLIT/txt`.
        split (`str`): its name.
        utterances (`Iterable[Utterance]`): in order.
        source_lang, target_lang (`str`): how the text files end.
    """
    utterances = list(utterances)
    place = Path(folder) / "data" / split / "txt"
    lines = []
    for each in utterances:
        segment = {
            "duration": round(each.duration_s, 4), "offset": round(each.offset_s, 4), "speaker_id": each.speaker,
            "wav": each.audio.name,
        }  # fmt: skip
        # JSON within a line is YAML.
        lines.append(f"- {json.dumps(segment, ensure_ascii=False)}\n")
    write_text(place / f"{split}.yaml", "".join(lines))
    for language, name in ((source_lang, "source"), (target_lang, "target")):
        # A line feed inside a sentence would shift every later line.
        text = "".join(getattr(each, name).replace("\n", " ") + "\n" for each in utterances)
        write_text(place / f"{split}.{language}", text)


__all__ = ["Utterance", "read_segments", "read_utterances", "write_texts"]
