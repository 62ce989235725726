# SPDX-License-Identifier: Apache-2.0
"""Split text into the units that a policy counts, and tell which tokens start one."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from .schedule import BLANK_START, CONTINUES, EOS, NEVER, STARTS

UNITS = ("word", "char", "token")
# Words that a sentence goes on after. Libraries that know more look at the words that follow, which a live source has
# not, and none may be imported here. Words that end sentences as often in another language are left out ("es.", "on.").
_ABBREVIATIONS = frozenset(
    """
    mr mrs ms mx dr drs prof profs rev hon gov sen rep gen capt lt sgt maj cmdr messrs esq jr sr st mt ft
    inc ltd corp co bros dept univ assn approx no nos vol vols pp fig figs eq eds cf viz al vs etc
    jan feb apr aug sept oct nov dec
    hr fr nr nrn bzw usw usf ca evtl ggf inkl exkl zzgl bspw sog vgl hrsg str tel abt aufl bd dgl dipl ing geb gest
    mio mrd resp ziff okt dez tgl
    mme mmes mlle mlles mgr ste cie env av chap éd tél janv févr avr juill déc ex hab
    sig sigg dott prof proff avv geom rag arch ecc pag pagg spett egr seg segg
    dhr mevr mej mw ir bijv blz enz incl excl nl
    sra srta dra ud uds núm pág págs avda cía aprox ej gral lic exmo exma profa
    dl dna np itd itp tzn tzw ul godz wg tzv např atd apod osv dvs kl
    др руб тыс млн млрд стр напр ул им
    """.split()
)
_NO_BREAK_SPACES = "\u00a0\u2007\u202f"
# Quotes close with what opens them elsewhere: „...“, »...«, ‚...‘.
_CLOSING = "\"'”’“‘»«›‹)]}」』）】》〉" + _NO_BREAK_SPACES
_OPENING = "\"'“‘„‚»«›‹([{¿¡「『（【《〈–—" + _NO_BREAK_SPACES
_STOPS, _WIDE_STOPS = ("!", "?", "…", "...", "؟", "۔", "।"), ("。", "！", "？", "｡")
# White space breaks words, except the no-break spaces: "Bonjour !" with U+00A0 or U+202F is one word.
_BREAK = rf"[^\S{_NO_BREAK_SPACES}]"
_WORD = re.compile(rf"(?:(?!{_BREAK}).)+", re.DOTALL)
_BREAKS = re.compile(rf"{_BREAK}+")
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def split_words(text: str) -> list[str]:
    """Split a text at white space, but not at no-break spaces.

    Example:

    ```python
    >>> from transformers_simul.models.text import split_words
    >>> split_words(" Bonjour\\u00a0!  Ça va ? ")
    ['Bonjour\\xa0!', 'Ça', 'va', '?']

    ```
    """
    return _WORD.findall(text)


def split_at_breaks(text: str) -> list[str]:
    """Cut a text at each run of breaking white space; where one is at an end, an empty string stands there."""
    return _BREAKS.split(text)


def normalise_spaces(text: str) -> str:
    """Replace each run of breaking white space by one space, and remove it at the ends."""
    return _BREAKS.sub(" ", text).strip(" ")


def ends_sentence(word: str) -> bool:
    """Tell from a word alone whether a sentence ends with it.

    A sentence ends with `.`, `!`, `?`, `…` and their counterparts in other scripts, also before closing quotes and
    brackets. It does not end with an initial, an ordinal, a common title or abbreviation, an abbreviation with inner
    periods, or a wide full stop inside quotes that are still open.

    Example:

    ```python
    >>> from transformers_simul.models.text import ends_sentence
    >>> words = 'Dr. Who (U.S.) left . "Why ?" No. 3. Ach „so.“ 「はい。」 etc...'.split()
    >>> [word for word in words if ends_sentence(word)]
    ['.', '?"', '„so.“', '「はい。」', 'etc...']

    ```
    """
    body = word.rstrip(_CLOSING)
    if body.endswith(_WIDE_STOPS):
        return sum(map(word.count, "「『（【《〈“")) <= sum(map(word.count, "」』）】》〉”"))
    if body.endswith(_STOPS):
        return True
    stem = body.removesuffix(".").lstrip(_OPENING)
    short = len(stem) == 1 or (stem.isdigit() and len(stem) < 3) or "." in stem or stem.lower() in _ABBREVIATIONS
    return body.endswith(".") and not short


def token_kinds(tokenizer: Any, unit: str, eos_token_id: int) -> torch.Tensor:
    """Make the table that loss and decoder share: what each token is to the unit that it is part of.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): byte-level or SentencePiece-like, with an EOS token.
        unit (`str`): `"word"`, `"char"` or `"token"`.
        eos_token_id (`int`): the id that ends the target.

    Returns:
        `torch.Tensor` of shape `(len(tokenizer),)`, int8: `CONTINUES`, `STARTS`, `EOS`, `BLANK_START` (a lone space,
        which the visible part of a word must follow) or `NEVER` (special tokens, and tokens that no training text
        contains: other white space, and more than one unit).

    Raises:
        ValueError: if the vocabulary marks neither bytes nor word starts in a known way.
    """
    texts = token_bytes(tokenizer)
    kind_of = {"word": _kind_in_word, "char": _kind_in_chars, "token": _kind_alone}[unit]
    kinds = torch.tensor([NEVER if text is None else kind_of(text) for text in texts], dtype=torch.int8)
    kinds[eos_token_id] = EOS
    return kinds


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """Return ids and names of the tokens that are not text: special tokens, and those with a role, such as EOS."""
    # Chat models mark turns with tokens that are special without having a role of their own; single bytes are text.
    added = tokenizer.added_tokens_decoder.items()
    special = {index: token.content for index, token in added if token.special}
    roles = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    return {index: name for index, name in special.items() if not BYTE_PIECE.fullmatch(name)} | roles


def _kind_alone(text: bytes) -> int:
    return STARTS if text else NEVER


def _kind_in_word(text: bytes) -> int:
    body = text.removeprefix(b" ")
    # Undecodable pieces of a character hold no white space, which is one whole character in UTF-8.
    if not text or _BREAKS.search(body.decode("utf-8", "replace")):
        return NEVER
    if text == b" ":
        return BLANK_START
    return STARTS if text.startswith(b" ") else CONTINUES


def _kind_in_chars(text: bytes) -> int:
    leads = [byte for byte in text if not 0x80 <= byte < 0xC0]
    if not text or len(leads) > 1 or (leads and text[0] != leads[0]) or text in (b"\n", b"\t", b"\r"):
        return NEVER
    return STARTS if leads else CONTINUES


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """Return the bytes of each token, by its id, and None for control tokens and unused ids.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): byte-level or SentencePiece-like.

    Raises:
        ValueError: if the vocabulary marks neither bytes nor word starts in a known way.

    Example:

    ```python
    >>> from transformers_simul.models.text import token_bytes
    >>> [token_bytes(tokenizer)[token] for token in tokenizer.encode(" a dog")]
    [b' ', b'a', b' ', b'do', b'g']

    ```
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    controls, to_bytes = control_tokens(tokenizer), _byte_reader(tokens)
    return [None if token is None or index in controls else to_bytes(token) for index, token in enumerate(tokens)]


