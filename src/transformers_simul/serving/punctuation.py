# SPDX-License-Identifier: Apache-2.0
"""Source without punctuation and capitals, as recognisers write it, made text that models know."""

from collections.abc import Callable, Sequence

from ..models.streams import SourceStream
from ..speech.recogniser import SpokenWord
from ..speech.writing import SentenceWriter

# Whether a sentence ends between its words so far and the next word.
EndsBetween = Callable[[Sequence[str], str], bool]


class Punctuation:
    """Writes a stream's pieces anew, by a [`SentenceWriter`]. Words stay as many as they were, and each waits for the
    next, which may show that a sentence ends.

    Args:
        language (`str`): of the source.
        max_words (`int`): longest sentence.
        ends_between (`Callable`, *optional*): such as a [`Segmenter`].
        max_waiting (`int`): most words of a piece, and characters of a word.

    Example:

    ```python
    >>> from transformers_simul.serving.punctuation import Punctuation
    >>> punctuation = Punctuation("en", 60, lambda words, following: following == "we", 100)
    >>> punctuation.put("it rains we st"), punctuation.put("ay at "), punctuation.complete()
    ('It rains. ', 'We stay ', 'at. ')

    ```
    """

    def __init__(self, language: str, max_words: int, ends_between: EndsBetween | None, max_waiting: int):
        self._writer = SentenceWriter(language, max_words, ends_between)
        self._heard = SourceStream(max_waiting=max_waiting)

    def put(self, text: str) -> str:
        """The text that is certain now.

        Args:
            text (`str`): the next piece.

        Raises:
            BufferError: if it is too long; nothing of it is taken then.
        """
        self._heard.put(text)
        return self._written(is_last=False)

    @property
    def put_words(self) -> int:
        """Words that came, complete ones."""
        return self._heard.put_units

    def complete(self) -> str:
        """The rest, at the end of a sentence or of all."""
        self._heard.end_sentence()
        return self._written(is_last=True)

    def _written(self, is_last: bool) -> str:
        words = []
        while (word := self._heard.poll()[1]) is not None:
            words.append(SpokenWord(word, 0.0, 0.0))
        return "".join(f"{word.text} " for word in self._writer.write(words, is_last))


__all__ = ["EndsBetween", "Punctuation"]
