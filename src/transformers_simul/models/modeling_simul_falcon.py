# SPDX-License-Identifier: Apache-2.0
"""SimulFalcon: what differs from Falcon when attention follows a read/write schedule; ALiBi or rotary positions."""

import math
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from transformers.cache_utils import Cache
from transformers.models.falcon.configuration_falcon import FalconConfig
from transformers.models.falcon.modeling_falcon import (
    FALCON_ATTENTION_CLASSES,
    FalconAttention,
    FalconForCausalLM,
    FalconLinear,
    FalconModel,
    apply_rotary_pos_emb,
)

from .attention import AttentionContext
from .configuration_simul import SimulConfig
from .linear import decoding_linear
from .masking import Pattern, alibi_slopes
from .modeling_simul import SimulForCausalLM, swap_classes
from .modeling_simul_alibi import SimulAlibiModel, attend_with_cache
from .modeling_simul_rotary import check_rope, rotary_context, rotary_positions
from .positions import without_scale

ALIBI_ROUNDINGS = ("stock", "exact")


@strict
class SimulFalconConfig(SimulConfig, FalconConfig):
    """Falcon's configuration and what [`SimulConfig`] adds.

    Args:
        alibi_rounding (`str`, *optional*, defaults to `"stock"`): `"stock"` rounds to bfloat16 as Falcon does, so that
            with nothing hidden the logits equal stock Falcon's exactly; ranks above 256 then collide. `"exact"` keeps
            float32 distances, for new models and long streams.

    Raises:
        ValueError: for an unknown value.

    Example:

    ```python
    >>> from transformers_simul import SimulFalconConfig
    >>> sizes = {"hidden_size": 64, "num_attention_heads": 4}
    >>> [SimulFalconConfig(alibi=alibi, **sizes).positions for alibi in (True, False)]
    ['modified', 'own_frame']

    ```
    """

    model_type = "simul_falcon"
    _auto_class = "AutoConfig"

    alibi: bool | None = True
    alibi_rounding: str = "stock"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.alibi_rounding not in ALIBI_ROUNDINGS:
            raise ValueError(f"alibi_rounding must be one of {ALIBI_ROUNDINGS}, got {self.alibi_rounding!r}.")

    @property
    def has_alibi(self) -> bool:
        return bool(self.alibi)


class SimulFalconAttention(FalconAttention):
    """Falcon's attention under a mask that holds ALiBi too."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        alibi: None,
        attention_mask: Any,
        layer_past: Cache | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        use_cache: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        query, key, value = (part.transpose(1, 2) for part in self._split_heads(self.query_key_value(hidden_states)))
        if position_embeddings is not None:
            query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        output, weights = attend_with_cache(
            self, query, key, value, attention_mask, layer_past, self.inv_norm_factor, self.attention_dropout.p
        )
        return self.dense(output), weights


class SimulFalconLinear(FalconLinear):
    """Falcon's linear layer with [`decoding_linear`] in inference mode, and while training as one operation."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output = decoding_linear(input, self.weight, self.bias)
        if output is None and torch.is_grad_enabled():
            # Falcon's product with the transposed weight has a gradient that is copied element by element.
            return torch.nn.functional.linear(input, self.weight, self.bias)
        return super().forward(input) if output is None else output


# Falcon looks its attention up in this table, which knows no FlexAttention.
FALCON_ATTENTION_CLASSES["flex_attention"] = FalconAttention


class SimulFalconModel(SimulAlibiModel, FalconModel):
    """Falcon without head, under a read/write schedule."""

    config_class = SimulFalconConfig
    parts = ("word_embeddings", "h", "ln_f")

    def __init__(self, config: SimulFalconConfig):
        super().__init__(config)
        if not config.has_alibi:
            check_rope(config)
        swap_classes(self, {FalconAttention: SimulFalconAttention, FalconLinear: SimulFalconLinear})

    def alibi(self) -> tuple[torch.Tensor, float]:
        return alibi_slopes(self.num_heads, self.device), math.sqrt(self.config.head_dim)

    def position_options(self, pattern: Pattern, hidden_states: torch.Tensor) -> dict[str, Any]:
        if self.config.has_alibi:
            return {}
        return {"position_embeddings": self.rotary_emb(hidden_states, rotary_positions(self.config, pattern))}

    def rotations(self, states: torch.Tensor, angles: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Do as [`SimulRotaryModel.rotations`]."""
        return [without_scale(*self.rotary_emb(states, angles))] * len(self.h)

    def context(self, pattern: Pattern) -> AttentionContext:
        """Return what attention needs for ALiBi or rotary positions; outside of decoding as slow and as exact as
        Falcon's own."""
        context = super().context(pattern) if self.config.has_alibi else rotary_context(self, pattern)
        # In this order: torch.compile cannot look at the inference mode.
        return context._replace(broadcasts_keys=torch.compiler.is_compiling() or not torch.is_inference_mode_enabled())


class SimulFalconForCausalLM(SimulForCausalLM, FalconForCausalLM):
    """Falcon that translates while it reads (arXiv 2405.10443).

    It loads any Falcon checkpoint, since the weights and their names are Falcon's. Without a schedule it is plain
    causal Falcon.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul import SimulFalconConfig, SimulFalconForCausalLM
    >>> config = SimulFalconConfig(vocab_size=50, hidden_size=32, num_attention_heads=4, num_hidden_layers=1)
    >>> model = SimulFalconForCausalLM(config).eval()
    >>> model(torch.tensor([[1, 2, 3]])).logits.shape
    torch.Size([1, 3, 50])

    ```
    """

    config_class = SimulFalconConfig
    layers_class = SimulFalconModel


__all__ = ["SimulFalconConfig", "SimulFalconForCausalLM", "SimulFalconModel"]
