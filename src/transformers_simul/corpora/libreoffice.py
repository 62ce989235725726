# SPDX-License-Identifier: Apache-2.0
"""LibreOffice's help (MPL-2.0 and others), from the packages of a Debian or Ubuntu system."""

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from html.parser import HTMLParser
from pathlib import Path

from ..downloads import cache_folder
from .files import Pair, join_sentences

_PARAGRAPH = re.compile(r"(par|hd)_id")
_MARKUP = re.compile(r"[{}<>\[\]*`|=;\\]|https?:|\.\.\.")


def load_libreoffice(
    source_lang: str = "en", target_lang: str = "de", cache_dir: str | os.PathLike | None = None
) -> list[Pair]:
    """Paragraphs of 4 to 50 words a side, without markup and placeholders, each source once.

    Downloads a few megabytes per language the first time, with `apt-get`, which checks signatures; the version is that
    of the system's release. Nothing is installed.

    Args:
        source_lang, target_lang (`str`): codes such as `"en"`, `"de"`, `"fr"`, `"it"`, `"nl"`.
        cache_dir (`str` or `os.PathLike`, *optional*): where packages are kept; see [`cache_folder`].

    Raises:
        ValueError: without `apt-get` and `dpkg-deb`, or if there is no such language.
    """
    if not shutil.which("dpkg-deb"):
        raise ValueError("LibreOffice's help is read from Debian packages: dpkg-deb must be there.")
    folder = cache_folder(cache_dir)
    sources, targets = (_paragraphs(_package(language, folder)) for language in (source_lang, target_lang))
    return join_sentences(sources, targets, _MARKUP)


def _package(language: str, folder: Path) -> Path:
    """The package's file; the newest that is there, or downloaded."""
    name = f"libreoffice-help-{'en-us' if language == 'en' else language.lower()}"
    found = sorted(folder.glob(f"{name}_*.deb"))
    if found:
        return found[-1]
    if not shutil.which("apt-get"):
        raise ValueError("LibreOffice's help is downloaded with apt-get, which must be there.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        done = subprocess.run(["apt-get", "download", name], cwd=temporary, capture_output=True, text=True, check=False)
        files = list(Path(temporary).glob("*.deb"))
        if done.returncode or not files:
            raise ValueError(
                f"apt-get must find {name}, for language {language!r}, but says: {done.stderr.strip() or 'nothing'}"
            )
        return Path(shutil.move(files[0], folder / files[0].name))


def _paragraphs(package: Path) -> dict[tuple[str, str], str]:
    """Text by page and paragraph."""
    broken = f"package {str(package)!r} must be one that dpkg-deb reads; remove it to download it anew"
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as reader:
        paragraphs: dict[tuple[str, str], str] = {}
        try:
            with tarfile.open(fileobj=reader.stdout, mode="r|") as archive:
                for member in archive:
                    _, inside, page = member.name.partition("/text/")
                    if inside and page.endswith(".html") and (file := archive.extractfile(member)):
                        parser = _Page()
                        parser.feed(file.read().decode("utf-8"))
                        paragraphs |= {(page, key): text for key, text in parser.paragraphs().items()}
        except tarfile.TarError as error:
            raise ValueError(f"{broken}: {error}.") from error
    if reader.returncode:
        raise ValueError(f"{broken}: it ended with {reader.returncode}.")
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
        """Text by id, white space made single spaces."""
        return {name: " ".join("".join(texts).split()) for name, texts in self._texts.items()}


__all__ = ["load_libreoffice"]
