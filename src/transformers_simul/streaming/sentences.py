# SPDX-License-Identifier: Apache-2.0
"""An endless source, sentence by sentence, while it arrives."""

from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from itertools import count

from ..models.committed import Committed
from ..models.streams import SourceReader
from ..models.text import UNITS, ends_sentence

# A rule is asked about so many characters of a word at the most.
_LONGEST_WORD = 500


class SentenceReader:
    """Shows a decoder one sentence of a live source at a time, as if the source ended with it: a [`Source`].

    A sentence ends after a word for which `ends_sentence` is true, where the caller said so
    ([`SourceStream.end_sentence`]), or after `max_words` units.

    Args:
        reader (`SourceReader`): reads the whole source.
        max_words (`int`, *optional*): longest sentence, in units; by default only the other rules hold.
        ends_sentence (`Callable[[str], bool]`, *optional*): whether a sentence ends with this word. With character
            units it is asked at spaces and after punctuation other than ASCII, about the characters since the last
            space, so that "3.5" and "www.a.com" end nothing.
        ends_between (`Callable[[Sequence[str], str], bool]`, *optional*): whether a sentence ends between its words so
            far and the next word, which is asked once that is there; such as a [`Segmenter`]. Only with word units.

    Attributes:
        words_before (`int`): units read before this sentence.
        units (`int`): units of it that were read.

    Raises:
        ValueError: if `max_words` is below 1, the source is no text, or `ends_between` meets other units than words.

    Example:

    ```python
    >>> from transformers_simul import SourceStream
    >>> from transformers_simul.streaming.sentences import SentenceReader
    >>> stream = SourceStream("It runs. It stops. "); stream.end()
    >>> reader = SentenceReader(stream.bind(processor))
    >>> while reader.begin():
    ...     while reader.poll()[1] is not None:
    ...         pass
    ...     print(reader.words_before, reader.units)
    0 2
    2 2

    ```
    """

    is_known = False

    def __init__(
        self,
        reader: SourceReader,
        max_words: int | None = None,
        ends_sentence: Callable[[str], bool] = ends_sentence,
        ends_between: Callable[[Sequence[str], str], bool] | None = None,
    ):
        if reader.stream.unit not in UNITS:
            raise ValueError(f"sentences must be of text, got a source of chunks of {reader.stream.unit}.")
        if max_words is not None and max_words < 1:
            raise ValueError(f"max_words must be at least 1, got {max_words}.")
        if ends_between is not None and reader.stream.unit != "word":
            raise ValueError(f"ends_between needs word units, got {reader.stream.unit!r}.")
        self.reader, self.max_words, self.ends_sentence = reader, max_words, ends_sentence
        self.ends_between = ends_between
        self.words_before = self.units = 0
        # Each unit is looked at once: how many were, whether the last completes one of the stream's, and how many of
        # these there are then.
        self._seen, self._is_whole, self._stream_units = 0, False, 0
        # Texts of units that were seen, if `ends_between` asks for them; it has denied an end after so many of them.
        self._texts: list[str] = []
        self._denied = 0
        # With character units, those since the last space.
        self._characters = ""
        # Units of the sentence, once its end was seen.
        self._length: int | None = None

    def begin(self) -> bool | None:
        """Begin the next sentence: return True once its first unit is there, False if the source has ended, None before
        that.

        Raises:
            SourceTimeout, SourceCancelled: as for the reader.
        """
        begun = self.reader.begin()
        if begun:
            self.reader.stream.forget_sentence_ends(self.reader.units)
            self.words_before, self.units = self.words_before + self.units, 0
            self._seen, self._is_whole, self._stream_units = 0, False, self.reader.units
            self._length, self._characters = None, ""
            self._texts, self._denied = [], 0
        return begun

    def poll(self) -> tuple[bool, list[int] | None]:
        """Do as the reader, but return `(True, None)` at the sentence's end."""
        polled = self.peek(0)
        self.reader.note_wait(not polled[0])
        if polled[1] is not None:
            self._look_at(self.units + 1)
            # What was peeked is what is read: a unit that comes meanwhile stands after it.
            self.reader.poll()
            self.units += 1
        return polled

    def peek(self, index: int) -> tuple[bool, list[int] | None]:
        """Do as the reader, but return `(True, None)` at the sentence's end."""
        # The unit first, then the ends: one that the caller put before the unit came is seen then.
        peeked = self.reader.peek(index)
        return (True, None) if self._ends_before(self.units + index) else peeked

    def _ends_before(self, unit: int) -> bool:
        """Whether the sentence ends before its unit with this number."""
        self._look_at(unit)
        return self._length is not None and unit >= self._length

    def _look_at(self, units: int) -> None:
        """Look for the end in the first units of the sentence, as far as they are there."""
        while self._length is None:
            # The caller may end a sentence after its newest unit was looked at, but before the next is there.
            if self._is_whole and self.reader.stream.sentence_ends_at(self._stream_units):
                self._length = self._seen
                return
            ahead = self._seen - self.units
            if ahead == self.reader.units_ahead:
                return
            text = self.reader.text(ahead)
            if self._is_next_sentence(text):
                self._length = self._seen
                return
            if self._seen >= units:
                return
            self._seen += 1
            self._is_whole = text is not None
            self._stream_units += self._is_whole
            word = self._word_with(text) if self.reader.stream.unit == "char" else text
            if self._seen == self.max_words or (word is not None and self.ends_sentence(word)):
                self._length = self._seen

    def _is_next_sentence(self, text: str | None) -> bool:
        """Whether the next unit begins another sentence; asked once for each."""
        if self.ends_between is None or text is None or self._denied > self._seen:
            return False
        if self._texts and self.ends_between(self._texts, text):
            return True
        self._texts.append(text)
        self._denied = self._seen + 1
        return False

    def _word_with(self, character: str | None) -> str | None:
        """Return the word that may end a sentence with this character; None if another character may change that."""
        word = self._characters
        if character is None or character == " ":
            self._characters = ""
        else:
            word = self._characters = (word + character)[-_LONGEST_WORD:]
            # An ellipsis is often written twice, and "3." may become "3.5".
            if character.isascii() or character.isalnum() or character.isspace() or character == "…":
                return None
        return word if any(map(str.isalnum, word)) else None

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back whenever something changes."""
        self.reader.listen(callback)

    @property
    def wait_s(self) -> float | None:
        """Seconds until the current wait times out; None without a time-out."""
        return self.reader.wait_s


def committed_in(
    reader: SentenceReader, committed: Sequence[Committed], words_over: int = 0
) -> Generator[None, None, list[Committed] | None]:
    """The committed words of the sentence that has begun, with delays that count from its start.

    A word has read at least one unit of its sentence, and none of the next: its delay says where it belongs.

    Args:
        reader (`SentenceReader`): of the stream.
        committed (`Sequence[Committed]`): all that were committed, with delays that count from the stream's start.
        words_over (`int`, *optional*): units whose sentences are over.

    Yields:
        None: while the unit that the last of them had read, or a sentence that is over, is not there.

    Returns:
        `list[Committed]`: those of this sentence, the newest of all; None if this one is over, since the caller says so
        or a later sentence has some.

    Raises:
        ValueError: if the source ends before that unit.
        SourceTimeout, SourceCancelled: as the reader's.
    """
    before = reader.words_before
    if before < words_over:
        index = 0
        while (peeked := reader.peek(index)) != (True, None):
            reader.reader.note_wait(not peeked[0])
            index += peeked[0]
            if not peeked[0]:
                yield None
        return None
    newest = _delay(committed[-1]) if committed else 0
    if newest > before:
        last = newest - before - 1
        while not (peeked := reader.peek(last))[0]:
            reader.reader.note_wait(True)
            yield None
        reader.reader.note_wait(False)
        if reader.reader.peek(last) == (True, None):
            raise ValueError(
                f"committed must not have read more than the source has, but the last had read {before + last + 1}."
            )
        if peeked[1] is None:
            return None
    return _committed_between(committed, before, newest)


def committed_before(reader: SentenceReader, committed: Sequence[Committed]) -> list[Committed]:
    """The committed words of a sentence that has begun and is over, with delays that count from its start.

    Args:
        reader (`SentenceReader`): of the stream, which has all of the sentence.
        committed (`Sequence[Committed]`): as in [`committed_in`].
    """
    length = next(index for index in count() if reader.peek(index) == (True, None))
    return _committed_between(committed, reader.words_before, reader.words_before + length)


def _committed_between(committed: Sequence[Committed], before: int, end: int) -> list[Committed]:
    """The committed words with delays above `before`, up to `end`, which count from `before`. Asked for each sentence,
    of words that may be those of many."""
    here = slice(bisect_right(committed, before, key=_delay), bisect_right(committed, end, key=_delay))
    return [Committed(word.ids, _delay(word) - before) for word in committed[here]]


def _delay(word: Committed) -> int:
    # An endless stream takes none without.
    return word.delay or 0


def pass_over(reader: SentenceReader) -> Generator[None, None, None]:
    """Read to the end of the sentence that has begun.

    Args:
        reader (`SentenceReader`): of the stream.

    Yields:
        None: while its next unit is not there.
    """
    while not (polled := reader.poll())[0] or polled[1] is not None:
        if not polled[0]:
            yield None


__all__ = ["SentenceReader", "committed_before", "committed_in", "pass_over"]
