# SPDX-License-Identifier: Apache-2.0
"""SimulLlama: Llama, and what has its layout: SmolLM2, TinyLlama, Vicuna."""

from huggingface_hub.dataclasses import strict
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaModel

from .configuration_simul import SimulConfig
from .modeling_simul_rotary import SimulRotaryForCausalLM, SimulRotaryModel


@strict
class SimulLlamaConfig(SimulConfig, LlamaConfig):
    """[`LlamaConfig`] and what [`SimulConfig`] adds."""

    model_type = "simul_llama"
    _auto_class = "AutoConfig"


class SimulLlamaModel(SimulRotaryModel, LlamaModel):
    """Llama without head, under a read/write schedule."""

    config_class = SimulLlamaConfig


class SimulLlamaForCausalLM(SimulRotaryForCausalLM, LlamaForCausalLM):
    """Llama that translates while it reads; see [`SimulForCausalLM`]."""

    config_class = SimulLlamaConfig
    layers_class = SimulLlamaModel


__all__ = ["SimulLlamaConfig", "SimulLlamaForCausalLM", "SimulLlamaModel"]
