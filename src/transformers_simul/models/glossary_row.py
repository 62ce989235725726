# SPDX-License-Identifier: Apache-2.0
"""What a glossary does to the scores of one row of decoding."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch

from .glossary_terms import SHORTEST_STEM, TermTree, normalised, number_in, stands_at, times_written, words_of
from .row import Prompt, Reading
from .text import split_words
from .word_rule import Expected

# What may follow a copied term or number within its word.
_MARKS = (*".,;:!?…)-%", "“", "”", "»", '"', "'")


class _Target(NamedTuple):
    """A target term: its text, its words as they are compared, its ids, and its ids as the first words of a target."""

    text: str
    words: tuple[str, ...]
    ids: list[int]
    first_ids: list[int]


class BoundGlossary:
    """A [`Glossary`] for one processor; [`BoundGlossary.row`] follows one row of decoding.

    Target terms become ids when they are asked for: those of a long glossary take seconds, and most are never due.

    Args:
        terms (`Mapping[str, str]`): the target term of each source term.
        strength (`float`): the bonus, in nats.
        prompt (`Prompt`): of the processor, fitted to the model.
        copy_numbers (`bool`, *optional*): whether numbers are terms that stay as they are.

    Raises:
        ValueError: if the processor's units are not words.
    """

    def __init__(self, terms: Mapping[str, str], strength: float, prompt: Prompt, copy_numbers: bool = False):
        if prompt.encoder is None:
            raise ValueError("glossary needs words as units of source and target; this processor has others.")
        self.strength, self.rule, self._encoder = strength, prompt.rule, prompt.encoder
        self.copy_numbers = copy_numbers
        # Tokens that start a word, by what is expected.
        self.starts = {name: ~prompt.rule.barred[name] for name in ("start", "bare")}  # type: ignore[index]
        for mask in self.starts.values():
            mask[prompt.rule.eos_token_id] = False
        self.terms = TermTree()
        self._targets: dict[str, _Target] = {}
        for source, target in terms.items():
            self.terms.add(words_of(source), target)

    def row(self) -> "RowGlossary":
        """Return a new [`RowGlossary`], which follows what one row of decoding reads and writes."""
        return RowGlossary(self)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of a word, as it is compared."""
        return normalised(self._encoder.decode(ids))

    def target(self, text: str) -> _Target:
        """Return a target term with its ids.

        Args:
            text (`str`): as the glossary has it.

        Raises:
            ValueError: if the processor cannot write it.
        """
        if text not in self._targets:
            target = self._encoded(text)
            if target is None:
                raise ValueError(
                    f"glossary has a target term that the tokenizer does not write word by word: {text!r}."
                )
            self._targets[text] = target
        return self._targets[text]

    def number(self, ids: Sequence[int]) -> _Target | None:
        """The number that a source word holds and the target can hold as it is; None where numbers are no terms."""
        text = number_in(self._encoder.decode(ids)) if self.copy_numbers else None
        return None if text is None else self._encoded(text)

    def ends(self, term: _Target) -> torch.Tensor:
        """Return the tokens that end a word after this term, or go on with a mark.

        Returns:
            `torch.Tensor` of shape `(vocabulary,)`, bool.
        """
        ends = self.rule.ends_word.clone()
        for mark in _MARKS:
            ids = self._encoder.words(f"{term.text}{mark}")
            if ids[: len(term.ids)] == term.ids and len(ids) > len(term.ids):
                ends[ids[len(term.ids)]] = True
        return ends

    def _encoded(self, target: str) -> _Target | None:
        """A target term; None if the tokenizer does not write it word by word."""
        words, rule = split_words(target), self.rule
        units = [self._encoder.word(word) for word in words]
        first = self._encoder.target_start(words[0]) if rule.first == "bare" else units[0]
        for number, unit in enumerate([first, *units]):
            expected: Expected = "start" if number else rule.first
            if not all(rule.may_hold(token, "continue" if place else expected) for place, token in enumerate(unit)):
                return None
        ids, rest = [token for unit in units for token in unit], [token for unit in units[1:] for token in unit]
        return _Target(target, words_of(target), ids, [*first, *rest])


class RowGlossary:
    """A [`BoundGlossary`] in one row of decoding: it sees what was READ and what is written.

    Args:
        bound (`BoundGlossary`): the terms.

    Attributes:
        due (`Counter[str]`): how often each target term is due by what was READ, numbers that are copied included. Of
            terms that overlap, the first and longest counts.
    """

    def __init__(self, bound: BoundGlossary):
        self._bound, self._rule = bound, bound.rule
        # Words that were READ, and as they are compared, those that have letters.
        self._read, self._words = 0, list[str]()
        # Beginnings of terms that may go on, each with the word that it starts at.
        self._begun: list[tuple[int, TermTree]] = []
        # The longest term that starts at a word: the word after it, and its target.
        self._found: dict[int, tuple[int, str]] = {}
        # The number that a word holds, by the word's place and by its text.
        self._number_at: dict[int, _Target] = {}
        self._numbers: dict[str, _Target] = {}
        self.due: Counter[str] = Counter()
        self._copied: list[_Target] = []
        self._texts: dict[tuple[int, ...], str] = {}

    def prefer(self, scores: torch.Tensor, expected: Expected, reading: Reading, target: list[int]) -> torch.Tensor:
        """Return scores in which tokens of terms that are due have their bonus.

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
                if number := self._bound.number(ids):
                    self._number_at[len(self._words)] = self._numbers[number.text] = number
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
            elif place in self._number_at:
                self.due[self._number_at[place].text] += 1
            place = end
        # Those that stand in the source as they are to be written.
        self._copied = [self._target(target) for target in self.due if target not in changed]

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
        if reading.source_words > self._read:
            ends = reading.ends[self._read :]
            self.read([reading.ids[start:end] for start, end in pairwise(ends)])
        if not self.due:
            return
        words = [text for word in self._split(target) if (text := self._text(word))]
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, word in enumerate(words):
            places[word[:SHORTEST_STEM]].append(place)
        for name, times in self.due.items():
            term = self._target(name)
            if name in self._numbers:
                written = times_written(name, words)
            else:
                written = sum(stands_at(place, words, term.words) for place in places[term.words[0][:SHORTEST_STEM]])
            if written < times:
                yield term

    def _target(self, name: str) -> _Target:
        return self._numbers.get(name) or self._bound.target(name)

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


__all__ = ["BoundGlossary", "RowGlossary"]
