# SPDX-License-Identifier: Apache-2.0
"""Parallel text: the user's own files, and free corpora that need no hub."""

import difflib

from .files import Pair, read_pairs
from .home_assistant import load_home_assistant
from .libreoffice import load_libreoffice
from .wesnoth import load_wesnoth

# Corpora by the name that flags give them; each takes two language codes.
CORPORA = {"home_assistant": load_home_assistant, "libreoffice": load_libreoffice, "wesnoth": load_wesnoth}


def check_corpus_name(name: str) -> None:
    """Refuse a misspelt name before anything is asked for over the network.

    Args:
        name (`str`): of [`CORPORA`], or of a data set on the Hub, which has an owner.

    Raises:
        ValueError: for another; with what is known.

    Example:

    ```python
    >>> from transformers_simul.corpora import check_corpus_name
    >>> check_corpus_name("home_asistant")
    Traceback (most recent call last):
    ValueError: corpus must be home_assistant, libreoffice or wesnoth, or OWNER/NAME of a data set on the Hub, got \
'home_asistant': did you mean home_assistant?

    ```
    """
    if name in CORPORA or "/" in name.strip("/"):
        return
    *others, last = CORPORA
    near = difflib.get_close_matches(name, CORPORA, n=1)
    raise ValueError(
        f"corpus must be {', '.join(others)} or {last}, or OWNER/NAME of a data set on the Hub, got {name!r}"
        + (f": did you mean {near[0]}?" if near else ".")
    )


__all__ = [
    "CORPORA",
    "Pair",
    "check_corpus_name",
    "load_home_assistant",
    "load_libreoffice",
    "load_wesnoth",
    "read_pairs",
]