def _byte_reader(tokens: list[str | None]) -> Callable[[str], bytes]:
    starts = Counter(token[0] for token in tokens if token)
    # A large vocabulary has the other mark too, as the letter that it is.
    if starts["Ġ"] > starts["▁"]:
        alphabet = _byte_level_alphabet()
        return lambda token: b"".join(alphabet.get(char, char.encode()) for char in token)
    if starts["▁"]:

        def read(token: str) -> bytes:
            piece = BYTE_PIECE.fullmatch(token)
            return bytes([int(piece[1], 16)]) if piece else token.replace("▁", " ").encode()

        return read
    raise ValueError(
        "tokenizer must mark word starts with 'Ġ' (byte-level BPE) or '▁' (SentencePiece); its vocabulary has neither."
    )


def _byte_level_alphabet() -> dict[str, bytes]:
    """Byte-level BPE writes printable Latin-1 bytes as themselves and numbers the other bytes from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): bytes([byte]) for byte in printable}
    return alphabet | {chr(0x100 + index): bytes([byte]) for index, byte in enumerate(others)}


__all__ = [
    "BYTE_PIECE",
    "UNITS",
    "control_tokens",
    "ends_sentence",
    "normalise_spaces",
    "split_at_breaks",
    "split_words",
    "token_bytes",
    "token_kinds",
]
