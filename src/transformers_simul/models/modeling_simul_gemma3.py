# SPDX-License-Identifier: Apache-2.0
"""SimulGemma3: Gemma 3, text only; most layers slide over a window and turn by other frequencies."""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from transformers.models.gemma3.configuration_gemma3 import Gemma3TextConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3ForCausalLM, Gemma3TextModel

from .configuration_simul import SimulConfig
from .modeling_simul_rotary import SimulRotaryForCausalLM, SimulRotaryModel, windows_by_layer_type
from .positions import without_scale


@strict
class SimulGemma3Config(SimulConfig, Gemma3TextConfig):
    """[`Gemma3TextConfig`] and what [`SimulConfig`] adds."""

    model_type = "simul_gemma3"
    _auto_class = "AutoConfig"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.use_bidirectional_attention or self.attn_logit_softcapping or self.final_logit_softcapping:
            raise ValueError(
                "use_bidirectional_attention, attn_logit_softcapping and final_logit_softcapping must be unset, got "
                f"{self.use_bidirectional_attention}, {self.attn_logit_softcapping}, {self.final_logit_softcapping}."
            )


class SimulGemma3Model(SimulRotaryModel, Gemma3TextModel):
    """Gemma3 without head, under a read/write schedule."""

    config_class = SimulGemma3Config

    def windows(self) -> dict[str, int | None]:
        return windows_by_layer_type(self.config)

    def rotations(self, states: torch.Tensor, angles: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        config: Any = self.config
        each = {kind: without_scale(*self.rotary_emb(states, angles, kind)) for kind in set(config.layer_types)}
        return [each[kind] for kind in config.layer_types]


class SimulGemma3ForCausalLM(SimulRotaryForCausalLM, Gemma3ForCausalLM):
    """Gemma3 that translates while it reads; see [`SimulForCausalLM`]."""

    config_class = SimulGemma3Config
    layers_class = SimulGemma3Model


__all__ = ["SimulGemma3Config", "SimulGemma3ForCausalLM", "SimulGemma3Model"]
