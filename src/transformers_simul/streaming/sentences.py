# SPDX-License-Identifier: Apache-2.0
"""An endless source, sentence by sentence, while it arrives."""

from collections.abc import Callable
from typing import Any

from ..models.text import ends_sentence


class SentenceReader:
    """Shows a decoder one sentence of a live source at a time, as if the source ended with it.

    A sentence ends behind a word that `ends_sentence` knows, where the caller said so
    ([`SourceStream.end_sentence`]), or after `max_words` units.

    Args:
        reader (`SourceReader`): of the whole source.
        max_words (`int`, *optional*): longest sentence, in units; without it only the other rules hold.
        ends_sentence (`Callable[[str], bool]`, *optional*): whether a sentence ends with this word.

    Raises:
        ValueError: if `max_words` is below 1.

    Example:

    ```python
    >>> from transformers_simul import SourceStream
    >>> from transformers_simul.streaming.sentences import SentenceReader
    >>> stream = SourceStream("It runs. It stops. "); stream.end()
    >>> reader = SentenceReader(stream.bind(processor))
    >>> while reader.begin():
    ...     while reader.poll()[1] is not None:
    ...         pass
    ...     print(reader.words_before, reader.words)
    0 2
    2 2

    ```
    """

    is_known = False

    def __init__(self, reader: Any, max_words: int | None = None, ends_sentence: Callable[[str], bool] = ends_sentence):
        if max_words is not None and max_words < 1:
            raise ValueError(f"max_words must be at least 1, got {max_words}.")
        self.reader, self.max_words, self.ends_sentence = reader, max_words, ends_sentence
        self.words_before = self.words = 0
        self._over = False

    def begin(self) -> bool | None:
        """Begin the next sentence: True once its first unit is there, False if the source has ended, None before.

        Raises:
            SourceTimeout, SourceCancelled: as the reader's.
        """
        begun = self.reader.begin()
        if begun:
            self.reader.stream.forget_sentence_ends(self.reader.units)
            self.words_before, self.words, self._over = self.words_before + self.words, 0, False
        return begun

    def poll(self) -> tuple[bool, list[int] | None]:
        """As the reader's; `(True, None)` at the sentence's end."""
        if self._ends_before(0):
            return True, None
        if self.reader.peek(0)[1] is not None:
            self._over = self._ends_behind(0)
            self.words += 1
        return self.reader.poll()

    def peek(self, index: int) -> tuple[bool, list[int] | None]:
        """As the reader's; `(True, None)` at the sentence's end.

        Args:
            index (`int`): units from here, 0 for the next.
        """
        return (True, None) if self._ends_before(index) else self.reader.peek(index)

    def _ends_before(self, index: int) -> bool:
        """Whether the sentence ends before the unit that comes after `index` more."""
        said = self.words > 0 and self.reader.stream.sentence_ends_at(self.reader.units)
        return self._over or said or any(self._ends_behind(earlier) for earlier in range(index))

    def _ends_behind(self, index: int) -> bool:
        """Whether the sentence ends with that unit, if it is there."""
        self.reader.peek(index)
        texts = [self.reader.text(each) for each in range(index + 1)]
        if texts[-1] is None:
            return self.words + index + 1 == self.max_words
        units = self.reader.units + sum(text is not None for text in texts)
        said = self.reader.stream.sentence_ends_at(units)
        return said or self.words + index + 1 == self.max_words or self.ends_sentence(texts[-1])

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back whenever something changes."""
        self.reader.listen(callback)

    @property
    def wait_s(self) -> float | None:
        """Seconds until the time-out of the current wait; None without one."""
        return self.reader.wait_s


__all__ = ["SentenceReader"]
