# SPDX-License-Identifier: Apache-2.0
"""Floating point operations of translating a sentence, by torch's own counter."""

from collections.abc import Sequence
from typing import Any

from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ..policies import Policy


def sentence_flops(model: Any, processor: Any, sources: Sequence[str], policy: Policy, **kwargs: Any) -> list[int]:
    """FLOPs of each sentence, translated alone: matrix products, as `torch.utils.flop_counter` counts them.

    Args:
        model (`SimulFalconForCausalLM`): with eager attention; torch has no formula for the CPU's fused kernel.
        processor (`SimulProcessor`): saved beside it.
        sources (`Sequence[str]`): sentences.
        policy (`Policy`): when to READ and WRITE.
        **kwargs: further arguments of `generate()`.

    Raises:
        ValueError: for another attention.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.evaluation.flops import sentence_flops
    >>> eager = type(model)._from_config(model.config, attn_implementation="eager").eval()
    >>> short, long = sentence_flops(eager, processor, ["a", "a dog runs"], WaitKPolicy(9), max_new_tokens=2)
    >>> short < long
    True

    ```
    """
    if model.config._attn_implementation != "eager":
        raise ValueError(f"model must have attn_implementation='eager', got {model.config._attn_implementation!r}.")
    counts = []
    for source in tqdm(sources, desc="FLOPs", unit="sentence"):
        with FlopCounterMode(display=False) as counter:
            model.generate(**processor(source=source).to(model.device), policy=policy, **kwargs)
        counts.append(counter.get_total_flops())
    return counts


__all__ = ["sentence_flops"]
