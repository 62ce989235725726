# SPDX-License-Identifier: Apache-2.0
"""SimulBloom: Bloom and BloomZ, with ALiBi."""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional as F
from transformers.cache_utils import Cache
from transformers.models.bloom.configuration_bloom import BloomConfig
from transformers.models.bloom.modeling_bloom import BloomAttention, BloomForCausalLM, BloomModel

from .configuration_simul import SimulAlibiConfig
from .linear import SimulLinear
from .masking import alibi_slopes
from .modeling_simul import SimulForCausalLM, swap_classes
from .modeling_simul_alibi import SimulAlibiModel, attend_with_cache


@strict
class SimulBloomConfig(SimulAlibiConfig, BloomConfig):
    """[`BloomConfig`] and what [`SimulConfig`] adds."""

    model_type = "simul_bloom"
    _auto_class = "AutoConfig"


class SimulBloomAttention(BloomAttention):
    """Bloom's attention under a mask that holds ALiBi too."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        residual: torch.Tensor,
        alibi: None,
        attention_mask: Any,
        layer_past: Cache | None = None,
        use_cache: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        query, key, value = self._reshape(self.query_key_value(hidden_states))
        output, weights = attend_with_cache(
            self, query, key, value, attention_mask, layer_past, self.inv_norm_factor, self.attention_dropout.p
        )
        return residual + F.dropout(self.dense(output), self.hidden_dropout, self.training), weights


class SimulBloomModel(SimulAlibiModel, BloomModel):
    """Bloom without head, under a read/write schedule."""

    config_class = SimulBloomConfig
    parts = ("word_embeddings", "h", "ln_f")

    def __init__(self, config: SimulBloomConfig):
        super().__init__(config)
        swap_classes(self, {BloomAttention: SimulBloomAttention, nn.Linear: SimulLinear})

    def embed(self, inputs_embeds: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.word_embeddings_layernorm(inputs_embeds)
        return states

    def alibi(self) -> tuple[torch.Tensor, float]:
        return alibi_slopes(self.num_heads, self.device), 1.0


class SimulBloomForCausalLM(SimulForCausalLM, BloomForCausalLM):
    """Bloom that translates while it reads; see [`SimulForCausalLM`]."""

    config_class = SimulBloomConfig
    layers_class = SimulBloomModel


__all__ = ["SimulBloomConfig", "SimulBloomForCausalLM", "SimulBloomModel"]
