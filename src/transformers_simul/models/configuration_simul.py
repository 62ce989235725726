# SPDX-License-Identifier: Apache-2.0
"""What simultaneous translation adds to the configuration of any family."""

from dataclasses import dataclass
from typing import Any

from .positions import ALIBI_POSITIONS, ROTARY_POSITIONS


@dataclass(kw_only=True)
class SimulConfig:
    """Mixin for a family's configuration (arXiv 2405.10443, section 4).

    Args:
        positions (`str`, *optional*):
            How positions follow the read/write schedule; see `docs/positions.md`. With ALiBi, `"modified"` (default)
            counts only the keys that a query can see (the paper's correction, "SM-norec-mod"), `"plain"` counts hidden
            keys too (ablation "SM-norec"), `"none"` adds no bias at all. With rotary positions, `"own_frame"` (default)
            keeps every distance true, `"group"` numbers source and target apart, and `"reserved"` keeps
            `target_start` positions free for the source.
        target_start (`int`, *optional*):
            First position of tail and target, for `"group"` (default 0) and `"reserved"` (default 256).
        label_smoothing (`float`, *optional*, defaults to 0.0):
            Label smoothing of the target tokens, in [0, 1). It lives here because the Trainer's own
            `label_smoothing_factor` takes the labels away from the model and would lose the peek rows.
        peek_weight (`float`, *optional*, defaults to 1.0):
            Weight of one peek row's loss against one target token's.

    Raises:
        ValueError: for a value that is not among these.

    Example:

    ```python
    >>> from transformers_simul import SimulFalconConfig
    >>> SimulFalconConfig(hidden_size=64, num_attention_heads=4).positions
    'modified'

    ```
    """

    positions: str | None = None
    target_start: int | None = None
    label_smoothing: float | int = 0.0
    peek_weight: float | int = 1.0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)  # type: ignore[misc]
        if self.positions is None:
            self.positions = self._known_positions[0]
        self.check_simul()

    def check_simul(self) -> None:
        """Check that the settings fit each other. Models check again, since loading may change settings one by one.

        Raises:
            ValueError: if they do not.
        """
        if self.positions not in self._known_positions:
            raise ValueError(
                f"positions must be one of {self._known_positions} for this model, got {self.positions!r}."
            )
        if self.target_start is not None and (self.target_start < 0 or self.positions not in ("group", "reserved")):
            raise ValueError(
                f"target_start must not be negative and needs positions='group' or 'reserved', got {self.target_start} "
                f"with {self.positions!r}."
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}.")
        if self.peek_weight < 0:
            raise ValueError(f"peek_weight must not be negative, got {self.peek_weight}.")

    @property
    def first_target_position(self) -> int:
        """`target_start`, or its default."""
        if self.target_start is not None:
            return self.target_start
        return 256 if self.positions == "reserved" else 0

    @property
    def _known_positions(self) -> tuple[str, ...]:
        return ALIBI_POSITIONS if self.has_alibi else ROTARY_POSITIONS

    @property
    def has_alibi(self) -> bool:
        """Whether positions are an ALiBi bias; otherwise they are rotary."""
        return False


class SimulAlibiConfig(SimulConfig):
    """[`SimulConfig`] of a family that always has ALiBi."""

    @property
    def has_alibi(self) -> bool:
        return True

    @property
    def alibi_rounding(self) -> str:
        """Float32 distances to the query. Bloom's own bias differs from these by a constant per row, which softmax
        ignores, and makes ranks above 256 collide in bfloat16; MPT's is the same."""
        return "exact"


__all__ = ["SimulAlibiConfig", "SimulConfig"]
