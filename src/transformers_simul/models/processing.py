# SPDX-License-Identifier: Apache-2.0
"""SimulProcessor: text to prompt spans and words of token ids, and back. The only object that knows the text."""

import functools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .schedule import HEAD, PADDING, TAIL
from .text import UNITS, normalise_spaces, split_words, token_kinds

FALCON_TEMPLATE = "Translate the following sentence from {source_lang} to {target_lang}: {source}\nAssistant: {target}"
CHAT_INSTRUCTION = "Translate the following sentence from {source_lang} to {target_lang}: {source}"
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
            `{target_lang}`; other braces are doubled. A space, or nothing at all, stands before `{source}`. Behind
            other text than a space, `{target}` begins with a bare word. What begins every row, such as `<bos>`, is
            part of the text.
        unit (`str`, *optional*): what the policy counts: `"word"`, `"char"` (unspaced scripts) or `"token"`.
        eos_token (`str`, *optional*): ends the target; the tokenizer's unless told.

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
        eos_token: str | None = None,
        chat_template: str | None = None,
    ):
        super().__init__(tokenizer, chat_template=chat_template)
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {UNITS}, got {unit!r}.")
        self.source_lang, self.target_lang = source_lang, target_lang
        self.template, self.unit, self.eos_token = template, unit, eos_token
        self._eos_token_id = _eos_token_id(tokenizer, eos_token)
        head, tail, self._bare_first_word = _split_template(template)
        languages = _language_names(source_lang, target_lang)
        self._tail = tail.format(**languages)
        self._prompt = (self._encode(head.format(**languages)), self._encode_behind_word(self._tail))
        self._token_kinds = token_kinds(tokenizer, unit, self._eos_token_id)
        self._encode_word = functools.lru_cache(maxsize=65536)(self._encode_in_context)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike, trust_remote_code: bool | None = False, **kwargs: Any
    ) -> "SimulProcessor":
        """The processor of a saved folder. Code that the folder may bring is not run unless `trust_remote_code` is True:
        nobody is asked on the terminal, since standard input may be a pipe of text.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): a folder, or a name on the Hub.
            trust_remote_code (`bool`, *optional*): whether a tokenizer's own code may run.
            **kwargs: further arguments of the stock method, such as `revision`.

        Raises:
            ValueError: if the folder was not saved by a processor, or if its tokenizer needs code of its own.
        """
        folder = os.path.join(pretrained_model_name_or_path, kwargs.get("subfolder", ""))
        if os.path.isdir(folder) and not os.path.isfile(os.path.join(folder, "tokenizer.json")):
            raise ValueError(f"folder {folder!r} must hold a tokenizer, but has no tokenizer.json.")
        return super().from_pretrained(
            pretrained_model_name_or_path, trust_remote_code=bool(trust_remote_code), **kwargs
        )

    @classmethod
    def get_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As the stock method, which takes a missing file for an empty one: the default template and languages.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): a folder, or a name on the Hub.
            **kwargs: of the stock method.

        Raises:
            ValueError: if there is no `processor_config.json`.
        """
        stored, rest = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        if "template" not in stored:
            raise ValueError(
                f"{str(pretrained_model_name_or_path)!r} must hold a processor_config.json with the template that the "
                "model was trained with, as SimulProcessor.save_pretrained writes it."
            )
        return stored, rest

    @classmethod
    def from_chat_template(
        cls,
        tokenizer,
        source_lang: str = "en",
        target_lang: str = "fr",
        instruction: str = CHAT_INSTRUCTION,
        system: str | None = None,
        unit: str = "word",
        **options: Any,
    ) -> "SimulProcessor":
        """A processor whose rows are the tokenizer's own chat: the user's message holds the source, the assistant's is
        the target, and what the chat writes behind that ends it.

        Args:
            tokenizer (`PreTrainedTokenizerFast`): with a chat template.
            source_lang, target_lang, unit: as in the class.
            instruction (`str`, *optional*): the user's message, with `{source}` behind a space.
            system (`str`, *optional*): the system's message.
            **options: further arguments of `apply_chat_template`, such as `enable_thinking=False`.

        Raises:
            ValueError: if the tokenizer has no chat template, or one that does not quote messages as they are.

        Example:

        ```python
        >>> from transformers_simul import SimulProcessor
        >>> tokenizer.chat_template = (
        ...     "{% for message in messages %}{{ message.role }}:{{ message.content }}<|endoftext|>{% endfor %}"
        ...     "{% if add_generation_prompt %}assistant:{% endif %}"
        ... )
        >>> chat = SimulProcessor.from_chat_template(tokenizer, target_lang="de", instruction="To German: {source}")
        >>> chat.template, chat.eos_token, chat.bare_first_word
        ('user:To German: {source}<|endoftext|>assistant:{target}', '<|endoftext|>', True)

        ```
        """
        if not tokenizer.chat_template:
            raise ValueError("tokenizer must have a chat_template; pass template= to SimulProcessor instead.")
        languages = _language_names(source_lang, target_lang)
        # Letters that no template touches stand for the texts.
        source, target = "SOURCETEXT", "TARGETTEXT"
        opening = [] if system is None else [{"role": "system", "content": system}]
        chat = [*opening, {"role": "user", "content": instruction.format(source=source, **languages)}]
        prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)
        answer = {"role": "assistant", "content": target}
        whole = tokenizer.apply_chat_template([*chat, answer], tokenize=False, **options)
        head, found, tail = prompt.partition(source)
        _, found_target, closing = whole.partition(target)
        if not found or not found_target:
            raise ValueError(f"chat_template must quote messages as they are, got {whole!r}.")
        ends = tokenizer.encode(closing, add_special_tokens=False) if closing else []
        template = f"{_escape(head)}{{source}}{_escape(tail)}{{target}}"
        eos_token = tokenizer.convert_ids_to_tokens(ends[0]) if ends else None
        return cls(tokenizer, source_lang, target_lang, template, unit, eos_token)

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
        return self._eos_token_id

    @property
    def bare_first_word(self) -> bool:
        """Whether the target begins without a space: with a token that elsewhere would continue a word."""
        return self._bare_first_word and self.unit != "char"

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
        return self._units_of(ids)

    def encode(self, text: str, side: str = "source") -> list[list[int]]:
        """Ids of each unit of a whole text.

        Args:
            text (`str`): a sentence or more.
            side (`str`): `"source"` or `"target"`, whose first word may stand without a space.

        Raises:
            ValueError: if there is no word in it.
        """
        if not isinstance(text, str):
            raise ValueError(f"{side} must be a string, got {type(text).__name__}.")
        units = []
        for number, piece in enumerate(self.split(text)):
            is_bare = side == "target" and self.bare_first_word and not number
            units += self._units_of(self._encode_bare(piece)) if is_bare else self.encode_piece(piece)
        if not units:
            raise ValueError(f"{side} must hold at least one word, got {text!r}.")
        return units

    def encode_pair(self, source: str, target: str) -> dict[str, list[list[int]]]:
        """A training pair as `{"source_ids", "target_ids"}`, ids of each unit; for `dataset.map`.

        Raises:
            ValueError: for an empty side, or if the ids of the words are not those of the whole text.
        """
        pair = {"source_ids": self.encode(source, "source"), "target_ids": self.encode(target, "target")}
        if self.unit != "char":
            self._check_sum(pair["source_ids"], self._encode_behind_word(f" {normalise_spaces(source)}"), source)
            text = normalise_spaces(target)
            whole = self._encode_bare(text) if self.bare_first_word else self._encode_behind_word(f" {text}")
            self._check_sum(pair["target_ids"], whole, target)
        return pair

    def __call__(self, source: Any) -> BatchFeature:
        """Inputs of `generate()`.

        Args:
            source (`str` or `Sequence[str]`): known sources; or sources that are still arriving, objects with a
                `bind(processor)` method such as [`SourceStream`], one or a list.

        Returns:
            `BatchFeature`: `input_ids`, `attention_mask` and `source_words` of shape `(batch, length)`, padded on the
            left, `token_kinds` and `bare_first_word`. `source_words` says which source word a token belongs to, from 1;
            0 is the head, -1 the tail, -2 padding. For live sources also `source`, a list of readers of token ids.

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
            "bare_first_word": self.bare_first_word,
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

    def _units_of(self, ids: list[int]) -> list[list[int]]:
        return [[token] for token in ids] if self.unit == "token" else [ids]

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
        return tuple(self._encode_behind_word(f" {word}"))

    def _encode_behind_word(self, text: str) -> list[int]:
        return self._encode_behind("a", text)

    def _encode_bare(self, text: str) -> list[int]:
        """The target's beginning, right behind the prompt."""
        return self._encode_behind(f"a{self._tail}", text)

    def _encode_behind(self, before: str, text: str) -> list[int]:
        anchor, ids = self._encode(before), self._encode(before + text)
        if ids[: len(anchor)] != anchor:
            raise ValueError(f"tokenizer must split text behind {before!r}, but joins it with {text!r}: {ids}.")
        return ids[len(anchor) :]

    def _check_sum(self, words: list[list[int]], whole: list[int], text: str) -> None:
        if whole != [token for word in words for token in word]:
            raise ValueError(
                f"tokenizer must give words the ids that they have in the whole text, but does not for {text!r}: use a "
                "tokenizer that splits at spaces first, or unit='char'."
            )


