# SPDX-License-Identifier: Apache-2.0
"""Floating point operations of translating a sentence, by torch's own counter."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ..models.policies import Policy


def count_flops(run: Callable[[], Any]) -> int:
    """Count the FLOPs of the matrix products in a call of `run`.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.evaluation.flops import count_flops
    >>> count_flops(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
    48

    ```
    """
    # The layers' kernel while decoding, and the CPU's fused attention, which torch has no formulas for.
    ours: dict[Any, Callable[..., int]] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    if torch.backends.mkldnn.is_available():
        ours[torch.ops.mkldnn._linear_pointwise] = _linear_flops
    with FlopCounterMode(display=False, custom_mapping=ours) as counter:
        run()
    return counter.get_total_flops()


def _linear_flops(input: torch.Size, weight: torch.Size, *args, **kwargs) -> int:
    return 2 * input.numel() * weight[0]


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *args, **kwargs) -> int:
    return 2 * query.numel() * (key[-2] + value[-2])


def sentence_flops(model: Any, processor: Any, sources: Sequence[Any], policy: Policy, **kwargs: Any) -> list[int]:
    """Count the FLOPs of each sentence, translated alone: matrix products, as `torch.utils.flop_counter` counts them.

    Args:
        model: of any family, in evaluation mode.
        processor (`SimulProcessor`): saved beside it.
        sources (`Sequence`): sentences; of a model of speech, audio.
        policy (`Policy`): when to READ and WRITE.
        **kwargs: further arguments of `generate()`.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.evaluation.flops import sentence_flops
    >>> short, long = sentence_flops(model, processor, ["a", "a dog runs"], WaitKPolicy(9), max_new_tokens=2)
    >>> short < long
    True

    ```
    """
    counts = []
    for source in tqdm(sources, desc="FLOPs", unit="sentence"):
        inputs = processor(source=source).to(model.device)
        counts.append(count_flops(functools.partial(model.generate, **inputs, policy=policy, **kwargs)))
    return counts


__all__ = ["count_flops", "sentence_flops"]
