# SPDX-License-Identifier: Apache-2.0
"""SimulProcessor: text to prompt spans and words of token ids, and back. The only object that knows the text."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .schedule_simul import HEAD, PADDING, TAIL
from .text_simul import UNITS, normalise_spaces, split_words, token_kinds

FALCON_TEMPLATE = "Translate the following sentence from {source_lang} to {target_lang}: {source}\nAssistant: {target}"
LANGUAGES = {
    "ar": "Arabic",
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "zh": "Chinese",
}


class SimulProcessor(ProcessorMixin):
    """Tokenizer, template, languages and unit: makes training rows and inputs of `generate()`.

    Words are tokenised once each, in the context that they have in the sentence, and never again.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): byte-level or SentencePiece-like, with an EOS token.
        source_lang, target_lang (`str`): names, or codes such as `"en"`, for the template.
        template (`str`, *optional*): text with `{source}` and `{target}`, and if wanted `{source_lang}` and
            `{target_lang}`. A space, or nothing at all, stands before `{source}`; a space before `{target}`.
        unit (`str`, *optional*): what the policy counts: `"word"`, `"char"` (unspaced scripts) or `"token"`.

    Raises:
        ValueError: for a template that cannot be split, an unknown unit, or a tokenizer without EOS or without word
            boundaries.

    Example:

    ```python
    >>> from transformers_simul import SimulProcessor
    >>> processor = SimulProcessor(tokenizer, source_lang="en", target_lang="de", template="{source} => {target}")
    >>> inputs = processor(source="A dog runs .")
    >>> inputs["source_words"].max().item()
    4

    ```
    """

    _auto_class = "AutoProcessor"  # type: ignore[assignment]

    def __init__(
        self,
        tokenizer,
        source_lang: str = "en",
        target_lang: str = "fr",
        template: str = FALCON_TEMPLATE,
        unit: str = "word",
        chat_template: str | None = None,
    ):
        super().__init__(tokenizer, chat_template=chat_template)
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {UNITS}, got {unit!r}.")
        if tokenizer.eos_token_id is None:
            raise ValueError("tokenizer must have an eos_token: it ends the target.")
        self.source_lang, self.target_lang = source_lang, target_lang
        self.template, self.unit = template, unit
        head, tail = _split_template(template)
        languages = {
            "source_lang": LANGUAGES.get(source_lang, source_lang),
            "target_lang": LANGUAGES.get(target_lang, target_lang),
        }
        self._prompt = (self._encode(head.format(**languages)), self._encode(tail.format(**languages)))
        self._token_kinds = token_kinds(tokenizer, unit)
        self._encode_word = functools.lru_cache(maxsize=65536)(self._encode_in_context)

    @property
    def head_ids(self) -> list[int]:
        """Ids of the prompt before the source."""
        return self._prompt[0]

    @property
    def tail_ids(self) -> list[int]:
        """Ids of the prompt behind the source; at least one."""
        return self._prompt[1]

    @property
    def eos_token_id(self) -> int:
        """The id that ends the target."""
        return self.tokenizer.eos_token_id

    @property
    def token_kinds(self) -> torch.Tensor:
        """The word-boundary table, shape `(vocabulary,)`, int8; see [`token_kinds`]."""
        return self._token_kinds

    def split(self, text: str) -> list[str]:
        """The units of a text, as strings: words; characters, white space runs being one; or token texts' words."""
        return list(normalise_spaces(text)) if self.unit == "char" else split_words(text)

    def encode_piece(self, piece: str) -> list[list[int]]:
        """Ids of each unit in one piece of [`SimulProcessor.split`]: one, or with token units as many as tokens."""
        ids = self._encode(piece) if self.unit == "char" else list(self._encode_word(piece))
        return [[token] for token in ids] if self.unit == "token" else [ids]

    def encode(self, text: str, name: str = "source") -> list[list[int]]:
        """Ids of each unit of a whole text.

        Args:
            text (`str`): a sentence or more.
            name (`str`): what to call it in an error.

        Raises:
            ValueError: if there is no word in it.
        """
        if not isinstance(text, str):
            raise ValueError(f"{name} must be a string, got {type(text).__name__}.")
        units = [unit for piece in self.split(text) for unit in self.encode_piece(piece)]
        if not units:
            raise ValueError(f"{name} must hold at least one word, got {text!r}.")
        return units

    def encode_pair(self, source: str, target: str) -> dict[str, list[list[int]]]:
        """A training pair as `{"source_ids", "target_ids"}`, ids of each unit; for `dataset.map`.

        Raises:
            ValueError: for an empty side, or if the ids of the words are not those of the whole text.
        """
        pair = {"source_ids": self.encode(source, "source"), "target_ids": self.encode(target, "target")}
        if self.unit != "char":
            self._check_sum(source, pair["source_ids"], "source")
            self._check_sum(target, pair["target_ids"], "target")
        return pair

    def __call__(self, source: Any) -> BatchFeature:
        """Inputs of `generate()`.

        Args:
            source (`str` or `Sequence[str]`): known sources; or sources that are still arriving, objects with a
                `bind(processor)` method such as [`SourceStream`], one or a list.

        Returns:
            `BatchFeature`: `input_ids`, `attention_mask` and `source_words` of shape `(batch, length)`, padded on the
            left, and `token_kinds`. `source_words` says which source word a token belongs to, from 1; 0 is the head,
            -1 the tail, -2 padding. For live sources also `source`, a list of readers of token ids.

        Raises:
            ValueError: for an empty source.
        """
        sources = [source] if isinstance(source, str) or hasattr(source, "bind") else list(source or ())
        if not sources:
            raise ValueError(f"source must be a text, a source stream or a list of either, got {source!r}.")
        readers = [text.bind(self) for text in sources if hasattr(text, "bind")]
        if readers and len(readers) < len(sources):
            raise ValueError("source must not mix known texts and live streams in one batch.")
        words = [[] if readers else self.encode(text) for text in sources]
        rows = [self._prompt_row(each) for each in words]
        length = max(len(ids) for ids, _ in rows)
        pad = self.eos_token_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        data: dict[str, Any] = {
            "input_ids": torch.tensor([[pad] * (length - len(ids)) + ids for ids, _ in rows]),
            "source_words": torch.tensor([[PADDING] * (length - len(ids)) + units for ids, units in rows]),
            "token_kinds": self.token_kinds,
        }
        data["attention_mask"] = (data["source_words"] != PADDING).long()
        return BatchFeature(data | ({"source": readers} if readers else {}))

    def words(self, words: Iterable[Sequence[int]]) -> list[str]:
        """The text of each written unit.

        Args:
            words (`Iterable[Sequence[int]]`): ids of each, as `generate()` returns them in `words`.
        """
        decoded = (self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False) for ids in words)
        return [text if self.unit == "char" else text.removeprefix(" ") for text in decoded]

    def text(self, words: Iterable[Sequence[int]]) -> str:
        """The text of all written units at once, as ids; also where units split characters."""
        ids = [token for word in words for token in word]
        text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return text if self.unit == "char" else text.removeprefix(" ")

    def join(self, words: Iterable[str]) -> str:
        """One text of written units."""
        return (" " if self.unit == "word" else "").join(words)

    def _prompt_row(self, source: list[list[int]]) -> tuple[list[int], list[int]]:
        ids, units = list(self.head_ids), [HEAD] * len(self.head_ids)
        for number, word in enumerate(source, start=1):
            ids += word
            units += [number] * len(word)
        return ids + self.tail_ids, units + [TAIL] * len(self.tail_ids)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def _encode_in_context(self, word: str) -> tuple[int, ...]:
        # Behind another word, as in a sentence: no tokenizer's rule for the start of a text applies.
        anchor = self._encode("a")
        ids = self._encode(f"a {word}")
        if ids[: len(anchor)] != anchor:
            raise ValueError(f"tokenizer must split words at spaces, but joins 'a' and {word!r}: {ids}.")
        return tuple(ids[len(anchor) :])

    def _check_sum(self, text: str, words: list[list[int]], name: str) -> None:
        anchor = self._encode("a")
        whole = self._encode(f"a {normalise_spaces(text)}")[len(anchor) :]
        if whole != [token for word in words for token in word]:
            raise ValueError(
                f"tokenizer must give the words of {name} the ids that they have in the whole text, but does not for "
                f"{text!r}: use a tokenizer that splits at spaces first, or unit='char'."
            )


def _split_template(template: str) -> tuple[str, str]:
    """Head and tail of a template, without the space that belongs to the word behind each."""
    rule = f"template must read '... {{source}}... {{target}}', got {template!r}"
    head, found, rest = template.partition("{source}")
    tail, found_target, end = rest.partition("{target}")
    if not found or not found_target or end:
        raise ValueError(f"{rule}: it needs {{source}}, then {{target}} at its end.")
    if (head and not head.endswith(" ")) or not tail.endswith(" ") or not tail.strip():
        raise ValueError(f"{rule}: a space must stand before {{source}} and {{target}}, and text between them.")
    return head[:-1], tail[:-1]


__all__ = ["FALCON_TEMPLATE", "SimulProcessor"]
