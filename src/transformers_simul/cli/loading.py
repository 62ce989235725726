# SPDX-License-Identifier: Apache-2.0
"""What a command names MODEL."""

from typing import Any


def load(name: str, **options: Any) -> tuple[Any, Any]:
    """A trained model in evaluation mode, on the GPU if there is one, and its processor.

    Args:
        name (`str`): of a folder, or on the hub.
        **options: of [`AutoSimulModel.from_pretrained`].
    """
    import torch

    from ..auto import AutoSimulModel
    from ..models.processing import SimulProcessor

    model = AutoSimulModel.from_pretrained(name, **options).eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), SimulProcessor.from_pretrained(name)


__all__ = ["load"]
