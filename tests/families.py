# SPDX-License-Identifier: Apache-2.0
"""Tiny random models of every family, with what makes each of them special turned on."""

import torch

import transformers_simul

WINDOW = 12
ROTARY = ("own_frame", "group", "reserved")
_COMMON = {"initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
_LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
# By a name for the test: family, settings, position strategies.
FAMILIES = {
    "Llama": ("Llama", _LLAMA, ROTARY),
    "Llama-yarn": ("Llama", _LLAMA | {"rope_parameters": _YARN}, ("own_frame",)),
    "Mistral": ("Mistral", _LLAMA | {"sliding_window": WINDOW}, ROTARY),
    "Mistral-full": ("Mistral", _LLAMA | {"sliding_window": None}, ("own_frame",)),
    "Qwen2": (
        "Qwen2",
        _LLAMA | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
        ROTARY,
    ),
    "Qwen3": ("Qwen3", _LLAMA, ROTARY),
    "Gemma3": (
        "Gemma3",
        _LLAMA
        | {
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 8,
            "num_key_value_heads": 1,
        },
        ROTARY,
    ),
    "Falcon-rotary": (
        "Falcon",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": False, "multi_query": True},
        ROTARY,
    ),
    "Bloom": ("Bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, ("modified", "none")),
    "Mpt": ("Mpt", {"d_model": 48, "n_layers": 2, "n_heads": 6, "expansion_ratio": 2}, ("modified", "none")),
}


def make_family(name, processor, positions=None, backend="sdpa", **settings):
    """A tiny random model in evaluation mode."""
    family, options, strategies = FAMILIES[name]
    torch.manual_seed(0)
    config_class = getattr(transformers_simul, f"Simul{family}Config")
    config = config_class(
        vocab_size=len(processor.tokenizer), positions=positions or strategies[0], **_COMMON | options | settings
    )
    model_class = getattr(transformers_simul, f"Simul{family}ForCausalLM")
    return model_class._from_config(config, attn_implementation=backend).eval()


def stock_of(model):
    """The family's own model with the same weights."""
    stock, stock_config = (
        next(each for each in kind.__mro__ if each.__module__.startswith("transformers.models"))
        for kind in (type(model), type(model.config))
    )
    settings = {key: value for key, value in model.config.to_dict().items() if key not in ("model_type", "auto_map")}
    twin = stock._from_config(stock_config(**settings), attn_implementation="eager").eval()
    twin.load_state_dict(model.state_dict())
    return twin
