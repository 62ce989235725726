# SPDX-License-Identifier: Apache-2.0
"""Scores of simultaneous translation: instances, latency, quality, and their table."""

from .instances import Instance, read_instances, write_instances
from .latency import average_lagging, length_adaptive_average_lagging
from .quality import Quality, paired_difference, quality

__all__ = [
    "Instance",
    "Quality",
    "average_lagging",
    "length_adaptive_average_lagging",
    "paired_difference",
    "quality",
    "read_instances",
    "write_instances",
]
