# SPDX-License-Identifier: Apache-2.0
"""The trials of `benchmarks/chaos.py`: a module each, imported when it is run. Tiny models are those of the tests."""

import importlib
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "tests"))

NAMES = ("sources", "texts", "races", "sessions", "visitors", "files", "folders", "kills", "disk")


def load(name: str) -> Any:
    """The [`Trial`] of a name."""
    return importlib.import_module(f"trials.{name}").TRIAL


__all__ = ["NAMES", "load"]
