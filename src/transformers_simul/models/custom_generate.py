# SPDX-License-Identifier: Apache-2.0
"""The decoding for borrowing: `model.generate(custom_generate=FOLDER, ...)` on a stock model.

Saved as `custom_generate/generate.py`, with what it imports, in a folder of its own; see [`save_custom_generate`].
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .families import adopt
from .generation import telling
from .processing import FALCON_TEMPLATE, SimulProcessor


def generate(
    model: Any,
    source: str | Sequence[Any] | None = None,
    tokenizer: Any = None,
    source_lang: str = "en",
    target_lang: str = "fr",
    template: str = FALCON_TEMPLATE,
    use_chat_template: bool = False,
    unit: str = "word",
    positions: str | None = None,
    **kwargs: Any,
) -> Any:
    """Translate while reading, with a model that is not of our class; Transformers calls this.

    Args:
        model: a `...ForCausalLM` of a family that is served; its weights are used as they are.
        source (`str` or `Sequence`, *optional*): what [`SimulProcessor`] takes. Not with inputs that it has made.
        tokenizer (`PreTrainedTokenizerFast`, *optional*): the model's; needed for `source`.
        source_lang, target_lang, template, unit: of [`SimulProcessor`].
        use_chat_template (`bool`, *optional*): the prompt is the tokenizer's own chat instead of `template`, for
            instruct models.
        positions (`str`, *optional*): of [`SimulConfig`]; the family's default unless told.
        **kwargs: of [`SimulGenerationMixin.generate`], `wait_k` or `policy` among them.

    Returns:
        `torch.LongTensor` or [`SimulGenerateOutput`].

    Raises:
        ValueError: without a policy, without a source, or for a family that is not served.

    Example:

    ```python
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from transformers_simul.models.custom_generate import generate
    >>> sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    >>> stock = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).eval()
    >>> output = generate(stock, "a dog runs", tokenizer, wait_k=9, max_new_tokens=4, return_dict_in_generate=True)
    >>> set(output.delays[0]) <= {3}
    True

    ```
    """
    with telling(kwargs.get("streamer")):
        kwargs |= _inputs(model, source, tokenizer, source_lang, target_lang, template, use_chat_template, unit, kwargs)
        settings = {} if positions is None else {"positions": positions}
        return adopt(model, **settings).generate(**kwargs)


def _inputs(
    model: Any,
    source: str | Sequence[Any] | None,
    tokenizer: Any,
    source_lang: str,
    target_lang: str,
    template: str,
    use_chat_template: bool,
    unit: str,
    given: Mapping[str, Any],
) -> Mapping[str, Any]:
    """What `generate()` needs beside what was given."""
    if given.get("policy") is None and given.get("wait_k") is None:
        raise ValueError("wait_k or a policy must be given, got neither: it says when to READ and WRITE.")
    if "prompt" in given:
        return {} if source is None else {"source": source}
    if source is None or tokenizer is None:
        raise ValueError("source and tokenizer must be given, or the inputs that a SimulProcessor has made.")
    if use_chat_template:
        processor = SimulProcessor.from_chat_template(tokenizer, source_lang, target_lang, unit=unit)
    else:
        processor = SimulProcessor(tokenizer, source_lang, target_lang, template, unit)
    return processor(source=source).to(model.device)


__all__ = ["generate"]
