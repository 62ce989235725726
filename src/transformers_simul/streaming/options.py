# SPDX-License-Identifier: Apache-2.0
"""The arguments of `generate()` for one stream, turned into those of its decoder."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from ..models.configuration_generation import SimulGenerationConfig
from ..models.modes import check_mode
from ..models.processing import SimulProcessor
from ..models.rows import row_generators, row_options
from ..models.seam import StreamingModel


def decoder_options(
    model: StreamingModel,
    processor: SimulProcessor,
    generation_config: GenerationConfig | None = None,
    logits_processor: Sequence[Callable[..., torch.Tensor]] | None = None,
    stopping_criteria: Sequence[Callable[..., torch.Tensor]] | None = None,
    generators: Sequence[torch.Generator] | None = None,
    max_word_tokens: int = 64,
    **kwargs: Any,
) -> dict[str, Any]:
    """Return the arguments of a [`RowDecoder`] that make it decode as `generate()` does with these.

    Args:
        model: its generation configuration holds for what is not said here.
        processor (`SimulProcessor`): saved beside it.
        generation_config, logits_processor, stopping_criteria (*optional*): as in `generate()`.
        generators (`Sequence[torch.Generator]`, *optional*): one, to sample with.
        max_word_tokens (`int`, *optional*): most tokens of a word.
        **kwargs: fields of the generation configuration, such as `max_new_tokens`, `do_sample` or `temperature`.

    Raises:
        ValueError: for an argument that `generate()` does not know, values that do not fit it, and modes that revise or
            look ahead.

    Example:

    ```python
    >>> from transformers_simul.streaming.options import decoder_options
    >>> options = decoder_options(model, processor, do_sample=True, temperature=0.5, max_new_tokens=9)
    >>> options["max_new_tokens"], [type(each).__name__ for each in options["processors"]]
    (9, ['TemperatureLogitsWarper', 'TopKLogitsWarper'])

    ```
    """
    if kwargs.get("wait_k") is not None:
        raise ValueError(f"wait_k must not stand beside a policy, got {kwargs['wait_k']}.")
    chosen = SimulGenerationConfig.of(generation_config or model.generation_config)
    lengths = [kwargs.get(name, getattr(chosen, name)) for name in ("max_new_tokens", "max_length")]
    if generation_config is None:
        # Otherwise Transformers warns that `output_logits` stands alone.
        kwargs.setdefault("return_dict_in_generate", True)
    config, unknown = model._prepare_generation_config(generation_config, **kwargs)
    if unknown:
        raise ValueError(
            f"{', '.join(sorted(unknown))}: no such argument; a stream takes those of generate() that concern one row."
        )
    check_mode({"max_word_tokens": max_word_tokens}, config)
    model._prepare_special_tokens(config, True, device=model.device, batch_size=1)
    prompt = torch.tensor([processor.head_ids + processor.tail_ids], device=model.device)
    processors = model._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=prompt.shape[1],
        encoder_input_ids=prompt,
        logits_processor=LogitsProcessorList(logits_processor or []),
        device=model.device,
        model_kwargs={},
    )
    criteria = model._get_stopping_criteria(
        config, StoppingCriteriaList(stopping_criteria or []), tokenizer=processor.tokenizer
    )
    if config.max_new_tokens is None and lengths[1] is not None:
        limit = config.max_length - prompt.shape[1]
    else:
        limit = config.max_new_tokens
    if limit is not None and limit < 1:
        raise ValueError(f"max_length must be above the prompt's {prompt.shape[1]} tokens, got {config.max_length}.")
    return {
        "generator": row_generators(generators, 1, model.device)[0] if config.do_sample else None,
        "max_new_tokens": limit,
        **row_options(config, processors, criteria, max_word_tokens),
    }


__all__ = ["decoder_options"]
