# SPDX-License-Identifier: Apache-2.0
"""SimulQwen2: Qwen2 and Qwen2.5."""

from huggingface_hub.dataclasses import strict
from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM, Qwen2Model

from .configuration_simul import SimulConfig
from .modeling_simul_rotary import SimulRotaryForCausalLM, SimulRotaryModel, windows_by_layer_type


@strict
class SimulQwen2Config(SimulConfig, Qwen2Config):
    """[`Qwen2Config`] and what [`SimulConfig`] adds."""

    model_type = "simul_qwen2"
    _auto_class = "AutoConfig"


class SimulQwen2Model(SimulRotaryModel, Qwen2Model):
    """Qwen2 without head, under a read/write schedule."""

    config_class = SimulQwen2Config

    def windows(self) -> dict[str, int | None]:
        return windows_by_layer_type(self.config)


class SimulQwen2ForCausalLM(SimulRotaryForCausalLM, Qwen2ForCausalLM):
    """Qwen2 that translates while it reads; see [`SimulForCausalLM`]."""

    config_class = SimulQwen2Config
    layers_class = SimulQwen2Model


__all__ = ["SimulQwen2Config", "SimulQwen2ForCausalLM", "SimulQwen2Model"]
