# SPDX-License-Identifier: Apache-2.0
"""Which of `generate()`'s modes simultaneous decoding takes, and which it refuses."""

from collections.abc import Mapping
from typing import Any

from transformers.generation.configuration_utils import GenerationConfig, SynthIDTextWatermarkingConfig


def check_mode(kwargs: Mapping[str, Any], *configs: GenerationConfig) -> None:
    """Refuse what simultaneous decoding cannot do.

    Args:
        kwargs (`Mapping[str, Any]`): of `generate()`.
        *configs (`GenerationConfig`): what holds where they say nothing, the foremost first.

    Raises:
        ValueError: for beam search and other modes that revise, look ahead or count calls, or a `max_word_tokens`
            below 1.
    """
    allowed = {
        "num_beams": (None, 1),
        "num_return_sequences": (None, 1),
        "min_length": (None, 0),
        "min_new_tokens": (None, 0),
        "penalty_alpha": (None, 0),
        "prompt_lookup_num_tokens": (None,),
        "encoder_repetition_penalty": (None, 1.0),
        "guidance_scale": (None, 1, 1.0),
        # These count from the end of the whole prompt, and what is shown of it grows.
        "begin_suppress_tokens": (None,),
        "exponential_decay_length_penalty": (None,),
        "forced_bos_token_id": (None,),
        "forced_eos_token_id": (None,),
    }
    for name, values in allowed.items():
        value = setting(name, kwargs, *configs)
        if value not in values:
            raise ValueError(
                f"{name}={value} is not supported with a policy: a committed word is never revised and nothing may "
                "look at unread source. Use greedy search or sampling, one sequence per source."
            )
    if isinstance(setting("watermarking_config", kwargs, *configs), SynthIDTextWatermarkingConfig):
        raise ValueError(
            "watermarking_config must not be SynthID's with a policy: it counts how often it is called, and a decoder "
            "asks more than once for a token. WatermarkingConfig works."
        )
    longest = kwargs.get("max_word_tokens", 1)
    if not isinstance(longest, int) or longest < 1:
        raise ValueError(f"max_word_tokens must be at least 1, a whole number, got {longest!r}.")
    for name in ("assistant_model", "inputs_embeds", "custom_generate", "negative_prompt_ids"):
        if kwargs.get(name) is not None:
            raise ValueError(f"{name} is not supported with a policy: use greedy search or sampling on input_ids.")


def setting(name: str, kwargs: Mapping[str, Any], *configs: GenerationConfig) -> Any:
    """What the foremost says of them that says anything; None if none does.

    Args:
        name (`str`): of the setting.
        kwargs, *configs: as in [`check_mode`].
    """
    values = [kwargs.get(name), *(getattr(config, name) for config in configs)]
    return next((value for value in values if value is not None), None)


__all__ = ["check_mode", "setting"]
