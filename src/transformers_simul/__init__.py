# SPDX-License-Identifier: Apache-2.0
"""Simultaneous machine translation with large language models.

Names are imported when they are first used. Importing the package makes `AutoConfig`, `AutoModelForCausalLM` and
`AutoProcessor` know our classes.
"""

import importlib
from typing import TYPE_CHECKING

from .registration import register_classes

__version__ = "0.1.0"

_MODULES = {
    "auto": ["AutoSimulModel"],
    "models.cache": ["SimulCache"],
    "training.data_collator": ["SimulMaskDataCollator"],
    "training.documents": ["join_documents"],
    "training.paths": ["AlignedPolicy", "RandomPathPolicy"],
    "streaming.engine": ["EngineFull", "EngineStream", "StreamEngine"],
    "models.configuration_generation": ["SimulGenerationConfig"],
    "models.decoding_weights": ["set_decoding_weights"],
    "models.families": ["adopt"],
    "models.generation": ["SimulGenerateOutput"],
    "models.glossary": ["Glossary"],
    "models.modeling_simul_bloom": ["SimulBloomConfig", "SimulBloomForCausalLM", "SimulBloomModel"],
    "models.modeling_simul_falcon": ["SimulFalconConfig", "SimulFalconForCausalLM", "SimulFalconModel"],
    "models.modeling_simul_gemma3": ["SimulGemma3Config", "SimulGemma3ForCausalLM", "SimulGemma3Model"],
    "models.modeling_simul_llama": ["SimulLlamaConfig", "SimulLlamaForCausalLM", "SimulLlamaModel"],
    "models.modeling_simul_mistral": ["SimulMistralConfig", "SimulMistralForCausalLM", "SimulMistralModel"],
    "models.modeling_simul_mpt": ["SimulMptConfig", "SimulMptForCausalLM", "SimulMptModel"],
    "models.modeling_simul_qwen2": ["SimulQwen2Config", "SimulQwen2ForCausalLM", "SimulQwen2Model"],
    "models.modeling_simul_speech": ["SimulSpeechConfig", "SimulSpeechForCausalLM"],
    "models.modeling_simul_qwen3": ["SimulQwen3Config", "SimulQwen3ForCausalLM", "SimulQwen3Model"],
    "models.adaptive": [
        "AdaptivePolicy",
        "ConfidencePolicy",
        "Evidence",
        "HoldPolicy",
        "LearnedReadPolicy",
        "LocalAgreementPolicy",
        "RelaxedAgreementPolicy",
    ],
    "models.align_att": ["AlignAttPolicy"],
    "models.policy_names": ["policy_from_name"],
    "models.policies": [
        "FixedChunkPolicy",
        "MixturePolicy",
        "OfflinePolicy",
        "Policy",
        "Progress",
        "WaitKPolicy",
    ],
    "models.audio_units": ["AudioStream"],
    "models.processing": ["SimulProcessor"],
    "models.processing_speech": ["SimulSpeechProcessor"],
    "serving.client": ["ConnectionLost", "PlainSimulClient", "ServerError", "SimulClient"],
    "streaming.streamer": ["SimulStreamer", "Word"],
    "models.source": ["SourceCancelled", "SourceTimeout"],
    "models.streams": ["SourceStream"],
    "models.word_rule": ["SimulLogitsProcessor"],
    "streaming.translate": ["translate_stream", "translate_stream_async"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from .auto import AutoSimulModel
    from .models.adaptive import (
        AdaptivePolicy,
        ConfidencePolicy,
        Evidence,
        HoldPolicy,
        LearnedReadPolicy,
        LocalAgreementPolicy,
        RelaxedAgreementPolicy,
    )
    from .models.align_att import AlignAttPolicy
    from .models.audio_units import AudioStream
    from .models.cache import SimulCache
    from .models.configuration_generation import SimulGenerationConfig
    from .models.decoding_weights import set_decoding_weights
    from .models.families import adopt
    from .models.generation import SimulGenerateOutput
    from .models.glossary import Glossary
    from .models.modeling_simul_bloom import SimulBloomConfig, SimulBloomForCausalLM, SimulBloomModel
    from .models.modeling_simul_falcon import SimulFalconConfig, SimulFalconForCausalLM, SimulFalconModel
    from .models.modeling_simul_gemma3 import SimulGemma3Config, SimulGemma3ForCausalLM, SimulGemma3Model
    from .models.modeling_simul_llama import SimulLlamaConfig, SimulLlamaForCausalLM, SimulLlamaModel
    from .models.modeling_simul_mistral import SimulMistralConfig, SimulMistralForCausalLM, SimulMistralModel
    from .models.modeling_simul_mpt import SimulMptConfig, SimulMptForCausalLM, SimulMptModel
    from .models.modeling_simul_qwen2 import SimulQwen2Config, SimulQwen2ForCausalLM, SimulQwen2Model
    from .models.modeling_simul_qwen3 import SimulQwen3Config, SimulQwen3ForCausalLM, SimulQwen3Model
    from .models.modeling_simul_speech import SimulSpeechConfig, SimulSpeechForCausalLM
    from .models.policies import (
        FixedChunkPolicy,
        MixturePolicy,
        OfflinePolicy,
        Policy,
        Progress,
        WaitKPolicy,
    )
    from .models.policy_names import policy_from_name
    from .models.processing import SimulProcessor
    from .models.processing_speech import SimulSpeechProcessor
    from .models.source import SourceCancelled, SourceTimeout
    from .models.streams import SourceStream
    from .models.word_rule import SimulLogitsProcessor
    from .serving.client import ConnectionLost, PlainSimulClient, ServerError, SimulClient
    from .streaming.engine import EngineFull, EngineStream, StreamEngine
    from .streaming.streamer import SimulStreamer, Word
    from .streaming.translate import translate_stream, translate_stream_async
    from .training.data_collator import SimulMaskDataCollator
    from .training.documents import join_documents
    from .training.paths import AlignedPolicy, RandomPathPolicy


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__


register_classes()
