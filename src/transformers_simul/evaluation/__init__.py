# SPDX-License-Identifier: Apache-2.0
"""Scores of simultaneous translation: instances, latency, quality, and their table."""

from .instances import Instance, SpeechInstance, read_instances, write_instances
from .latency import (
    LATENCY,
    average_lagging,
    average_proportion,
    average_token_delay,
    computation_aware,
    differentiable_average_lagging,
    length_adaptive_average_lagging,
    yet_another_average_lagging,
)
from .quality import QUALITY, Quality, paired_difference, quality

__all__ = [
    "LATENCY",
    "QUALITY",
    "Instance",
    "Quality",
    "SpeechInstance",
    "average_lagging",
    "average_proportion",
    "average_token_delay",
    "computation_aware",
    "differentiable_average_lagging",
    "length_adaptive_average_lagging",
    "paired_difference",
    "quality",
    "read_instances",
    "write_instances",
    "yet_another_average_lagging",
]
