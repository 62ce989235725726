# SPDX-License-Identifier: Apache-2.0
"""Dialogue and texts of The Battle for Wesnoth (GPL-2+), from the packages of a Debian or Ubuntu system."""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..downloads import cache_folder
from .debian import fetch_package, package_files
from .files import Pair, join_sentences

# The game's own texts, and a package per campaign.
PARTS = "data did dm dw ei httt l low nr sof sota sotbe thot trow tsg ttb utbs".split()
_MARKUP = re.compile(r"[{}<>\[\]*`|=\\$%~]|https?:")


def load_wesnoth(
    source_lang: str = "en", target_lang: str = "de", cache_dir: str | os.PathLike | None = None
) -> list[Pair]:
    """Load sentences of 4 to 50 words a side, without markup and placeholders, each source once. A text that has as
    many sentences in both languages gives a pair for each.

    Downloads 280 MB the first time, of which little is text, with `apt-get`; nothing is installed.

    Args:
        source_lang, target_lang (`str`): codes such as `"en"`, `"de"`, `"fr"`, `"it"`.
        cache_dir (`str` or `os.PathLike`, *optional*): where packages are kept; see [`cache_folder`].

    Raises:
        ValueError: without `apt-get`, `dpkg-deb` or `polib`, or if there is no such language.
    """
    try:
        import polib
    except ImportError as error:
        raise ValueError("wesnoth needs polib: pip install 'transformers_simul[wesnoth]'.") from error
    folder = cache_folder(cache_dir)
    texts: dict[str, dict[tuple[str, str], str]] = {source_lang: {}, target_lang: {}}
    wanted = re.compile(rf"/locale/({'|'.join(map(re.escape, texts))})/LC_MESSAGES/(.+)\.mo$")
    originals: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "texts.mo"
        for part in tqdm(PARTS, "Wesnoth", unit="package"):
            package = fetch_package(f"wesnoth-1.16-{part}", folder)
            for name, content in package_files(package, lambda name: wanted.search(name) is not None):
                language, domain = wanted.search(name).groups()  # type: ignore[union-attr]
                file.write_bytes(content)
                for entry in polib.mofile(str(file)):
                    key = (domain, entry.msgid)
                    originals[key], texts[language][key] = _text(entry.msgid), _text(entry.msgstr)
            # The first package has every language: no need to fetch the others in vain.
            for language, found in texts.items():
                if language != "en" and not found:
                    raise ValueError(f"language must be one of Wesnoth's translations, such as 'de', got {language!r}.")
    if "en" in texts:
        texts["en"] |= originals
    return join_sentences(*_by_sentence(texts[source_lang], texts[target_lang]), _MARKUP)


def _by_sentence(sources: Mapping[Any, str], targets: Mapping[Any, str]) -> tuple[dict, dict]:
    """The same texts, cut at sentence ends where that leaves pairs."""
    cut: tuple[dict, dict] = ({}, {})
    for key in (key for key in sources if key in targets):
        both = [_sentences(texts[key]) for texts in (sources, targets)]
        if len(both[0]) != len(both[1]):
            both = [[sources[key]], [targets[key]]]
        for side, sentences in zip(cut, both, strict=True):
            side |= {(key, number): sentence for number, sentence in enumerate(sentences)}
    return cut


def _sentences(text: str) -> list[str]:
    # Here, not above: it needs torch, and the names of the corpora must be known at once.
    from ..models.text import ends_sentence

    sentences: list[list[str]] = [[]]
    for word in text.split():
        sentences[-1].append(word)
        if ends_sentence(word):
            sentences.append([])
    return [" ".join(words) for words in sentences if words]


def _text(message: str) -> str:
    """Return a text without the note to translators before its last "^", and with single spaces."""
    return " ".join(message.rpartition("^")[2].split())


__all__ = ["load_wesnoth"]
