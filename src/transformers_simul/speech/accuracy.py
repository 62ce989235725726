# SPDX-License-Identifier: Apache-2.0
"""How well a recogniser understood: its word error rate."""

from collections.abc import Sequence
from typing import NamedTuple


class WordErrors(NamedTuple):
    """How recognised words differ from those that were said.

    Attributes:
        words (`int`): that were said.
        substitutions, deletions, insertions (`int`): words that became others, were missed, or that nobody said.
    """

    words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """WER: errors for each word that was said. Above 1 if much was made up."""
        return (self.substitutions + self.deletions + self.insertions) / self.words


def word_errors(said: Sequence[str], recognised: Sequence[str]) -> WordErrors:
    """Compare a recogniser's words to those that were said, by jiwer.

    Case and punctuation do not count, apostrophes do; "well-known" is two words. Numbers are compared as they are
    spelt: "3" for "three" is an error.

    Args:
        said (`Sequence[str]`): texts, such as the sentences of one recording, in order.
        recognised (`Sequence[str]`): as many texts; each is compared with that at its place.

    Raises:
        ValueError: if there are not as many of both, nothing was said, or the package jiwer is missing.

    Example:

    ```python
    >>> from transformers_simul.speech.accuracy import word_errors
    >>> errors = word_errors(["It's a well-known dog."], ["its a well known dog dog"])
    >>> errors, errors.rate
    (WordErrors(words=5, substitutions=1, deletions=0, insertions=1), 0.4)

    ```
    """
    try:
        import jiwer
    except ImportError as error:
        raise ValueError("word errors need the package jiwer: pip install 'transformers_simul[speech]'.") from error
    if len(said) != len(recognised):
        raise ValueError(f"recognised must hold one text per text that was said, {len(said)}, got {len(recognised)}.")
    pairs = [(plain(one), plain(other)) for one, other in zip(said, recognised, strict=True)]
    # jiwer refuses texts in which nothing was said, though something may have been made up for them.
    made_up = sum(len(other.split()) for one, other in pairs if not one)
    spoken = [pair for pair in pairs if pair[0]]
    if not spoken:
        raise ValueError(f"said must hold at least one word, got none in {len(said)} texts.")
    found = jiwer.process_words([one for one, _ in spoken], [other for _, other in spoken])
    words = found.hits + found.substitutions + found.deletions
    return WordErrors(words, found.substitutions, found.deletions, found.insertions + made_up)


def plain(text: str) -> str:
    """Return a text in small letters, digits and apostrophes, with one space between words.

    Args:
        text (`str`): any.

    Example:

    ```python
    >>> from transformers_simul.speech.accuracy import plain
    >>> plain("“Don’t!” – said A.")
    "don't said a"

    ```
    """
    text = text.casefold().replace("’", "'")
    kept = "".join(letter if letter.isalnum() or letter == "'" else " " for letter in text)
    return " ".join(word for each in kept.split() if (word := each.strip("'")))


__all__ = ["WordErrors", "plain", "word_errors"]
