# SPDX-License-Identifier: Apache-2.0
"""Configuration of SimulFalcon: Falcon with ALiBi, and how SimulMask corrects it."""

from huggingface_hub.dataclasses import strict
from transformers.models.falcon.configuration_falcon import FalconConfig

ALIBI_POSITIONS = ("modified", "plain", "none")
ALIBI_ROUNDINGS = ("stock", "exact")


@strict
class SimulFalconConfig(FalconConfig):
    """Falcon's configuration plus what simultaneous fine-tuning adds (arXiv 2405.10443, section 4).

    Args:
        alibi_positions (`str`, *optional*, defaults to `"modified"`):
            `"modified"` counts only the keys that a query can see (the paper's correction, "SM-norec-mod"),
            `"plain"` counts hidden keys too (ablation "SM-norec"), `"none"` adds no bias at all.
        alibi_rounding (`str`, *optional*, defaults to `"stock"`):
            `"stock"` rounds as Falcon does, to bfloat16, so that with nothing hidden the logits equal stock
            Falcon's exactly; ranks above 256 then collide. `"exact"` keeps float32 distances, for new models
            and long streams.
        label_smoothing (`float`, *optional*, defaults to 0.0):
            Label smoothing of the target tokens, in [0, 1). It lives here because the Trainer's own
            `label_smoothing_factor` takes the labels away from the model and would lose the peek rows.
        peek_weight (`float`, *optional*, defaults to 1.0):
            Weight of one peek row's loss against one target token's.

    Raises:
        ValueError: for an unknown value, or a Falcon without ALiBi.

    Example:

    ```python
    >>> from transformers_simul import SimulFalconConfig
    >>> SimulFalconConfig(hidden_size=64, num_attention_heads=4).alibi_positions
    'modified'

    ```
    """

    model_type = "simul_falcon"
    _auto_class = "AutoConfig"

    alibi: bool | None = True
    alibi_positions: str = "modified"
    alibi_rounding: str = "stock"
    label_smoothing: float | int = 0.0
    peek_weight: float | int = 1.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if not self.alibi:
            raise ValueError(
                f"alibi must be True, got {self.alibi}: SimulFalcon corrects ALiBi and has no rotary positions yet; "
                "use a Falcon checkpoint with ALiBi, such as tiiuae/falcon-rw-1b."
            )
        if self.alibi_positions not in ALIBI_POSITIONS:
            raise ValueError(f"alibi_positions must be one of {ALIBI_POSITIONS}, got {self.alibi_positions!r}.")
        if self.alibi_rounding not in ALIBI_ROUNDINGS:
            raise ValueError(f"alibi_rounding must be one of {ALIBI_ROUNDINGS}, got {self.alibi_rounding!r}.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}.")
        if self.peek_weight < 0:
            raise ValueError(f"peek_weight must not be negative, got {self.peek_weight}.")


__all__ = ["SimulFalconConfig"]
