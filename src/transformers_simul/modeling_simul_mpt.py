# SPDX-License-Identifier: Apache-2.0
"""SimulMpt: MPT, with ALiBi."""

import math

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.models.mpt.configuration_mpt import MptConfig
from transformers.models.mpt.modeling_mpt import MptAttention, MptForCausalLM, MptModel

from .configuration_simul import SimulConfig
from .linear_simul import SimulLinear
from .modeling_simul import SimulForCausalLM, swap_classes
from .modeling_simul_alibi import SimulAlibiModel, attend_with_cache


@strict
class SimulMptConfig(SimulConfig, MptConfig):
    """[`MptConfig`] and what [`SimulConfig`] adds."""

    model_type = "simul_mpt"
    _auto_class = "AutoConfig"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if not self.attn_config.alibi:
            raise ValueError("attn_config.alibi must be True: MPT has no rotary positions in Transformers.")

    @property
    def has_alibi(self) -> bool:
        return True

    @property
    def alibi_rounding(self) -> str:
        """Float32 distances, as MPT has them."""
        return "exact"


class SimulMptAttention(MptAttention):
    """MPT's attention under a mask that holds ALiBi too."""

    def forward(self, hidden_states, position_bias, past_key_values=None, attention_mask=None, **kwargs):
        mixed = self.Wqkv(hidden_states)
        if self.clip_qkv:
            mixed = mixed.clamp(min=-self.clip_qkv, max=self.clip_qkv)
        query, key, value = (
            part.unflatten(-1, (self.n_heads, self.head_dim)).transpose(1, 2) for part in mixed.chunk(3, dim=-1)
        )
        output, weights = attend_with_cache(
            self, query, key, value, attention_mask, past_key_values, self.softmax_scale, self.attn_dropout_p
        )
        return self.out_proj(output), weights


class SimulMptModel(SimulAlibiModel, MptModel):
    """MPT without head, under a read/write schedule."""

    config_class = SimulMptConfig
    _supports_sdpa = _supports_flex_attn = True
    parts = ("wte", "blocks", "norm_f")
    bias_argument = "position_bias"

    def __init__(self, config: SimulMptConfig):
        super().__init__(config)
        swap_classes(self, {MptAttention: SimulMptAttention, nn.Linear: SimulLinear})

    def alibi(self):
        """MPT orders the slopes of head counts that are no power of two in its own way."""
        power = 2 ** math.ceil(math.log2(self.num_heads))
        most = self.config.attn_config.alibi_bias_max
        slopes = [2 ** (-most * (index + 1) / power) for index in range(power)]
        if power != self.num_heads:
            slopes = (slopes[1::2] + slopes[0::2])[: self.num_heads]
        return torch.tensor(slopes, dtype=torch.float32, device=self.device), 1.0

    @property
    def attention_modules(self) -> list[nn.Module]:
        """The attention of each layer."""
        return [block.attn for block in self.blocks]


class SimulMptForCausalLM(SimulForCausalLM, MptForCausalLM):
    """MPT that translates while it reads; see [`SimulForCausalLM`].

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul import SimulMptConfig, SimulMptForCausalLM
    >>> model = SimulMptForCausalLM(SimulMptConfig(vocab_size=50, d_model=32, n_heads=4, n_layers=1)).eval()
    >>> model(torch.tensor([[1, 2, 3]])).logits.shape
    torch.Size([1, 3, 50])

    ```
    """

    config_class = SimulMptConfig
    layers_class = SimulMptModel
    _supports_sdpa = _supports_flex_attn = True


__all__ = ["SimulMptConfig", "SimulMptForCausalLM", "SimulMptModel"]
