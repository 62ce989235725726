# SPDX-License-Identifier: Apache-2.0
"""Parallel text: the user's own files, and free corpora that need no hub."""

from .files import Pair, read_pairs
from .home_assistant import load_home_assistant
from .libreoffice import load_libreoffice

__all__ = ["Pair", "load_home_assistant", "load_libreoffice", "read_pairs"]
