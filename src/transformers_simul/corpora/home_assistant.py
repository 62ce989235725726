# SPDX-License-Identifier: Apache-2.0
"""Home Assistant's user interface sentences (Apache-2.0), from one pinned wheel of the package index."""

import json
import re
import zipfile
from collections.abc import Iterator

from ..downloads import Wheel, cache_folder, fetch_wheel
from .files import Pair, join_sentences

WHEEL = Wheel("homeassistant", "2024.3.3", "6e1ec2c07441d63fdcfb8acd2c4bbb6f68bc97330855784d3623d10c38fe3577")
_MARKUP = re.compile(r"[{}<>\[\]*`|\n]|https?:")


def load_home_assistant(source_lang: str = "en", target_lang: str = "de", cache_dir: str | None = None) -> list[Pair]:
    """Load sentence pairs of 4 to 50 words a side, without markup and placeholders, each source once.

    Downloads 35 MB the first time (the wheel is read, never installed), checks its hash and keeps it.

    Args:
        source_lang, target_lang (`str`): codes such as `"en"`, `"de"`, `"fr"`, `"it"`, `"nl"`.
        cache_dir (`str`, *optional*): where the wheel is kept; `~/.cache/transformers_simul` unless told.

    Raises:
        ValueError: if there is no such language, or if the wheel cannot be downloaded or is not the pinned file.
    """
    with zipfile.ZipFile(fetch_wheel(WHEEL, cache_folder(cache_dir))) as wheel:
        sources, targets = _sentences(wheel, source_lang), _sentences(wheel, target_lang)
    return join_sentences(sources, targets, _MARKUP)


def _sentences(wheel: zipfile.ZipFile, language: str) -> dict[str, str]:
    files = [name for name in sorted(wheel.namelist()) if name.endswith(f"/translations/{language}.json")]
    if not files:
        raise ValueError(f"language must be one that Home Assistant is translated to, such as 'de', got {language!r}.")
    return {
        f"{name.rsplit('/', 1)[0]}/{key}": text
        for name in files
        for key, text in _flatten(json.loads(wheel.read(name)))
    }


def _flatten(node: dict, path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{path}{key}/")
        else:
            yield path + key, value


__all__ = ["load_home_assistant"]
