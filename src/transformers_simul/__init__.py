# SPDX-License-Identifier: Apache-2.0
"""Simultaneous machine translation with large language models. Names are imported when they are first used."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_MODULES = {
    "auto": ["AutoSimulModel"],
    "cache_simul": ["SimulCache"],
    "data_collator": ["SimulMaskDataCollator"],
    "engine": ["EngineFull", "EngineStream", "StreamEngine"],
    "families_simul": ["adopt"],
    "generation_simul": ["SimulGenerateOutput", "SimulLogitsProcessor"],
    "modeling_simul_bloom": ["SimulBloomConfig", "SimulBloomForCausalLM", "SimulBloomModel"],
    "modeling_simul_falcon": ["SimulFalconConfig", "SimulFalconForCausalLM", "SimulFalconModel"],
    "modeling_simul_gemma3": ["SimulGemma3Config", "SimulGemma3ForCausalLM", "SimulGemma3Model"],
    "modeling_simul_llama": ["SimulLlamaConfig", "SimulLlamaForCausalLM", "SimulLlamaModel"],
    "modeling_simul_mistral": ["SimulMistralConfig", "SimulMistralForCausalLM", "SimulMistralModel"],
    "modeling_simul_mpt": ["SimulMptConfig", "SimulMptForCausalLM", "SimulMptModel"],
    "modeling_simul_qwen2": ["SimulQwen2Config", "SimulQwen2ForCausalLM", "SimulQwen2Model"],
    "modeling_simul_qwen3": ["SimulQwen3Config", "SimulQwen3ForCausalLM", "SimulQwen3Model"],
    "policies": ["FixedChunkPolicy", "MixturePolicy", "OfflinePolicy", "Policy", "Progress", "WaitKPolicy"],
    "processing_simul": ["SimulProcessor"],
    "streamer": ["SimulStreamer", "Word"],
    "streams_simul": ["SourceCancelled", "SourceStream", "SourceTimeout"],
    "translate": ["translate_stream", "translate_stream_async"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from .auto import AutoSimulModel
    from .cache_simul import SimulCache
    from .data_collator import SimulMaskDataCollator
    from .engine import EngineFull, EngineStream, StreamEngine
    from .families_simul import adopt
    from .generation_simul import SimulGenerateOutput, SimulLogitsProcessor
    from .modeling_simul_bloom import SimulBloomConfig, SimulBloomForCausalLM, SimulBloomModel
    from .modeling_simul_falcon import SimulFalconConfig, SimulFalconForCausalLM, SimulFalconModel
    from .modeling_simul_gemma3 import SimulGemma3Config, SimulGemma3ForCausalLM, SimulGemma3Model
    from .modeling_simul_llama import SimulLlamaConfig, SimulLlamaForCausalLM, SimulLlamaModel
    from .modeling_simul_mistral import SimulMistralConfig, SimulMistralForCausalLM, SimulMistralModel
    from .modeling_simul_mpt import SimulMptConfig, SimulMptForCausalLM, SimulMptModel
    from .modeling_simul_qwen2 import SimulQwen2Config, SimulQwen2ForCausalLM, SimulQwen2Model
    from .modeling_simul_qwen3 import SimulQwen3Config, SimulQwen3ForCausalLM, SimulQwen3Model
    from .policies import FixedChunkPolicy, MixturePolicy, OfflinePolicy, Policy, Progress, WaitKPolicy
    from .processing_simul import SimulProcessor
    from .streamer import SimulStreamer, Word
    from .streams_simul import SourceCancelled, SourceStream, SourceTimeout
    from .translate import translate_stream, translate_stream_async


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
