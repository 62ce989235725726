# SPDX-License-Identifier: Apache-2.0
"""How the words of a glossary's terms are compared with those of a text, and where they are looked up."""

import re
from collections.abc import Iterator, Sequence

from .text import split_words

_EDGES = ".,;:!?…\"'()[]{}„“”‘’‚«»‹›¿¡–—\u00a0\u202f"
# A shorter word stands for itself alone; a source word may have so many letters more than its term ("des Hauses").
SHORTEST_STEM, _LONGEST_ENDING = 3, 3
# What languages write alike: digits and capitals, neither "1,000" nor "3rd". A sign before it may be part of its value.
_NUMBER = re.compile(r"[^\w+−±–‑-]*((?:[A-Z]+-)?(?=[A-Z]*[0-9])[0-9A-Z]+)[\W_]*")


class TermTree:
    """A tree of source terms, word by word: where the words so far lead."""

    def __init__(self) -> None:
        self.after: dict[str, TermTree] = {}
        # The target of the term that ends here.
        self.target: str | None = None

    def add(self, words: Sequence[str], target: str) -> None:
        """Add a term."""
        here = self
        for word in words:
            here = here.after.setdefault(word, TermTree())
        here.target = target

    def by(self, word: str) -> Iterator["TermTree"]:
        """Where a word of the source leads: as it is, then without an ending, the shortest first."""
        for letters in range(_LONGEST_ENDING + 1):
            stem = word[: len(word) - letters]
            if stem in self.after and (not letters or _may_end(stem)):
                yield self.after[stem]


def normalised(word: str) -> str:
    """Return a word as it is compared, whatever its case and the punctuation around it; empty without letters."""
    return word.removeprefix(" ").strip(_EDGES).casefold()


def words_of(term: str) -> tuple[str, ...]:
    """Return the words of a term as they are compared."""
    return tuple(word for each in split_words(term) if (word := normalised(each)))


def number_in(word: str) -> str | None:
    """The number of a source word that is written alike in other languages, without the signs around it.

    Example:

    ```python
    >>> from transformers_simul.models.glossary_terms import number_in
    >>> [number_in(word) for word in " (2018), $100 50% A380 COVID-19. 1,000 3.5 10:30 3rd -5 Haus".split()]
    ['2018', '100', '50', 'A380', 'COVID-19', None, None, None, None, None, None]

    ```
    """
    found = _NUMBER.fullmatch(word.strip())
    return found and found[1]


def times_written(number: str, words: Sequence[str]) -> int:
    """Return the number of target words that contain a number, whatever stands around it except further digits."""
    whole = re.compile(rf"(?<![0-9]){re.escape(number.casefold())}(?![0-9])")
    return sum(whole.search(word) is not None for word in words)


def stands_at(place: int, words: Sequence[str], term: Sequence[str]) -> bool:
    """Whether a term's words stand there in the target, each with any ending."""
    return place + len(term) <= len(words) and all(
        words[place + number] == word or (_may_end(word) and words[place + number].startswith(word))
        for number, word in enumerate(term)
    )


def _may_end(stem: str) -> bool:
    """Whether a word may have an ending."""
    return len(stem) >= SHORTEST_STEM and stem[-1].isalpha()


__all__ = ["SHORTEST_STEM", "TermTree", "normalised", "number_in", "stands_at", "times_written", "words_of"]
