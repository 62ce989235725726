# SPDX-License-Identifier: Apache-2.0
"""Target units that were shown before a stream began: a stream that was cut off goes on after them."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .text_units import TextUnits
from .word_rule import Expected, WordRule


class Committed(NamedTuple):
    """A target unit that was written and shown before this stream began.

    Attributes:
        ids (`list[int]`): its token ids, as they were written.
        delay (`int`, *optional*): source units that had been read when it was written; without it the policy says.
    """

    ids: list[int]
    delay: int | None = None


def committed_words(
    words: Iterable[Any],
    rule: WordRule,
    encode: Callable[[str, int], list[int]] | None = None,
    words_before: int = 0,
    sentences: bool = False,
) -> list[Committed]:
    """Check what a caller gives as committed, and return it as [`Committed`] words.

    Args:
        words (`Iterable`): pairs of ids, or text, and delay (or None); or what has `ids` and a `delay`, such as
            [`Word`].
        rule (`WordRule`): what a word may be made of.
        encode (`Callable`, *optional*): ids of a unit of text, given with its number.
        words_before (`int`, *optional*): source units before the source; delays count them too.
        sentences (`bool`, *optional*): whether they may be of several sentences, each of which may begin as the first.

    Raises:
        ValueError: for a unit that no decoder writes, text without `encode`, or delays that decrease, are too small
            or are given for some units only.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.committed import committed_words
    >>> from transformers_simul.models.word_rule import WordRule
    >>> rule = WordRule(torch.tensor([2, 1, 0]), vocab_size=3)  # EOS, a start, a continuation
    >>> committed_words([([1, 2], 1), ([1], 3)], rule)
    [Committed(ids=[1, 2], delay=1), Committed(ids=[1], delay=3)]

    ```
    """
    if isinstance(words, (str, bytes)):
        raise ValueError(f"committed must be a sequence of units and their delays, got {words!r}.")
    found: list[Committed] = []
    for number, word in enumerate(words):
        ids, delay = _parts(word, number)
        if isinstance(ids, str):
            if encode is None:
                raise ValueError(
                    f"committed[{number}] must be token ids, got the text {ids!r}: processor.encode(text, 'target') "
                    "gives those of each unit."
                )
            ids = encode(ids, number)
        _check_ids(ids, number, rule, sentences)
        if delay is not None:
            if isinstance(delay, bool) or not isinstance(delay, int) or delay < words_before:
                raise ValueError(
                    f"committed[{number}] must have a delay of at least {words_before}, a whole number, got {delay!r}."
                )
            delay -= words_before
        found.append(Committed(list(ids), delay))
    _check_delays([word.delay for word in found])
    return found


def encoded_unit(processor: TextUnits) -> Callable[[str, int], list[int]]:
    """Return the function that makes a committed unit's text ids, as the tokenizer would write it.

    Args:
        processor (`SimulProcessor`): saved beside the model.
    """

    def encode(text: str, number: int) -> list[int]:
        if processor.unit == "token":
            raise ValueError(f"committed[{number}] must be token ids with token units, got the text {text!r}.")
        if processor.unit == "char" and text == " ":
            return processor.encode_piece(text)[0]
        if processor.split(text) != [text]:
            raise ValueError(f"committed[{number}] must be the text of one {processor.unit}, got {text!r}.")
        is_bare = number == 0 and processor.bare_first_word
        units = processor.encode(text, "target") if is_bare else processor.encode_piece(text)
        if processor.words(units) != [text]:
            raise ValueError(
                f"committed[{number}] must be a text that the tokenizer gives back, but it makes {text!r} "
                f"{processor.words(units)[0]!r}."
            )
        return units[0]

    return encode


def _parts(word: Any, number: int) -> tuple[Any, Any]:
    """Return the ids or the text of a word, and its delay."""
    if hasattr(word, "ids") and hasattr(word, "delay"):
        # A word without ids was made by hand: its text is what there is.
        return word.ids or word.text, word.delay
    if isinstance(word, Sequence) and not isinstance(word, str) and len(word) == 2:
        return word[0], word[1]
    raise ValueError(f"committed[{number}] must be a pair of ids, or text, and delay, got {word!r}.")


def _check_ids(ids: Any, number: int, rule: WordRule, sentences: bool) -> None:
    if not isinstance(ids, Sequence) or not ids or not all(type(token) is int for token in ids):
        raise ValueError(f"committed[{number}] must hold at least one token id, all whole numbers, got {ids!r}.")
    may_be: list[Expected] = [rule.first] if number == 0 else ["start", rule.first] if sentences else ["start"]
    for place, token in enumerate(ids):
        if place == 1:
            may_be = ["continue"]
        if not any(rule.may_hold(token, expected) for expected in may_be):
            what = "continue a unit" if place else "start the first unit" if number == 0 else "start a unit"
            raise ValueError(f"committed[{number}] must be a unit of the target, but token {token} cannot {what}.")


def _check_delays(delays: list[int | None]) -> None:
    given = [delay for delay in delays if delay is not None]
    if given and len(given) < len(delays):
        raise ValueError(f"committed must have delays for all units or for none, got {delays}.")
    if any(later < earlier for earlier, later in pairwise(given)):
        raise ValueError(f"committed must have delays that do not decrease, got {given}.")


__all__ = ["Committed", "committed_words", "encoded_unit"]
