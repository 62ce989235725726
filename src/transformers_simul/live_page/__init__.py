# SPDX-License-Identifier: Apache-2.0
"""The page that translates while you watch (`transformers-simul demo`). Needs `transformers_simul[page]`."""

from .page import build_page, check_gradio

__all__ = ["build_page", "check_gradio"]
