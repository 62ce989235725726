# SPDX-License-Identifier: Apache-2.0
"""LibreOffice's help (MPL-2.0 and others), from the packages of a Debian or Ubuntu system."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

from ..downloads import cache_folder
from .debian import fetch_package, package_files
from .files import Pair, join_sentences

_PARAGRAPH = re.compile(r"(par|hd)_id")
_MARKUP = re.compile(r"[{}<>\[\]*`|=;\\]|https?:|\.\.\.")


def load_libreoffice(
    source_lang: str = "en", target_lang: str = "de", cache_dir: str | os.PathLike | None = None
) -> list[Pair]:
    """Load paragraphs of 4 to 50 words a side, without markup and placeholders, each source once.

    Downloads a few megabytes per language the first time, with `apt-get`, which checks signatures; the version is that
    of the system's release. Nothing is installed.

    Args:
        source_lang, target_lang (`str`): codes such as `"en"`, `"de"`, `"fr"`, `"it"`, `"nl"`.
        cache_dir (`str` or `os.PathLike`, *optional*): where packages are kept; see [`cache_folder`].

    Raises:
        ValueError: without `apt-get` and `dpkg-deb`, or if there is no such language.
    """
    folder = cache_folder(cache_dir)
    sources, targets = (_paragraphs(language, folder) for language in (source_lang, target_lang))
    return join_sentences(sources, targets, _MARKUP)


def _paragraphs(language: str, folder: Path) -> dict[tuple[str, str], str]:
    """Read the text of each paragraph, by page and paragraph."""
    package = fetch_package(f"libreoffice-help-{'en-us' if language == 'en' else language.lower()}", folder)
    paragraphs: dict[tuple[str, str], str] = {}
    for name, content in package_files(package, lambda name: "/text/" in name and name.endswith(".html")):
        parser = _Page()
        parser.feed(content.decode("utf-8"))
        page = name.partition("/text/")[2]
        paragraphs |= {(page, key): text for key, text in parser.paragraphs().items()}
    return paragraphs


class _Page(HTMLParser):
    """Collects the text of a help page's headings and paragraphs by their ids."""

    def __init__(self) -> None:
        super().__init__()
        self._open: tuple[str, str] | None = None
        self._texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = dict(attrs).get("id") or ""
        if self._open is None and tag in ("p", "h1", "h2", "h3", "h4", "h5", "h6") and _PARAGRAPH.match(name):
            self._open = (tag, name)
            # A page may show a paragraph twice.
            self._texts[name] = []

    def handle_endtag(self, tag: str) -> None:
        if self._open is not None and tag == self._open[0]:
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._texts[self._open[1]].append(data)

    def paragraphs(self) -> dict[str, str]:
        """Return the text of each paragraph by its id, with single spaces."""
        return {name: " ".join("".join(texts).split()) for name, texts in self._texts.items()}


__all__ = ["load_libreoffice"]
