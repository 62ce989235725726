# SPDX-License-Identifier: Apache-2.0
"""SimulQwen3: Qwen3."""

from huggingface_hub.dataclasses import strict
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM, Qwen3Model

from .configuration_simul import SimulConfig
from .modeling_simul_rotary import SimulRotaryForCausalLM, SimulRotaryModel, windows_by_layer_type


@strict
class SimulQwen3Config(SimulConfig, Qwen3Config):
    """[`Qwen3Config`] and what [`SimulConfig`] adds."""

    model_type = "simul_qwen3"
    _auto_class = "AutoConfig"


class SimulQwen3Model(SimulRotaryModel, Qwen3Model):
    """Qwen3 without head, under a read/write schedule."""

    config_class = SimulQwen3Config

    def windows(self) -> dict[str, int | None]:
        return windows_by_layer_type(self.config)


class SimulQwen3ForCausalLM(SimulRotaryForCausalLM, Qwen3ForCausalLM):
    """Qwen3 that translates while it reads; see [`SimulForCausalLM`]."""

    config_class = SimulQwen3Config
    layers_class = SimulQwen3Model


__all__ = ["SimulQwen3Config", "SimulQwen3ForCausalLM", "SimulQwen3Model"]
