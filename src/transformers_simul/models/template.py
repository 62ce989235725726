# SPDX-License-Identifier: Apache-2.0
"""The prompt around a source and its target, made from a template with plain fields."""

import string
from typing import Any

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


def language_names(source_lang: str, target_lang: str) -> dict[str, str]:
    """Return the fields of a template that name the languages; codes such as `"en"` become names."""
    codes = {"source_lang": source_lang, "target_lang": target_lang}
    return {field: LANGUAGES.get(code, code) for field, code in codes.items()}


def escape_braces(text: str) -> str:
    """Double the braces of a text, so that it is a template without fields."""
    return text.replace("{", "{{").replace("}", "}}")


def fill_template(name: str, template: str, values: dict[str, str]) -> str:
    """Fill the fields of a template.

    Unlike `str.format` it takes plain names only, so that an untrusted `{source_lang:>9999999999}` does no harm.

    Args:
        name (`str`): what errors call the template.
        template (`str`): text with fields; other braces are doubled.
        values (`dict[str, str]`): every field that is allowed, and its value.

    Raises:
        ValueError: for another field, a format or a conversion, or a single brace.

    Example:

    ```python
    >>> from transformers_simul.models.template import fill_template
    >>> fill_template("template", "{{{source_lang}}}: ", {"source_lang": "English"})
    '{English}: '

    ```
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{name} must double braces that are text, got {template!r}: {error}.") from error
    for _, field, spec, conversion in parts:
        if field is not None and (field not in values or spec or conversion):
            wrong = "{" + field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
            raise ValueError(f"{name} must have only the fields {sorted(values)}, without formats, got {wrong!r}.")
    return "".join(literal + ("" if field is None else values[field]) for literal, field, _, _ in parts)


def split_template(template: str, languages: dict[str, str]) -> tuple[str, str, bool]:
    """Split a template (see [`SimulProcessor`]) at its source and target.

    Returns:
        `tuple[str, str, bool]`: head and tail, each without the space that belongs to the word after it, and whether
        the target begins without a space.

    Raises:
        ValueError: if the template cannot be split.
    """
    rule = f"template must read '... {{source}}... {{target}}', got {template!r}"
    source, target = "\0source", "\0target"
    text = fill_template("template", template, {"source": source, "target": target} | languages)
    head, _, rest = text.partition(source)
    tail, _, end = rest.partition(target)
    if text.count(source) != 1 or text.count(target) != 1 or not rest or end:
        raise ValueError(f"{rule}: it needs {{source}}, then {{target}} at its end.")
    if (head and not head.endswith(" ")) or not tail.strip():
        raise ValueError(f"{rule}: a space must stand before {{source}}, and text between it and {{target}}.")
    return head[:-1], tail.removesuffix(" "), not tail.endswith(" ")


def read_chat_template(
    tokenizer: Any, instruction: str, system: str | None = None, **options: Any
) -> tuple[str, str | None]:
    """Return the template whose rows are the tokenizer's own chat, and the token that ends the target.

    Args:
        tokenizer, instruction, system, **options: as in [`SimulProcessor.from_chat_template`].

    Raises:
        ValueError: if the tokenizer has no chat template, or one that changes messages; or for unknown fields in the
            instruction.
    """
    if not tokenizer.chat_template:
        raise ValueError("tokenizer must have a chat_template; pass template= to SimulProcessor instead.")
    # Letters that no template touches stand for the texts.
    source, target = "SOURCETEXT", "TARGETTEXT"
    fields = {"source_lang": "SOURCELANGUAGE", "target_lang": "TARGETLANGUAGE"}
    opening = [] if system is None else [{"role": "system", "content": system}]
    asked = fill_template("instruction", instruction, {"source": source} | fields)
    chat = [*opening, {"role": "user", "content": asked}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)
    answer = {"role": "assistant", "content": target}
    whole = tokenizer.apply_chat_template([*chat, answer], tokenize=False, **options)
    head, found, tail = prompt.partition(source)
    _, found_target, closing = whole.partition(target)
    if not found or not found_target:
        raise ValueError(f"chat_template must quote messages as they are, got {whole!r}.")
    ends = tokenizer.encode(closing, add_special_tokens=False) if closing else []
    template = f"{escape_braces(head)}{{source}}{escape_braces(tail)}{{target}}"
    for field, letters in fields.items():
        template = template.replace(letters, f"{{{field}}}")
    return template, tokenizer.convert_ids_to_tokens(ends[0]) if ends else None


__all__ = [
    "CHAT_INSTRUCTION",
    "FALCON_TEMPLATE",
    "LANGUAGES",
    "escape_braces",
    "fill_template",
    "language_names",
    "read_chat_template",
    "split_template",
]
