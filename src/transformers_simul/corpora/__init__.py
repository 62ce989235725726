# SPDX-License-Identifier: Apache-2.0
"""Parallel text: the user's own files, and free corpora that need no hub."""

from .files import Pair, read_pairs
from .home_assistant import load_home_assistant
from .libreoffice import load_libreoffice
from .wesnoth import load_wesnoth

# By the name that flags give them; each takes two language codes.
CORPORA = {"home_assistant": load_home_assistant, "libreoffice": load_libreoffice, "wesnoth": load_wesnoth}

__all__ = ["CORPORA", "Pair", "load_home_assistant", "load_libreoffice", "load_wesnoth", "read_pairs"]
