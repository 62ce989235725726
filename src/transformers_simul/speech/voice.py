# SPDX-License-Identifier: Apache-2.0
"""Voice activity by Silero (MIT), whose package holds its weights."""

from typing import Any

import numpy
import torch

from .audio import RATE


class SileroVoice:
    """Silero's model, 32 ms at a time; it keeps a state of fixed size. A [`Voice`].

    Raises:
        ValueError: if the package silero-vad is missing.
    """

    def __init__(self) -> None:
        try:
            from silero_vad import load_silero_vad
        except ImportError as error:
            raise ValueError(
                "voice activity needs the package silero-vad: pip install 'transformers_simul[speech]'."
            ) from error
        threads = torch.get_num_threads()
        self._model: Any = load_silero_vad()
        # The package sets it to one, for the whole process.
        torch.set_num_threads(threads)

    @torch.inference_mode()
    def probability(self, frame: numpy.ndarray) -> float:
        """See [`Voice`]."""
        return float(self._model(torch.tensor(frame), RATE))

    def reset(self) -> None:
        """See [`Voice`]."""
        self._model.reset_states()


__all__ = ["SileroVoice"]
