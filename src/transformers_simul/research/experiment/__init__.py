# SPDX-License-Identifier: Apache-2.0
"""The paper's comparison as one command."""

from .arguments import PAPER, ExperimentArguments
from .report import write_report
from .run import Experiment

__all__ = ["PAPER", "Experiment", "ExperimentArguments", "write_report"]
