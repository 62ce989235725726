# SPDX-License-Identifier: Apache-2.0
"""Names and terms that a translation should use: a glossary, and what it does to the scores of one row."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch

from .row import Prompt, Reading
from .text import split_words
from .word_rule import Expected

STRENGTH = 6.0
_EDGES = ".,;:!?…\"'()[]{}„“”‘’‚«»‹›¿¡–—\u00a0\u202f"
# A shorter word stands for itself alone; a source word may have so many letters more than its term ("des Hauses").
_SHORTEST_STEM, _LONGEST_ENDING = 3, 3
# What a READ costs is bounded by it, whatever a stranger's glossary and source are.
_MOST_WORDS = 10
# What may follow a copied term within its word.
_MARKS = (*".,;:!?…)-", "“", "”", "»", '"', "'")


class Glossary:
    """Source terms and how each is to be translated. A term that stays as it is, such as a name, is its own target.

    Once a source term has been READ, the tokens that begin or continue its target term get a bonus, until it is
    written; a greater one, the more of the term is written. A term that is copied as it stands also gets one for ending
    where it ends. The bonus changes scores, never logits; otherwise it does not change the probability that a word or
    the translation ends, nor the distribution that a policy looks at (drafts, which are what would be written, have
    it). Nothing is forced: a model that finds the term too unlikely does not write it.

    A term is found whatever its case and the punctuation around its words. A source word of at least three letters may
    have an ending of up to three ("Hauses" is "Haus"), and a target word any ending ("Hausbau" has written "Haus"):
    other inflection, such as "Häuser", is an entry of its own.

    Args:
        terms (`Mapping[str, str]` or iterable of pairs of `str`): the target term of each source term; of one or more
            words.
        strength (`float`, *optional*, defaults to 6): the bonus, in nats: what is up to e^6 times less likely than the
            likeliest token is preferred to it.

    Attributes:
        terms (`dict[str, str]`): the target term of each source term.

    Raises:
        ValueError: for a term without a letter or digit, a source term of more than ten words, two targets of one
            source term, or a strength that is not above 0.

    Example:

    ```python
    >>> from transformers_simul import Glossary, WaitKPolicy
    >>> glossary = Glossary({"dog": "Dackel", "Home Assistant": "Home Assistant"})
    >>> output = model.generate(
    ...     **processor(source="a dog runs"), policy=WaitKPolicy(2), glossary=glossary, max_new_tokens=4
    ... )

    ```
    """

    def __init__(self, terms: Mapping[str, str] | Iterable[tuple[str, str]], strength: float = STRENGTH):
        if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 < strength < math.inf:
            raise ValueError(f"strength must be a number above 0, got {strength!r}.")
        self.terms: dict[str, str] = {}
        self.strength = float(strength)
        self._targets: dict[tuple[str, ...], str] = {}
        for source, target in terms.items() if isinstance(terms, Mapping) else terms:
            self._add(source, target)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], strength: float = STRENGTH) -> "Glossary":
        """Read UTF-8 text: on each line a source term, a tab and its target term; empty lines are passed over.

        Args:
            path (`str` or `os.PathLike`): of the file.
            strength (`float`, *optional*): of the glossary.

        Raises:
            OSError: if the file cannot be read.
            ValueError: naming file and line, for what is no such line or no term.

        Example:

        ```python
        >>> import os, tempfile
        >>> from transformers_simul import Glossary
        >>> path = os.path.join(tempfile.mkdtemp(), "terms.tsv")
        >>> with open(path, "w") as file:
        ...     _ = file.write("dog\\tDackel\\nBerlin\\tBerlin\\n")
        >>> Glossary.from_file(path)
        Glossary({'dog': 'Dackel', 'Berlin': 'Berlin'}, strength=6.0)

        ```
        """
        glossary = cls({}, strength)
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"glossary {str(path)!r} must be UTF-8 text: {error}.") from error
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            place, columns = f"glossary {str(path)!r}, line {number}", [column.strip() for column in line.split("\t")]
            if len(columns) != 2:
                raise ValueError(f"{place}: must be a source term, a tab and its target term, got {line.strip()!r}.")
            try:
                glossary._add(*columns)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from error
        return glossary

    def bind(self, prompt: Prompt) -> "BoundGlossary":
        """The glossary for a processor's vocabulary.

        Args:
            prompt (`Prompt`): of the processor, fitted to the model.

        Raises:
            ValueError: if the processor's units are not words, or for a target term that it cannot write.
        """
        bound = BoundGlossary(self, prompt)
        for target in self.terms.values():
            bound.target(target)
        return bound

    def _add(self, source: str, target: str) -> None:
        for side, term in (("source", source), ("target", target)):
            if not isinstance(term, str) or not any(map(str.isalnum, term)):
                raise ValueError(f"a {side} term must have a letter or a digit, got {term!r}.")
        words = _words_of(source)
        if len(words) > _MOST_WORDS:
            raise ValueError(f"a source term must have at most {_MOST_WORDS} words, got {len(words)}: {source!r}.")
        known = self._targets.setdefault(words, target)
        if known != target:
            raise ValueError(f"a source term must have one target term, but {source!r} has {known!r} and {target!r}.")
        self.terms[source] = target

    def __len__(self) -> int:
        return len(self.terms)

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"Glossary({self.terms}, strength={self.strength})"


class _Target(NamedTuple):
    """A target term: its text, its words as they are compared, its ids, and its ids as the first words of a target."""

    text: str
    words: tuple[str, ...]
    ids: list[int]
    first_ids: list[int]


class _Terms:
    """A tree of source terms, word by word: where the words so far lead."""

    def __init__(self) -> None:
        self.after: dict[str, _Terms] = {}
        # The target of the term that ends here.
        self.target: str | None = None

    def add(self, words: Sequence[str], target: str) -> None:
        """Add a term."""
        here = self
        for word in words:
            here = here.after.setdefault(word, _Terms())
        here.target = target

    def by(self, word: str) -> Iterator["_Terms"]:
        """Where a word of the source leads: as it is, then without an ending, the shortest first."""
        for letters in range(_LONGEST_ENDING + 1):
            stem = word[: len(word) - letters]
            if stem in self.after and (not letters or _may_end(stem)):
                yield self.after[stem]


class BoundGlossary:
    """A [`Glossary`] for one processor; [`BoundGlossary.row`] follows one row of decoding.

    Target terms become ids when they are asked for: those of a long glossary take seconds, and most are never due.

    Args:
        glossary (`Glossary`): the terms.
        prompt (`Prompt`): of the processor, fitted to the model.

    Raises:
        ValueError: if the processor's units are not words.
    """

    def __init__(self, glossary: Glossary, prompt: Prompt):
        if prompt.encoder is None:
            raise ValueError("glossary needs words as units of source and target; this processor has others.")
        self.strength, self.rule, self._encoder = glossary.strength, prompt.rule, prompt.encoder
        # Tokens that start a word, by what is expected.
        self.starts = {name: ~prompt.rule.barred[name] for name in ("start", "bare")}  # type: ignore[index]
        for mask in self.starts.values():
            mask[prompt.rule.eos_token_id] = False
        self._ends: dict[str, torch.Tensor] = {}
        self.terms = _Terms()
        self._targets: dict[str, _Target] = {}
        for source, target in glossary.terms.items():
            self.terms.add(_words_of(source), target)

    def row(self) -> "RowGlossary":
        """What one row has read and written of it."""
        return RowGlossary(self)

    def text(self, ids: Sequence[int]) -> str:
        """The text of a word, as it is compared."""
        return _normalised(self._encoder.decode(ids))

    def target(self, text: str) -> _Target:
        """A target term.

        Args:
            text (`str`): as the glossary has it.

        Raises:
            ValueError: if the processor cannot write it.
        """
        if text not in self._targets:
            self._targets[text] = self._encoded(text)
        return self._targets[text]

    def ends(self, term: _Target) -> torch.Tensor:
        """Tokens that end a word after this term, or go on with a mark.

        Returns:
            `torch.Tensor` of shape `(vocabulary,)`, bool.
        """
        if term.text not in self._ends:
            ends = self.rule.ends_word.clone()
            for mark in _MARKS:
                ids = self._encoder.words(f"{term.text}{mark}")
                if ids[: len(term.ids)] == term.ids and len(ids) > len(term.ids):
                    ends[ids[len(term.ids)]] = True
            self._ends[term.text] = ends
        return self._ends[term.text]

    def _encoded(self, target: str) -> _Target:
        words, rule = split_words(target), self.rule
        units = [self._encoder.word(word) for word in words]
        first = self._encoder.target_start(words[0]) if rule.first == "bare" else units[0]
        for number, unit in enumerate([first, *units]):
            expected: Expected = "start" if number else rule.first
            if not all(rule.may_hold(token, "continue" if place else expected) for place, token in enumerate(unit)):
                raise ValueError(
                    f"glossary has a target term that the tokenizer does not write word by word: {target!r}."
                )
        ids, rest = [token for unit in units for token in unit], [token for unit in units[1:] for token in unit]
        return _Target(target, _words_of(target), ids, [*first, *rest])


class RowGlossary:
    """A [`BoundGlossary`] in one row of decoding: it sees what was READ and what is written.

    Args:
        bound (`BoundGlossary`): the terms.

    Attributes:
        due (`Counter[str]`): how often each target term is due by what was READ. Of terms that overlap, the first and
            longest counts.
    """

    def __init__(self, bound: BoundGlossary):
        self._bound, self._rule = bound, bound.rule
        # Words that were READ, and as they are compared, those that have letters.
        self._read, self._words = 0, list[str]()
        # Beginnings of terms that may go on, each with the word that it starts at.
        self._begun: list[tuple[int, _Terms]] = []
        # The longest term that starts at a word: the word behind it, and its target.
        self._found: dict[int, tuple[int, str]] = {}
        self.due: Counter[str] = Counter()
        self._copied: list[_Target] = []
        self._texts: dict[tuple[int, ...], str] = {}

    def prefer(self, scores: torch.Tensor, expected: Expected, reading: Reading, target: list[int]) -> torch.Tensor:
        """Scores in which tokens of terms that are due have their bonus.

        Tokens that start a word, EOS aside, share among themselves the probability that they had together: so a bonus
        says which word comes, not whether one does. A term that was begun goes on with a bonus against all else.

        Args:
            scores (`torch.Tensor` of shape `(1, vocabulary)`): after the rule for words.
            expected (`Expected`): what may follow.
            reading (`Reading`): what was READ.
            target (`list[int]`): ids that were written.
        """
        tokens: dict[int, float] = {}
        for term in self._missing(reading, target):
            token, written = _next(term, target)
            if token is not None:
                # The more of a term is written, the less is it something else: a name should not stay half a name.
                bonus = self._bound.strength * max(1, written)
                tokens[token] = max(bonus, tokens.get(token, 0.0))
        if expected == "any":
            for term in self._copied:
                if target == term.first_ids or target[-len(term.ids) :] == term.ids:
                    scores = torch.where(self._bound.ends(term), scores + self._bound.strength, scores)
        if not tokens:
            return scores
        # The first word of a target may begin with a token that elsewhere goes on with a word.
        starts = {token: bonus for token, bonus in tokens.items() if expected == "bare" or self._rule.is_start(token)}
        scores = _raised(scores, {token: bonus for token, bonus in tokens.items() if token not in starts})
        if not starts or expected == "continue":
            return scores
        group = self._bound.starts["bare" if expected == "bare" else "start"]
        raised = _raised(scores, starts)
        less = _mass(scores, group) - _mass(raised, group)
        return torch.where(group, raised + less, scores)

    def read(self, words: Iterable[Sequence[int]]) -> None:
        """READ source words. Each is compared with the terms that it may begin or go on with, and with nothing else.

        Args:
            words (`Iterable[Sequence[int]]`): ids of each.
        """
        for ids in words:
            self._read += 1
            if text := self._text(ids):
                self._look_up(text)
        self.due.clear()
        changed: set[str] = set()
        place = 0
        while place < len(self._words):
            end, target = self._found.get(place, (place + 1, None))
            if target is not None:
                self.due[target] += 1
                if tuple(self._words[place:end]) != self._bound.target(target).words:
                    changed.add(target)
            place = end
        # Those that stand in the source as they are to be written.
        self._copied = [self._bound.target(target) for target in self.due if target not in changed]

    def _look_up(self, word: str) -> None:
        begun = [*self._begun, (len(self._words), self._bound.terms)]
        self._words.append(word)
        self._begun = [(start, longer) for start, terms in begun for longer in terms.by(word)]
        for start, terms in self._begun:
            # Among terms of equal length the first counts: its words have the shortest endings.
            if terms.target is not None and self._found.get(start, (0, ""))[0] < len(self._words):
                self._found[start] = len(self._words), terms.target

    def _missing(self, reading: Reading, target: list[int]) -> Iterator[_Target]:
        """Terms that were READ more often than they are written."""
        if reading.words > self._read:
            ends = reading.ends[self._read :]
            self.read([reading.ids[start:end] for start, end in pairwise(ends)])
        if not self.due:
            return
        words = [text for word in self._split(target) if (text := self._text(word))]
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, word in enumerate(words):
            places[word[:_SHORTEST_STEM]].append(place)
        for name, times in self.due.items():
            term = self._bound.target(name)
            written = sum(_stands_at(place, words, term.words) for place in places[term.words[0][:_SHORTEST_STEM]])
            if written < times:
                yield term

    def _text(self, ids: Sequence[int]) -> str:
        key = tuple(ids)
        if key not in self._texts:
            self._texts[key] = self._bound.text(ids)
        return self._texts[key]

    def _split(self, target: list[int]) -> list[list[int]]:
        """The words of a target, the last of which may go on."""
        words: list[list[int]] = []
        for token in target:
            if not words or self._rule.is_start(token):
                words.append([])
            words[-1].append(token)
        return words


def bound_glossary(
    glossary: "Glossary | Mapping[str, str] | None", prompt: Prompt, at_once: bool = True
) -> BoundGlossary | None:
    """The glossary of one row, bound.

    Args:
        glossary (`Glossary` or `Mapping[str, str]`, *optional*): terms; None for none.
        prompt (`Prompt`): as for [`Glossary.bind`].
        at_once (`bool`, *optional*): whether to look at all target terms now, which takes a tenth of a second for a
            thousand; otherwise what cannot be written is an error once it is due.

    Raises:
        ValueError: if it is neither, or as [`Glossary.bind`].
    """
    if glossary is None:
        return None
    if isinstance(glossary, Mapping):
        glossary = Glossary(glossary)
    if not hasattr(glossary, "bind"):
        raise ValueError(f"glossary must be a Glossary or a mapping of terms, got {glossary!r}.")
    bound: BoundGlossary = glossary.bind(prompt) if at_once else BoundGlossary(glossary, prompt)
    return bound


def _next(term: _Target, target: list[int]) -> tuple[int | None, int]:
    """The token that goes on with a term, or begins it, and how many are written; None where all are."""
    for ids in (term.first_ids, term.ids):
        for length in range(min(len(ids), len(target)), 0, -1):
            if target[len(target) - length :] == ids[:length] and (ids is term.ids or length == len(target)):
                return (ids[length] if length < len(ids) else None), length
    return (term.ids if target else term.first_ids)[0], 0


def _raised(scores: torch.Tensor, tokens: dict[int, float]) -> torch.Tensor:
    if not tokens:
        return scores
    bonus = torch.zeros_like(scores)
    for token, strength in tokens.items():
        bonus[:, token] = strength
    return scores + bonus


def _mass(scores: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    return scores.masked_fill(~group, -torch.inf).logsumexp(-1, keepdim=True)


def _stands_at(place: int, words: Sequence[str], term: Sequence[str]) -> bool:
    """Whether a term's words stand there in the target, each with any ending."""
    return place + len(term) <= len(words) and all(
        words[place + number] == word or (_may_end(word) and words[place + number].startswith(word))
        for number, word in enumerate(term)
    )


def _may_end(stem: str) -> bool:
    """Whether a word may have an ending."""
    return len(stem) >= _SHORTEST_STEM and stem[-1].isalpha()


def _normalised(word: str) -> str:
    return word.removeprefix(" ").strip(_EDGES).casefold()


def _words_of(term: str) -> tuple[str, ...]:
    return tuple(word for each in split_words(term) if (word := _normalised(each)))


__all__ = ["STRENGTH", "BoundGlossary", "Glossary", "RowGlossary", "bound_glossary"]
