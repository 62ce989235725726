# SPDX-License-Identifier: Apache-2.0
"""SimulMpt: MPT, with ALiBi."""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.cache_utils import Cache
from transformers.models.mpt.configuration_mpt import MptConfig
from transformers.models.mpt.modeling_mpt import MptAttention, MptForCausalLM, MptModel

from .cache import given_cache
from .configuration_simul import SimulAlibiConfig
from .linear import SimulLinear
from .modeling_simul import SimulForCausalLM, swap_classes
from .modeling_simul_alibi import SimulAlibiModel, attend_with_cache


@strict
class SimulMptConfig(SimulAlibiConfig, MptConfig):
    """[`MptConfig`] and what [`SimulConfig`] adds."""

    model_type = "simul_mpt"
    _auto_class = "AutoConfig"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        attention: Any = self.attn_config
        if not attention.alibi:
            raise ValueError("attn_config.alibi must be True: MPT has no rotary positions in Transformers.")


class SimulMptAttention(MptAttention):
    """MPT's attention under a mask that holds ALiBi too."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_bias: None,
        past_key_values: Cache | None = None,
        attention_mask: Any = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        mixed = self.Wqkv(hidden_states)
        if self.clip_qkv:
            mixed = mixed.clamp(min=-self.clip_qkv, max=self.clip_qkv)
        query, key, value = (
            part.unflatten(-1, (self.n_heads, self.head_dim)).transpose(1, 2) for part in mixed.chunk(3, dim=-1)
        )
        cache = given_cache(past_key_values, cache)
        output, weights = attend_with_cache(
            self, query, key, value, attention_mask, cache, self.softmax_scale, self.attn_dropout_p
        )
        return self.out_proj(output), weights


class SimulMptModel(SimulAlibiModel, MptModel):
    """MPT without head, under a read/write schedule."""

    config_class = SimulMptConfig
    parts = ("wte", "blocks", "norm_f")
    bias_argument = "position_bias"

    def __init__(self, config: SimulMptConfig):
        super().__init__(config)
        swap_classes(self, {MptAttention: SimulMptAttention, nn.Linear: SimulLinear})

    def alibi(self) -> tuple[torch.Tensor, float]:
        # The family's own bias of a key one token back: its order of slopes, and its `alibi_bias_max`.
        return -self.build_mpt_alibi_tensor(self.num_heads, 2, device=self.device)[:, 0, 0], 1.0

    @property
    def attention_modules(self) -> list[nn.Module]:
        """The attention of each layer."""
        return [block.attn for block in self.blocks]


class SimulMptForCausalLM(SimulForCausalLM, MptForCausalLM):
    """MPT that translates while it reads; see [`SimulForCausalLM`]."""

    config_class = SimulMptConfig
    layers_class = SimulMptModel


__all__ = ["SimulMptConfig", "SimulMptForCausalLM", "SimulMptModel"]