def _eos_token_id(tokenizer, eos_token: str | None) -> int:
    if eos_token is None:
        if tokenizer.eos_token_id is None:
            raise ValueError("tokenizer must have an eos_token, or eos_token be given: it ends the target.")
        return tokenizer.eos_token_id
    found = tokenizer.get_vocab().get(eos_token)
    if found is None:
        raise ValueError(f"eos_token must be one token of the tokenizer, got {eos_token!r}.")
    return found


def _language_names(source_lang: str, target_lang: str) -> dict[str, str]:
    codes = {"source_lang": source_lang, "target_lang": target_lang}
    return {field: LANGUAGES.get(code, code) for field, code in codes.items()}


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _split_template(template: str) -> tuple[str, str, bool]:
    """Head and tail of a template, without the space that belongs to the word behind each, and whether the target has
    none."""
    rule = f"template must read '... {{source}}... {{target}}', got {template!r}"
    head, found, rest = template.partition("{source}")
    tail, found_target, end = rest.partition("{target}")
    if not found or not found_target or end:
        raise ValueError(f"{rule}: it needs {{source}}, then {{target}} at its end.")
    if (head and not head.endswith(" ")) or not tail.strip():
        raise ValueError(f"{rule}: a space must stand before {{source}}, and text between it and {{target}}.")
    return head[:-1], tail.removesuffix(" "), not tail.endswith(" ")


__all__ = ["CHAT_INSTRUCTION", "FALCON_TEMPLATE", "SimulProcessor"]
