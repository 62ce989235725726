# SPDX-License-Identifier: Apache-2.0
"""Subtitles from timed words: cues that can be read in their time and never change, as SRT or WebVTT."""

import html
import math
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from ..models.text import ends_sentence

FORMATS = ("srt", "vtt")
# A cue that is full ends at such a mark, if one stands in its second half.
_CLAUSE_ENDS = (",", ";", ":", ".", "!", "?", "…", "–", "—", "，", "、", "；", "：", "。", "！", "？")


class Cue(NamedTuple):
    """A finished subtitle.

    Attributes:
        start_s, end_s (`float`): when it is shown and when it goes, in seconds.
        lines (`tuple[str, ...]`): its text.
    """

    start_s: float
    end_s: float
    lines: tuple[str, ...]


class _TimedWord(NamedTuple):
    text: str
    time_s: float


class Subtitles:
    """Timed words in, finished cues out. A cue is given out once, whole, and never changes; cues do not overlap.

    A cue ends at the end of a sentence, unless it is read sooner than `min_s`; where the next word finds no room; after
    a pause; and when its first word has waited too long. If words come faster than they can be read, cues are shown
    later and later, until a pause lets them catch up.

    Args:
        line_length (`int`, *optional*): most columns of a line; a wide character, such as a Chinese one, takes two. A
            word that is longer is cut.
        max_lines (`int`, *optional*): most lines of a cue, 1 or 2.
        reading_speed (`float`, *optional*): columns that a viewer reads in a second.
        min_s (`float`, *optional*): shortest time that a cue is shown.
        max_s (`float`, *optional*): longest time that a word waits for the rest of its cue.
        pause_s (`float`, *optional*): a pause that ends a cue.
        live (`bool`, *optional*): whether a cue is shown once its last word is there, as viewers of a live stream can
            see it; a recording shows it from its first word on.
        joiner (`str`, *optional*): what stands between words: a space, or nothing for characters.

    Raises:
        ValueError: for a number out of range.

    Example:

    ```python
    >>> from transformers_simul.streaming.subtitles import Subtitles
    >>> subtitles = Subtitles(line_length=16, reading_speed=15, live=True)
    >>> for second, word in enumerate("Ein Hund rennt über die Wiese. Zwei".split()):
    ...     for cue in subtitles.put(word, float(second)):
    ...         print(cue)
    Cue(start_s=5.0, end_s=7.0, lines=('Ein Hund rennt', 'über die Wiese.'))
    >>> subtitles.end()
    [Cue(start_s=7.0, end_s=8.0, lines=('Zwei',))]

    ```
    """

    def __init__(
        self,
        line_length: int = 42,
        max_lines: int = 2,
        reading_speed: float = 17.0,
        min_s: float = 1.0,
        max_s: float = 6.0,
        pause_s: float = 2.0,
        live: bool = False,
        joiner: str = " ",
    ):
        if line_length < 2:
            raise ValueError(f"line_length must be at least 2, got {line_length}.")
        if max_lines not in (1, 2):
            raise ValueError(f"max_lines must be 1 or 2, got {max_lines}.")
        seconds = {"reading_speed": reading_speed, "min_s": min_s, "max_s": max_s, "pause_s": pause_s}
        for name, value in seconds.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}.")
        self.line_length, self.max_lines, self.reading_speed, self.live = line_length, max_lines, reading_speed, live
        self.min_s, self.max_s, self.pause_s, self.joiner = min_s, max_s, pause_s, joiner
        # The words of the cue to come, the time so far, and the end of the last cue.
        self._words: list[_TimedWord] = []
        self._now_s = self._shown_until_s = 0.0

    def put(self, text: str, time_s: float, is_last: bool = False) -> list[Cue]:
        """Take the next word.

        Args:
            text (`str`): a word without white space around it; empty ones, as of half characters, are passed over.
            time_s (`float`): when it was written, in seconds from the start of the subtitles.
            is_last (`bool`, *optional*): whether a sentence ends with it; it also does where the word says so.

        Returns:
            `list[Cue]`: the cues that are finished now.

        Raises:
            ValueError: if time goes backwards, or is not finite.
        """
        cues = self.wait_until(time_s)
        # Between words of no joiner a space is text, but not where a cue begins.
        if not text or (text.isspace() and not self._words):
            return cues
        for piece in self._pieces(text):
            while self._lines([*self._texts(), piece]) is None:
                cues.append(self._finish(self._clause_end(), time_s))
            self._words.append(_TimedWord(piece, time_s))
        if (is_last or ends_sentence(text)) and self._reading_s(self._texts()) > self.min_s:
            cues.append(self._finish(len(self._words), time_s))
        return cues

    def wait_until(self, time_s: float) -> list[Cue]:
        """Note that no word has come until now.

        Args:
            time_s (`float`): now, in seconds from the start of the subtitles.

        Returns:
            `list[Cue]`: the cue that a pause has finished, or none.

        Raises:
            ValueError: if time goes backwards, or is not finite.
        """
        if not self._now_s <= time_s < math.inf:
            raise ValueError(f"time_s must not go backwards and must be finite, got {time_s} after {self._now_s}.")
        self._now_s, deadline = time_s, self.deadline_s
        return [self._finish(len(self._words), deadline)] if deadline is not None and time_s >= deadline else []

    @property
    def deadline_s(self) -> float | None:
        """When the words that wait will be a cue if no other comes; None if no word waits."""
        if not self._words:
            return None
        return min(self._words[0].time_s + self.max_s, self._words[-1].time_s + self.pause_s)

    def end(self) -> list[Cue]:
        """Return the last cue, if words wait for it."""
        return [self._finish(len(self._words), self._now_s)] if self._words else []

    def _finish(self, count: int, time_s: float) -> Cue:
        """Make the cue of the first words."""
        words, self._words = self._words[:count], self._words[count:]
        texts = [word.text for word in words]
        start_s = max(time_s if self.live else words[0].time_s, self._shown_until_s)
        # Those who listen too should not lose sight of a word that was just said.
        self._shown_until_s = max(start_s + self._reading_s(texts), words[-1].time_s)
        lines = self._lines(texts)
        assert lines is not None
        return Cue(start_s, self._shown_until_s, lines)

    def _texts(self) -> list[str]:
        return [word.text for word in self._words]

    def _reading_s(self, texts: list[str]) -> float:
        return max(self.min_s, _columns(self.joiner.join(texts)) / self.reading_speed)

    def _lines(self, texts: list[str]) -> tuple[str, ...] | None:
        """The texts in lines of about one length, broken at the end of a clause if one is near; None without room."""
        whole = self.joiner.join(texts).strip(" ")
        if _columns(whole) <= self.line_length:
            return (whole,)
        best, least = None, math.inf
        for place in range(1, len(texts) if self.max_lines > 1 else 1):
            first, second = self.joiner.join(texts[:place]), self.joiner.join(texts[place:])
            badness = self._badness(first, second)
            first, second = first.strip(" "), second.strip(" ")
            if badness < least and first and second and max(_columns(first), _columns(second)) <= self.line_length:
                best, least = (first, second), badness
        return best

    def _badness(self, first: str, second: str) -> int:
        """Return how bad it is to break a line there, in columns by which one line is longer than the other."""
        badness, much = abs(_columns(first) - _columns(second)), self.line_length // 3
        if first.endswith((*_CLAUSE_ENDS, " ")):
            badness -= much
        if second.startswith(_CLAUSE_ENDS) or (not self.joiner and first[-1].isascii() and second[0].isascii()):
            # Between characters, a mark or the rest of a Latin word would begin the line.
            badness += 2 * much
        return badness

    def _clause_end(self) -> int:
        """How many of the words make the cue when the next has no room: up to a clause's end, if it is not early."""
        texts = self._texts()
        for count in range(len(texts), len(texts) // 2, -1):
            if texts[count - 1].endswith(_CLAUSE_ENDS):
                return count
        return len(texts)

    def _pieces(self, text: str) -> Iterator[str]:
        """The word, cut where it is longer than a line."""
        piece, columns = "", 0
        for character in text:
            width = _columns(character)
            if columns + width > self.line_length:
                yield piece
                piece, columns = "", 0
            piece, columns = piece + character, columns + width
        yield piece


def _columns(text: str) -> int:
    """The width of a text: 2 of a wide character, 0 of one that stands on the one before."""
    return sum(0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF") for each in text)


def write_cues(cues: Iterable[Cue], format: str = "srt") -> Iterator[str]:
    """Cues as the text of a file, piece by piece as they come; SRT's are numbered from 1.

    Args:
        cues (`Iterable[Cue]`): in order.
        format (`str`, *optional*): `"srt"` or `"vtt"`, WebVTT.

    Raises:
        ValueError: for another format.
        ImportError: if the library `srt` is not installed.

    Example:

    ```python
    >>> from transformers_simul.streaming.subtitles import Cue, write_cues
    >>> print("".join(write_cues([Cue(0.5, 2.0, ("Ein Hund", "rennt."))], "vtt")), end="")
    WEBVTT
    <BLANKLINE>
    00:00:00.500 --> 00:00:02.000
    Ein Hund
    rennt.
    <BLANKLINE>

    ```
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {FORMATS}, got {format!r}.")
    try:
        import srt
    except ImportError as error:
        raise ImportError("Subtitles need srt: pip install 'transformers_simul[subtitles]'.") from error
    return _write_srt(srt, cues) if format == "srt" else _write_vtt(srt, cues)


def _write_srt(srt: Any, cues: Iterable[Cue]) -> Iterator[str]:
    for number, cue in enumerate(cues, start=1):
        times = (timedelta(milliseconds=round(1000 * second)) for second in (cue.start_s, cue.end_s))
        yield srt.Subtitle(number, *times, "\n".join(cue.lines)).to_srt()


def _write_vtt(srt: Any, cues: Iterable[Cue]) -> Iterator[str]:
    yield "WEBVTT\n\n"
    for cue in cues:
        times = (timedelta(milliseconds=round(1000 * second)) for second in (cue.start_s, cue.end_s))
        start, end = (srt.timedelta_to_srt_timestamp(time).replace(",", ".") for time in times)
        # "<" and "-->" are marks of the format.
        text = html.escape("\n".join(cue.lines), quote=False)
        yield f"{start} --> {end}\n{text}\n\n"


__all__ = ["FORMATS", "Cue", "Subtitles", "write_cues"]
