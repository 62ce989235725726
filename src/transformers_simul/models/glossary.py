# SPDX-License-Identifier: Apache-2.0
"""Names and terms that a translation should use."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from .glossary_row import BoundGlossary
from .glossary_terms import words_of
from .row import Prompt

STRENGTH = 6.0
# What a READ costs is bounded by it, whatever a stranger's glossary and source are.
_MOST_WORDS = 10


class Glossary:
    """Source terms and how each is to be translated. A term that stays as it is, such as a name, is its own target.
    Numbers can be such terms without being listed.

    Once a source term has been READ, the tokens that begin or continue its target term get a bonus, until it is
    written; a greater one, the more of the term is written. A term that is copied as it stands also gets one for ending
    where it ends. The bonus changes scores, never logits; otherwise it does not change the probability that a word or
    the translation ends, nor the distribution that a policy looks at (drafts, which are what would be written, have
    it). Nothing is forced: a model that finds the term too unlikely does not write it.

    A term is found whatever its case and the punctuation around its words. A source word of at least three letters may
    have an ending of up to three ("Hauses" is "Haus"), and a target word any ending ("Hausbau" has written "Haus"):
    other inflection, such as "Häuser", is an entry of its own.

    Numbers that are copied are digits, also with capitals ("2018", "A380", "COVID-19"), without the signs around them:
    "$100" is "100". What other languages may write differently, such as "1,000", "3.5", "10:30" or "3rd", is left to
    the model, as are numbers after a plus, a minus or a dash.

    Args:
        terms (`Mapping[str, str]` or iterable of pairs of `str`, *optional*): the target term of each source term; of
            one or more words.
        strength (`float`, *optional*, defaults to 6): the bonus, in nats: what is up to e^6 times less likely than the
            likeliest token is preferred to it.
        copy_numbers (`bool`, *optional*, defaults to `False`): whether numbers of the source that are part of no term
            are terms that stay as they are.

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

    def __init__(
        self,
        terms: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        strength: float = STRENGTH,
        copy_numbers: bool = False,
    ):
        if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 < strength < math.inf:
            raise ValueError(f"strength must be a number above 0, got {strength!r}.")
        self.terms: dict[str, str] = {}
        self.strength, self.copy_numbers = float(strength), copy_numbers
        self._targets: dict[tuple[str, ...], str] = {}
        for source, target in terms.items() if isinstance(terms, Mapping) else terms:
            self._add(source, target)

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], strength: float = STRENGTH, copy_numbers: bool = False
    ) -> "Glossary":
        """Read UTF-8 text: on each line a source term, a tab and its target term; empty lines are passed over.

        Args:
            path (`str` or `os.PathLike`): of the file.
            strength, copy_numbers (*optional*): of the glossary.

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
        glossary = cls({}, strength, copy_numbers)
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

    def bind(self, prompt: Prompt, at_once: bool = True) -> BoundGlossary:
        """Return the glossary for a processor's vocabulary.

        Args:
            prompt (`Prompt`): of the processor, fitted to the model.
            at_once (`bool`, *optional*): whether to look at all target terms now, which takes a tenth of a second for a
                thousand; otherwise what cannot be written is an error once it is due.

        Raises:
            ValueError: if the processor's units are not words, or for a target term that it cannot write.
        """
        bound = BoundGlossary(self.terms, self.strength, prompt, self.copy_numbers)
        for target in self.terms.values() if at_once else ():
            bound.target(target)
        return bound

    def _add(self, source: str, target: str) -> None:
        for side, term in (("source", source), ("target", target)):
            if not isinstance(term, str) or not any(map(str.isalnum, term)):
                raise ValueError(f"a {side} term must have a letter or a digit, got {term!r}.")
        words = words_of(source)
        if len(words) > _MOST_WORDS:
            raise ValueError(f"a source term must have at most {_MOST_WORDS} words, got {len(words)}: {source!r}.")
        known = self._targets.setdefault(words, target)
        if known != target:
            raise ValueError(f"a source term must have one target term, but {source!r} has {known!r} and {target!r}.")
        self.terms[source] = target

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        numbers = ", copy_numbers=True" if self.copy_numbers else ""
        return f"Glossary({self.terms}, strength={self.strength}{numbers})"


def bound_glossary(
    glossary: Glossary | Mapping[str, str] | None, prompt: Prompt, at_once: bool = True
) -> BoundGlossary | None:
    """Bind the glossary of one row.

    Args:
        glossary (`Glossary` or `Mapping[str, str]`, *optional*): terms; None for none.
        prompt, at_once: as for [`Glossary.bind`].

    Raises:
        ValueError: if it is neither, or as [`Glossary.bind`].
    """
    if glossary is None:
        return None
    if isinstance(glossary, Mapping):
        glossary = Glossary(glossary)
    if not hasattr(glossary, "bind"):
        raise ValueError(f"glossary must be a Glossary or a mapping of terms, got {glossary!r}.")
    return glossary.bind(prompt, at_once)


__all__ = ["STRENGTH", "Glossary", "bound_glossary"]
