# SPDX-License-Identifier: Apache-2.0
"""SimulProcessor turns text into prompts and words of token ids, and ids into text; all else works on ids."""

import copy
import os
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .encoding import TextEncoder
from .row import Prompt
from .schedule import NEVER
from .source import Encoder
from .streams import SourceStream
from .template import CHAT_INSTRUCTION, FALCON_TEMPLATE, language_names, read_chat_template, split_template
from .text import UNITS, token_kinds
from .text_units import TextUnits
from .word_rule import WordRule


class SimulProcessor(TextUnits, ProcessorMixin):
    """Tokenizer, template, languages and unit: makes training rows and the inputs of `generate()`.

    Each word is tokenised once, as it stands in the sentence, and never again. Source and target are plain text: what
    reads like a control token, such as `<|im_end|>`, becomes the tokens of its letters. Only the template writes
    control tokens.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): byte-level or SentencePiece-like, with an EOS token.
        source_lang, target_lang (`str`): names, or codes such as `"en"`, for the template.
        template (`str`, *optional*): text with `{source}` and `{target}`, and if wanted `{source_lang}` and
            `{target_lang}`; other braces are doubled. A space, or nothing at all, stands before `{source}`. If
            `{target}` follows anything but a space, its first word has no space before it. What begins every row, such
            as `<bos>`, is part of the template.
        unit (`str`, *optional*): what the policy counts: `"word"`, `"char"` (for scripts without spaces) or `"token"`.
        eos_token (`str`, *optional*): ends the target; defaults to the tokenizer's.
        source_langs, target_langs (`Sequence[str]`, *optional*): of a model for several languages, all that it knows,
            `source_lang` and `target_lang` among them; see [`SimulProcessor.with_languages`].

    Raises:
        ValueError: for a template that cannot be split, an unknown unit, a tokenizer without EOS or word boundaries, or
            several languages that the template does not name.

    Example:

    ```python
    >>> from transformers_simul import SimulProcessor
    >>> processor = SimulProcessor(tokenizer, source_lang="en", target_lang="de", template="{source} => {target}")
    >>> inputs = processor(source="A dog runs .")
    >>> len(inputs["source"][0])
    4

    ```
    """

    _auto_class = "AutoProcessor"  # type: ignore[assignment]

    def __init__(
        self,
        tokenizer: Any,
        source_lang: str = "en",
        target_lang: str = "fr",
        template: str = FALCON_TEMPLATE,
        unit: str = "word",
        eos_token: str | None = None,
        chat_template: str | None = None,
        source_langs: Sequence[str] | None = None,
        target_langs: Sequence[str] | None = None,
        **parts: Any,
    ):
        super().__init__(tokenizer, chat_template=chat_template, **parts)
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {UNITS}, got {unit!r}.")
        for name, value in (("source_lang", source_lang), ("target_lang", target_lang), ("template", template)):
            if not isinstance(value, str):
                raise ValueError(f"{name} must be a string, got {value!r}.")
        self.source_langs = _languages("source_lang", source_lang, source_langs, template)
        self.target_langs = _languages("target_lang", target_lang, target_langs, template)
        self.source_lang, self.target_lang = source_lang, target_lang
        self.template, self.unit, self.eos_token = template, unit, eos_token
        eos_token_id = _eos_token_id(tokenizer, eos_token)
        head, tail, is_bare = split_template(template, language_names(source_lang, target_lang))
        self._encoder = TextEncoder(tokenizer, eos_token_id, head, tail)
        kinds = token_kinds(tokenizer, unit, eos_token_id)
        # What no text becomes is not written either, marks of the template that are not special among them.
        kinds[[index for index in self._encoder.control_ids if index != eos_token_id]] = NEVER
        rule = WordRule(kinds, bare_first_word=is_bare and unit != "char")
        self._prompt = Prompt(
            self._encoder.head_ids, self._encoder.tail_ids, rule, self._encoder if unit == "word" else None
        )
        # This processor for other languages.
        self._siblings: dict[tuple[str, str], SimulProcessor] = {(source_lang, target_lang): self}

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        trust_remote_code: bool | None = False,
        **kwargs: Any,
    ) -> "SimulProcessor":
        """Load the processor of a saved folder. Code from the folder runs only if `trust_remote_code` is True; nobody
        is asked on the terminal, since standard input may be a pipe of text.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): a folder, or a name on the Hub.
            trust_remote_code (`bool`, *optional*): whether the tokenizer may bring code of its own.
            **kwargs: further arguments of the stock method, such as `revision`.

        Raises:
            ValueError: if the folder was not saved by a processor, or if its tokenizer needs code of its own.
        """
        folder = os.path.join(pretrained_model_name_or_path, kwargs.get("subfolder", ""))
        if os.path.isdir(folder) and not os.path.isfile(os.path.join(folder, "tokenizer.json")):
            raise ValueError(f"folder {folder!r} must hold a tokenizer, but it has no tokenizer.json.")
        return super().from_pretrained(
            pretrained_model_name_or_path, trust_remote_code=bool(trust_remote_code), **kwargs
        )

    @classmethod
    def get_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Do as the stock method, but refuse a folder without `processor_config.json`, which would give the default
        template and languages.

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
        tokenizer: Any,
        source_lang: str = "en",
        target_lang: str = "fr",
        instruction: str = CHAT_INSTRUCTION,
        system: str | None = None,
        unit: str = "word",
        source_langs: Sequence[str] | None = None,
        target_langs: Sequence[str] | None = None,
        **options: Any,
    ) -> "SimulProcessor":
        """Make a processor whose rows are the tokenizer's own chat: the user's message holds the source, the
        assistant's message is the target, and the first token that the chat writes after it ends it.

        Args:
            tokenizer (`PreTrainedTokenizerFast`): with a chat template.
            source_lang, target_lang, unit, source_langs, target_langs: as for the class.
            instruction (`str`, *optional*): the user's message, with `{source}` after a space.
            system (`str`, *optional*): the system's message.
            **options: further arguments of `apply_chat_template`, such as `enable_thinking=False`.

        Raises:
            ValueError: if the tokenizer has no chat template, or one that changes messages; or for unknown fields in
                the instruction.

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
        template, eos_token = read_chat_template(tokenizer, instruction, system, **options)
        return cls(
            tokenizer, source_lang, target_lang, template, unit, eos_token,
            source_langs=source_langs, target_langs=target_langs,
        )  # fmt: skip

    def with_languages(self, source_lang: str | None = None, target_lang: str | None = None) -> "SimulProcessor":
        """This processor for other languages that the model knows; made once for each pair.

        Args:
            source_lang, target_lang (`str`, *optional*): each one of `source_langs` and `target_langs`; as it is
                without.

        Raises:
            ValueError: for a language that is none of these.

        Example:

        ```python
        >>> from transformers_simul import SimulProcessor
        >>> template = "To {target_lang}: {source} => {target}"
        >>> processor = SimulProcessor(tokenizer, target_lang="de", target_langs=["de", "fr"], template=template)
        >>> french = processor.with_languages(target_lang="fr")
        >>> tokenizer.decode(french.head_ids)
        'To French:'

        ```
        """
        pair = source_lang or self.source_lang, target_lang or self.target_lang
        for name, language, known in zip(
            ("source_lang", "target_lang"), pair, (self.source_langs, self.target_langs), strict=True
        ):
            if language not in known:
                raise ValueError(f"{name} must be one of those that the processor knows, {known}, got {language!r}.")
        if pair not in self._siblings:
            # Vocabulary and unit are the same: only what stands around the source is made anew.
            other = copy.copy(self)
            other.source_lang, other.target_lang = pair
            head, tail, _ = split_template(self.template, language_names(*pair))
            other._encoder = TextEncoder(self.tokenizer, self.eos_token_id, head, tail)
            encoder = None if self._prompt.encoder is None else other._encoder
            other._prompt = Prompt(other._encoder.head_ids, other._encoder.tail_ids, self._prompt.rule, encoder)
            self._siblings[pair] = other
        return self._siblings[pair]

    @property
    def prompt(self) -> Prompt:
        """What stands around every source, with the rule that keeps words whole."""
        return self._prompt

    @property
    def head_ids(self) -> list[int]:
        """Ids of the prompt before the source."""
        return self._prompt.head

    @property
    def tail_ids(self) -> list[int]:
        """Ids of the prompt after the source; at least one."""
        return self._prompt.tail

    @property
    def source_unit(self) -> str:
        """What the policy counts; a source stream has the same."""
        return self.unit

    def source_encoder(self) -> Encoder:
        """What gives the ids of a source stream's units, one after the other; audio needs one of its own."""
        return self

    def stream(self, **options: Any) -> SourceStream:
        """A new source stream of these units.

        Args:
            **options: of [`SourceStream`], such as `timeout_s`.
        """
        return SourceStream(unit=self.unit, **options)

    def __call__(
        self,
        source: Any = None,
        *,
        text: Any = None,
        source_lang: str | Sequence[str] | None = None,
        target_lang: str | Sequence[str] | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Make the inputs of `generate()`.

        Args:
            source (`str` or `Sequence[str]`): known sources, or sources that are still arriving: objects with a
                `bind(processor)` method such as [`SourceStream`]; one, or a list.
            text (*optional*): another name for `source`, which other processors use.
            source_lang, target_lang (`str` or `Sequence[str]`, *optional*): the languages, of all rows or of each; see
                [`SimulProcessor.with_languages`].
            return_tensors (`str`, *optional*): `"pt"`; a model needs nothing else.

        Returns:
            `BatchFeature`: `input_ids` and `attention_mask` of shape `(batch, length)`, padded on the left; `source`,
            for each row the ids of each source word, or the reader of a live source; and `prompt`, a [`Prompt`] for all
            rows, or a list of one for each.

        Raises:
            ValueError: for an empty source, for `source` beside `text`, for languages that the processor does not know
                or that are not one a row, or for other tensors.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors must be 'pt', got {return_tensors!r}.")
        if text is not None and source is not None:
            raise ValueError("source and text are two names of one argument: give one of them.")
        source = text if source is None else source
        sources = [source] if isinstance(source, str) or hasattr(source, "bind") else list(source or ())
        if not sources:
            raise ValueError(f"source must be a text, a source stream or a list of either, got {source!r}.")
        readers = [text.bind(self) for text in sources if hasattr(text, "bind")]
        if readers and len(readers) < len(sources):
            raise ValueError("source must hold either known texts or live streams, not both in one batch.")
        words = [[] if readers else self.encode(text) for text in sources]
        prompts = self._prompts_of(source_lang, target_lang, len(sources))
        rows = [
            [*prompt.head, *chain.from_iterable(each), *prompt.tail]
            for prompt, each in zip(prompts, words, strict=True)
        ]
        length = max(map(len, rows))
        pad = self.eos_token_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        data = {
            "input_ids": torch.tensor([[pad] * (length - len(ids)) + ids for ids in rows]),
            "attention_mask": torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in rows]),
            "source": readers or words,
            "prompt": prompts[0] if all(each is prompts[0] for each in prompts) else prompts,
        }
        return BatchFeature(data)

    def _prompts_of(
        self, source_lang: str | Sequence[str] | None, target_lang: str | Sequence[str] | None, count: int
    ) -> list[Prompt]:
        columns: list[Sequence[str | None]] = []
        for name, value in (("source_lang", source_lang), ("target_lang", target_lang)):
            column: Sequence[str | None] = [value] * count if value is None or isinstance(value, str) else value
            if len(column) != count:
                raise ValueError(f"{name} must be one for all or one for each of the {count} sources, got {value!r}.")
            columns.append(column)
        return [self.with_languages(*pair).prompt for pair in zip(*columns, strict=True)]


def _languages(name: str, language: str, known: Sequence[str] | None, template: str) -> list[str]:
    """The languages that a processor knows on one side."""
    languages = [language] if known is None else list(known)
    if isinstance(known, str) or language not in languages or not all(isinstance(each, str) for each in languages):
        raise ValueError(f"{name}s must be a list of languages with {name}={language!r} among them, got {known!r}.")
    if len(languages) > 1 and f"{{{name}}}" not in template:
        raise ValueError(f"template must name {{{name}}} for the languages {languages}, got {template!r}.")
    return languages


def _eos_token_id(tokenizer: Any, eos_token: str | None) -> int:
    if eos_token is None:
        if tokenizer.eos_token_id is None:
            raise ValueError("tokenizer must have an eos_token, or eos_token must be given: it ends the target.")
        return int(tokenizer.eos_token_id)
    found = tokenizer.get_vocab().get(eos_token)
    if found is None:
        raise ValueError(f"eos_token must be one token of the tokenizer, got {eos_token!r}.")
    return int(found)


__all__ = ["CHAT_INSTRUCTION", "FALCON_TEMPLATE", "SimulProcessor"]
