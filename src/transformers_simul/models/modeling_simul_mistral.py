# SPDX-License-Identifier: Apache-2.0
"""SimulMistral: Mistral; its sliding window, if it has one, counts what a query can see."""

from huggingface_hub.dataclasses import strict
from transformers.models.mistral.configuration_mistral import MistralConfig
from transformers.models.mistral.modeling_mistral import MistralForCausalLM, MistralModel

from .configuration_simul import SimulConfig
from .modeling_simul_rotary import SimulRotaryForCausalLM, SimulRotaryModel


@strict
class SimulMistralConfig(SimulConfig, MistralConfig):
    """[`MistralConfig`] and what [`SimulConfig`] adds."""

    model_type = "simul_mistral"
    _auto_class = "AutoConfig"


class SimulMistralModel(SimulRotaryModel, MistralModel):
    """Mistral without head, under a read/write schedule."""

    config_class = SimulMistralConfig

    def windows(self) -> int | None:
        return self.config.sliding_window


class SimulMistralForCausalLM(SimulRotaryForCausalLM, MistralForCausalLM):
    """Mistral that translates while it reads; see [`SimulForCausalLM`]."""

    config_class = SimulMistralConfig
    layers_class = SimulMistralModel


__all__ = ["SimulMistralConfig", "SimulMistralForCausalLM", "SimulMistralModel"]
