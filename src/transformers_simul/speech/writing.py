# SPDX-License-Identifier: Apache-2.0
"""Recognised words as text that can be translated, also where a recogniser writes neither punctuation nor capitals."""

from collections.abc import Callable, Iterable, Sequence

from ..models.text import ends_sentence
from .recogniser import SpokenWord


class SentenceWriter:
    """Cuts and cases text of a recogniser that writes neither punctuation nor capitals.

    A sentence ends with a pause of the speaker, where a segmenter says so, with a word that shows an end ("now?"), and
    after `max_words` at the latest. Any other last word gets a full stop, or an ellipsis where that would make an
    initial ("I.") or an abbreviation ("No."); the first gets a capital, as does the English "I"; other letters become
    small. So the newest word waits for the next, or for the pause. Questions get a full stop too, names stay in small
    letters, and a pause within a sentence ends it: all three cost quality.

    Args:
        language (`str`, *optional*): code of what is spoken.
        max_words (`int`, *optional*): longest sentence.
        ends_between (`Callable[[Sequence[str], str], bool]`, *optional*): whether a sentence ends between its words so
            far and the next: a [`Segmenter`].

    Raises:
        ValueError: if `max_words` is below 1.

    Example:

    ```python
    >>> from transformers_simul.speech.recogniser import SpokenWord
    >>> from transformers_simul.speech.writing import SentenceWriter
    >>> words = [SpokenWord(text, 0.0, 0.0) for text in ["WHERE", "AM", "I", "", "HERE", ""]]
    >>> [word.text for word in SentenceWriter().write(words)]
    ['Where', 'am', 'I…', '', 'Here.', '']

    ```
    """

    def __init__(
        self,
        language: str = "en",
        max_words: int = 40,
        ends_between: Callable[[Sequence[str], str], bool] | None = None,
    ):
        if max_words < 1:
            raise ValueError(f"max_words must be at least 1, got {max_words}.")
        self.language, self.max_words = language, max_words
        self.ends_between = ends_between
        self._words: list[str] = []
        self._waiting: SpokenWord | None = None

    def write(self, words: Iterable[SpokenWord], is_last: bool = False) -> list[SpokenWord]:
        """Write the next words.

        Args:
            words (`Iterable[SpokenWord]`): as a recogniser committed them; an empty text is a pause.
            is_last (`bool`, *optional*): whether no other comes.

        Returns:
            `list[SpokenWord]`: the words whose spelling is certain now.
        """
        written: list[SpokenWord] = []
        for word in words:
            if not word.text:
                written += [*self._end(), word]
                continue
            is_next = self._words and self.ends_between is not None and self.ends_between(self._words, word.text)
            if is_next or len(self._words) >= self.max_words:
                written += self._end()
            if self._waiting is not None:
                written.append(self._waiting)
            self._waiting = word._replace(text=self._cased(word.text))
            self._words.append(word.text)
            if ends_sentence(self._waiting.text):
                # Who reads the text sees an end there too.
                written += self._end()
        return written + self._end() if is_last else written

    def _cased(self, text: str) -> str:
        text = text.lower()
        is_i = self.language == "en" and (text == "i" or text.startswith("i'"))
        return text[:1].upper() + text[1:] if is_i or not self._words else text

    def _end(self) -> list[SpokenWord]:
        last, self._waiting, self._words = self._waiting, None, []
        if last is None:
            return []
        # Who reads the text, such as an engine, must see the end.
        stops = ("", ".", "…")
        return [last._replace(text=next(text for stop in stops if ends_sentence(text := f"{last.text}{stop}")))]


__all__ = ["SentenceWriter"]
