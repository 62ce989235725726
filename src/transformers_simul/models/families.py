# SPDX-License-Identifier: Apache-2.0
"""The model families: our class by a checkpoint's `model_type`, and our class around a model that is already loaded."""

from typing import Any

import torch
from torch import nn

from .configuration_generation import SimulGenerationConfig
from .linear import keep_plain_4bit

# The `model_type` of stock checkpoints; ours have "simul_" before it.
MODEL_TYPES = ("bloom", "falcon", "gemma3_text", "llama", "mistral", "mpt", "qwen2", "qwen3")


def family_class(model_type: str) -> Any:
    """Return the `Simul...ForCausalLM` of a `model_type`, of ours or of a stock configuration.

    Raises:
        ValueError: for a family that has no class here.

    Example:

    ```python
    >>> from transformers_simul.models.families import family_class
    >>> family_class("llama").__name__, family_class("simul_llama").__name__
    ('SimulLlamaForCausalLM', 'SimulLlamaForCausalLM')

    ```
    """
    found: Any
    # A family's import takes a moment, so each in its branch; by these lines Transformers finds the files that travel.
    match model_type:
        case "bloom" | "simul_bloom":
            from .modeling_simul_bloom import SimulBloomForCausalLM as found
        case "falcon" | "simul_falcon":
            from .modeling_simul_falcon import SimulFalconForCausalLM as found
        case "gemma3_text" | "simul_gemma3":
            from .modeling_simul_gemma3 import SimulGemma3ForCausalLM as found
        case "llama" | "simul_llama":
            from .modeling_simul_llama import SimulLlamaForCausalLM as found
        case "mistral" | "simul_mistral":
            from .modeling_simul_mistral import SimulMistralForCausalLM as found
        case "mpt" | "simul_mpt":
            from .modeling_simul_mpt import SimulMptForCausalLM as found
        case "qwen2" | "simul_qwen2":
            from .modeling_simul_qwen2 import SimulQwen2ForCausalLM as found
        case "simul_speech":
            from .modeling_simul_speech import SimulSpeechForCausalLM as found
        case "qwen3" | "simul_qwen3":
            from .modeling_simul_qwen3 import SimulQwen3ForCausalLM as found
        case _:
            raise ValueError(f"model_type must be one of {sorted(MODEL_TYPES)}, or of ours, got {model_type!r}.")
    return found


def adopt(model: Any, **settings: Any) -> Any:
    """Put a loaded model into our class of its family, so that it can translate while it reads. Nothing is copied: both
    have the same parameters, and the model stays what it was. Layers that were replaced (by quantised ones, or
    adapters) are kept.

    Args:
        model: a `...ForCausalLM` of a family that has a class here, as Transformers loads it.
        **settings: settings of [`SimulConfig`], such as `positions`.

    Raises:
        ValueError: for another family, or settings that do not fit it.

    Example:

    ```python
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from transformers_simul.models.families import adopt
    >>> sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    >>> stock = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes)).eval()
    >>> ours = adopt(stock, positions="group")
    >>> type(ours).__name__, ours.lm_head.weight is stock.lm_head.weight
    ('SimulLlamaForCausalLM', True)

    ```
    """
    stored = model.config.to_dict()
    model_class = family_class(stored["model_type"])
    config_class = model_class.config_class
    config = config_class.from_dict(stored | {"model_type": config_class.model_type}, **settings)
    config.check_simul()
    backend = model.config._attn_implementation
    backend = backend if backend in ("eager", "flex_attention") else "sdpa"
    with torch.device("meta"):
        ours = model_class._from_config(config, attn_implementation=backend, dtype=model.dtype)
    _share(ours, model)
    keep_plain_4bit(ours)
    ours.generation_config = SimulGenerationConfig.of(model.generation_config)
    return ours


def _share(ours: nn.Module, theirs: nn.Module) -> None:
    """Give our modules the parameters and buffers of theirs, and take theirs where ours would compute the same."""
    ours._parameters, ours._buffers, ours.training = theirs._parameters, theirs._buffers, theirs.training
    for name, child in theirs.named_children():
        mine = ours.get_submodule(name)
        # A class of ours, or a container that may hold one.
        if isinstance(mine, type(child)) and (type(mine) is not type(child) or any(child.children())):
            _share(mine, child)
        else:
            setattr(ours, name, child)


__all__ = ["MODEL_TYPES", "adopt", "family_class"]
