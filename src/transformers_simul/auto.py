# SPDX-License-Identifier: Apache-2.0
"""SimulFalcon made known to Transformers' Auto classes, when the package is used rather than remote code."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from .configuration_simul_falcon import SimulFalconConfig
from .modeling_simul_falcon import SimulFalconForCausalLM, SimulFalconModel

AutoConfig.register("simul_falcon", SimulFalconConfig, exist_ok=True)
AutoModel.register(SimulFalconConfig, SimulFalconModel, exist_ok=True)
AutoModelForCausalLM.register(SimulFalconConfig, SimulFalconForCausalLM, exist_ok=True)

__all__ = ["SimulFalconConfig", "SimulFalconForCausalLM", "SimulFalconModel"]
