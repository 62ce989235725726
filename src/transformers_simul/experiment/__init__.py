# SPDX-License-Identifier: Apache-2.0
"""The paper's comparison as one command."""

from .arguments import PAPER, ExperimentArguments, mixture
from .report import write_report
from .run import FULL_SOURCE, Experiment

__all__ = ["FULL_SOURCE", "PAPER", "Experiment", "ExperimentArguments", "mixture", "write_report"]
