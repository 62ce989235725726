# SPDX-License-Identifier: Apache-2.0
"""The page that translates while you watch (`transformers-simul demo`). Needs `transformers_simul[page]`."""

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .page import build_page

_EXTRA = ("gradio", "prometheus_client")


def check_extra() -> None:
    """Check early that what the page needs is installed.

    Raises:
        ImportError: if it is not.
    """
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"the page needs {', '.join(missing)}: pip install 'transformers_simul[page]'.")


def __getattr__(name: str) -> Any:
    if name != "build_page":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_extra()
    from .page import build_page

    return build_page


__all__ = ["build_page", "check_extra"]
