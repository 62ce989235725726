# SPDX-License-Identifier: Apache-2.0
"""Encode text piece by piece as in the middle of a text, never as a control token, and decode it."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .text import BYTE_PIECE, control_tokens

# Ids are taken after a letter, as in the middle of a text; what joins the first does not join the second.
_ANCHORS = ("a", "中")
# Words that are kept: at most so many, of so many characters.
MOST_KEPT, _LONGEST_KEPT = 65536, 64


class TextEncoder:
    """Encodes pieces as they stand in a text, and no piece as a control token.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): any tokenizer whose `encode` and `decode` are inverse to each other.
        eos_token_id (`int`): the id that ends the target.
        head, tail (`str`): the prompt before and after the source; control tokens in these stay control tokens.

    Attributes:
        head_ids, tail_ids (`list[int]`): ids of the prompt.
        control_ids (`frozenset[int]`): ids that no text becomes.

    Raises:
        ValueError: if the tokenizer joins the tail with the word before it.

    Example:

    ```python
    >>> from transformers_simul.models.encoding import TextEncoder
    >>> encoder = TextEncoder(tokenizer, tokenizer.eos_token_id, "", " =>")
    >>> tokenizer.eos_token_id in encoder.word("<|endoftext|>"), encoder.decode(encoder.word("<|endoftext|>"))
    (False, ' <|endoftext|>')

    ```
    """

    def __init__(self, tokenizer: Any, eos_token_id: int, head: str, tail: str):
        self.tokenizer = tokenizer
        self.head_ids = self._encode(head)
        self.tail_ids = self._encode_after(_ANCHORS[:1], tail)
        self._before_target = (f"{_ANCHORS[0]}{tail}",)
        self._anchor = self._encode(_ANCHORS[0])
        self._anchor_text = tokenizer.decode(self._anchor, clean_up_tokenization_spaces=False)
        self.control_ids, self._names = _controls(tokenizer, eos_token_id, head + tail)
        self._known: dict[str, list[int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_known": {}}

    def word(self, word: str) -> list[int]:
        """Return the ids of a word that follows another word and a space.

        Raises:
            ValueError: if there are no ids, or only those of control tokens; or if the tokenizer joins words.
        """
        return self._once(word, lambda: self._encode_text(_ANCHORS[:1], f" {word}"))

    def words(self, text: str) -> list[int]:
        """Return the ids of a text whose first word follows another, as [`TextEncoder.word`] does."""
        return self._encode_text(_ANCHORS[:1], f" {text}")

    def character(self, character: str) -> list[int]:
        """Return the ids of a character that is joined with none of its neighbours, as [`TextEncoder.word`] does."""
        return self._once(character, lambda: self._encode_text(_ANCHORS, character))

    def target_start(self, text: str) -> list[int]:
        """Return the ids of a text that stands right after the tail, as [`TextEncoder.word`] does."""
        return self._encode_text(self._before_target, text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of some ids, with the space before it."""
        # After the anchor: some tokenizers take the space from the start of what they decode.
        text: str = self.tokenizer.decode([*self._anchor, *ids], clean_up_tokenization_spaces=False)
        return text.removeprefix(self._anchor_text)

    def _once(self, piece: str, encode: Callable[[], list[int]]) -> list[int]:
        ids = self._known.get(piece)
        if ids is None:
            ids = encode()
            if not ids:
                raise ValueError(f"tokenizer must have tokens for every text, but has none for {piece!r}.")
            if len(piece) <= _LONGEST_KEPT:
                if len(self._known) >= MOST_KEPT:
                    self._known.clear()
                self._known[piece] = ids
        return list(ids)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def _encode_text(self, befores: Sequence[str], text: str) -> list[int]:
        """Encode a text after one of `befores` without making a control token of any part of it."""
        # Where the text names a control token, it is cut within the name. Tokenizers' own `split_special_tokens` is
        # not known to all of them, and Unigram models find the name in their vocabulary all the same.
        pieces = []
        while named := self._names.search(text):
            pieces.append(text[: named.start() + 1])
            text = text[named.start() + 1 :]
        first, *rest = [*pieces, text]
        ids = self._encode_after(befores, first)
        for piece in rest:
            ids += self._encode_after(_ANCHORS, piece)
        if found := self.control_ids.intersection(ids):
            names = self.tokenizer.convert_ids_to_tokens(sorted(found))
            raise ValueError(f"text must not become the control tokens {names}, but does: {first + ''.join(rest)!r}.")
        return ids

    def _encode_after(self, befores: Sequence[str], text: str) -> list[int]:
        try:
            for before in befores:
                anchor, ids = self._encode(before), self._encode(before + text)
                if ids[: len(anchor)] == anchor:
                    return ids[len(anchor) :]
        except TypeError as error:
            raise ValueError(f"text must be Unicode without lone surrogates, got {text!r}.") from error
        raise ValueError(f"tokenizer must split text after {befores[-1]!r}, but joins it with {text!r}: {ids}.")


def _is_mark(name: str) -> bool:
    return len(name) > 1 and not name.isspace() and not name.isalnum()


def _controls(tokenizer: Any, eos_token_id: int, template: str) -> tuple[frozenset[int], re.Pattern[str]]:
    """Return the ids that no text becomes, and a pattern of the texts that the tokenizer would turn into control
    tokens."""
    controls = control_tokens(tokenizer)
    added = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
    # Chats also mark their parts with added tokens that are not special, such as "<think>".
    controls |= {index: name for index, name in added.items() if _is_mark(name) and name in template}
    # What stands for unknown text comes from text.
    if tokenizer.unk_token_id != eos_token_id:
        controls.pop(tokenizer.unk_token_id, None)
    names = {*controls.values(), *(name for name in added.values() if BYTE_PIECE.fullmatch(name))}
    if tokenizer.unk_token is not None:
        names.add(tokenizer.unk_token)
    # A name of one character cannot be cut; text that holds it is refused.
    alternatives = (re.escape(name) for name in sorted(names) if len(name) > 1)
    return frozenset(controls), re.compile("|".join(alternatives) or r"(?!)")


__all__ = ["TextEncoder"]
