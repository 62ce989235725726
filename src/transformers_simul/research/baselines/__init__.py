# SPDX-License-Identifier: Apache-2.0
"""The systems that the paper compares SimulMask with: their training rows, their decoding, and the list of all."""

from .converse import ConverseDataCollator, ConverseDecoder
from .prefix import PrefixDataCollator
from .published_rows import PublishedRowsDataCollator
from .recompute import RecomputingDecoder
from .systems import ABLATIONS, ROTARY_SYSTEMS, SYSTEMS, System, Training

__all__ = [
    "ABLATIONS",
    "ROTARY_SYSTEMS",
    "SYSTEMS",
    "ConverseDataCollator",
    "ConverseDecoder",
    "PrefixDataCollator",
    "PublishedRowsDataCollator",
    "RecomputingDecoder",
    "System",
    "Training",
]
