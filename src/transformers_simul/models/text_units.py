# SPDX-License-Identifier: Apache-2.0
"""Text as the units that a policy counts, each of them token ids, and these as text again."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from .encoding import TextEncoder
from .row import Prompt
from .schedule import CONTINUES, STARTS
from .text import normalise_spaces, split_words


class TextUnits:
    """The units of a processor's texts: words, characters or tokens. [`SimulProcessor`] derives from it.

    Attributes:
        tokenizer (`PreTrainedTokenizerFast`): gives ids.
        unit (`str`): `"word"`, `"char"` or `"token"`.
    """

    tokenizer: Any
    unit: str
    _encoder: TextEncoder
    _prompt: Prompt

    @property
    def eos_token_id(self) -> int:
        """The id that ends the target."""
        return self._prompt.rule.eos_token_id

    @property
    def bare_first_word(self) -> bool:
        """Whether the target begins without a space, with a token that elsewhere would continue a word."""
        return self._prompt.rule.first == "bare"

    @property
    def token_kinds(self) -> torch.Tensor:
        """The table of word boundaries, int8 of shape `(vocabulary,)`; see [`token_kinds`]."""
        return self._prompt.rule.token_kinds

    def split(self, text: str) -> list[str]:
        """Split a text into pieces: words, or single characters, where a run of white space counts as one. A piece is
        one unit, or with token units as many as it has tokens."""
        return list(normalise_spaces(text)) if self.unit == "char" else split_words(text)

    def encode_piece(self, piece: str) -> list[list[int]]:
        """Return the ids of each unit in one piece of [`SimulProcessor.split`].

        Raises:
            ValueError: if the tokenizer has no tokens for it, or only control tokens.
        """
        ids = self._encoder.character(piece) if self.unit == "char" else self._encoder.word(piece)
        return self._units_of(ids)

    def encode(self, text: str, side: str = "source") -> list[list[int]]:
        """Return the ids of each unit of a whole text.

        Args:
            text (`str`): one or more sentences.
            side (`str`): `"source"` or `"target"`; a target's first word may stand without a space.

        Raises:
            ValueError: if there is no word in it, or if a target holds the token that ends it.
        """
        if not isinstance(text, str):
            raise ValueError(f"{side} must be a string, got {type(text).__name__}.")
        units = []
        for number, piece in enumerate(self.split(text)):
            is_bare = side == "target" and self.bare_first_word and not number
            units += self._units_of(self._encoder.target_start(piece)) if is_bare else self.encode_piece(piece)
        if not units:
            raise ValueError(f"{side} must hold at least one word, got {text!r}.")
        # An EOS that is no control token may be the token of ordinary text, such as "###".
        if side == "target" and any(self.eos_token_id in unit for unit in units):
            eos = self.tokenizer.convert_ids_to_tokens(self.eos_token_id)
            raise ValueError(f"target must not hold {eos!r}, which ends it, got {text!r}: choose another eos_token.")
        return units

    def encode_pair(self, source: str, target: str) -> dict[str, list[list[int]]]:
        """Return a training pair as `{"source_ids", "target_ids"}`, the ids of each unit; for `dataset.map`.

        Raises:
            ValueError: for an empty side, or if the ids of the words are not those of the whole text; with characters,
                if they do not give the text back.
        """
        return {"source_ids": self._encode_whole(source, "source"), "target_ids": self._encode_whole(target, "target")}

    def words(self, words: Iterable[Sequence[int]]) -> list[str]:
        """Return the text of each written unit. With token units, the space before a unit is part of it, and a
        character of several tokens is the text of its last one.

        Args:
            words (`Iterable[Sequence[int]]`): ids of each unit, as `generate()` returns them in `words`.
        """
        texts: list[str] = []
        held: list[int] = []
        for ids in words:
            text = self._encoder.decode([*held, *ids])
            held = [*held, *ids] if self.is_half(text) else []
            texts.append("" if held else text)
        if held:
            texts[-1] = text
        return [text.removeprefix(" ") for text in texts] if self.unit == "word" else texts

    def is_half(self, text: str) -> bool:
        """Whether a text of [`SimulProcessor.words`] ends within a character, as it may with token units."""
        return self.unit == "token" and text.endswith("\ufffd")

    def text(self, words: Iterable[Sequence[int]]) -> str:
        """Return the text of all written units together, given as ids; units may split characters."""
        text = self._encoder.decode([token for word in words for token in word])
        return text if self.unit == "char" else text.removeprefix(" ")

    def join(self, words: Iterable[str]) -> str:
        """Join the texts of written units to one text."""
        if self.unit == "word":
            return " ".join(words)
        first, *rest = [*words] or [""]
        return "".join([first.removeprefix(" ") if self.unit == "token" else first, *rest])

    def _units_of(self, ids: list[int]) -> list[list[int]]:
        return [[token] for token in ids] if self.unit == "token" else [ids]

    def _encode_whole(self, text: str, side: str) -> list[list[int]]:
        """As [`SimulProcessor.encode`], if the words give the whole text."""
        units, text = self.encode(text, side), normalise_spaces(text)
        if self.unit == "char":
            self._check_characters(units, text)
        elif side == "target" and self.bare_first_word:
            self._check_sum(units, self._encoder.target_start(text), text)
        else:
            self._check_sum(units, self._encoder.words(text), text)
        return units

    def _check_characters(self, units: list[list[int]], text: str) -> None:
        ids = [token for unit in units for token in unit]
        # A character that the tokenizer does not know is lost, but harms no other.
        if self.tokenizer.unk_token_id in ids:
            return
        kinds = [kind for unit in units for kind in (STARTS, *[CONTINUES] * (len(unit) - 1))]
        if self.text(units) != text or self.token_kinds[ids].tolist() != kinds:
            raise ValueError(
                f"tokenizer must encode each character by itself so that the text comes back, but {text!r} comes back "
                f"as {self.text(units)!r}: use one that falls back to bytes, or unit='word'."
            )

    def _check_sum(self, words: list[list[int]], whole: list[int], text: str) -> None:
        if whole != [token for word in words for token in word]:
            raise ValueError(
                f"tokenizer must give each word the ids that it has in the whole text, but does not for {text!r}: use "
                "a tokenizer that splits at spaces first, or unit='char'."
            )


__all__ = ["TextUnits"]
