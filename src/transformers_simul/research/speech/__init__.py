# SPDX-License-Identifier: Apache-2.0
"""Does SimulMask carry over to speech? One command that trains, translates, compares."""

from .arguments import SpeechArguments
from .report import write_speech_report
from .run import SpeechExperiment

__all__ = ["SpeechArguments", "SpeechExperiment", "write_speech_report"]
