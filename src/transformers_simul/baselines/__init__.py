# SPDX-License-Identifier: Apache-2.0
"""The systems that the paper compares SimulMask with: their training rows, their decoding, and the list of all."""

from .converse import ConverseDataCollator, ConverseDecoder
from .prefix import PrefixDataCollator
from .published_rows import PublishedRowsDataCollator
from .recompute import RecomputingDecoder
from .systems import ABLATIONS, SYSTEMS, System, Training

__all__ = [
    "ABLATIONS",
    "SYSTEMS",
    "ConverseDataCollator",
    "ConverseDecoder",
    "PrefixDataCollator",
    "PublishedRowsDataCollator",
    "RecomputingDecoder",
    "System",
    "Training",
]
