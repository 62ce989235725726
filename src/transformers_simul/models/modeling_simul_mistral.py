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
    """Mistral that translates while it reads; see [`SimulForCausalLM`].

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul import SimulMistralConfig, SimulMistralForCausalLM
    >>> heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    >>> sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1} | heads
    >>> model = SimulMistralForCausalLM(SimulMistralConfig(vocab_size=50, **sizes)).eval()
    >>> model(torch.tensor([[1, 2, 3]])).logits.shape
    torch.Size([1, 3, 50])

    ```
    """

    config_class = SimulMistralConfig
    layers_class = SimulMistralModel


__all__ = ["SimulMistralConfig", "SimulMistralForCausalLM", "SimulMistralModel"]
