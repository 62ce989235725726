# SPDX-License-Identifier: Apache-2.0
"""Translate a corpus under a policy, in batches, to instances."""

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from ..policies import Policy
from .instances import Instance


def translate_corpus(
    model: Any,
    processor: Any,
    sources: Sequence[str],
    references: Sequence[str],
    policy: Policy,
    batch_size: int = 16,
    **kwargs: Any,
) -> list[Instance]:
    """Translate sentences simultaneously, each on its own; a batch changes speed, not output.

    Args:
        model (`SimulFalconForCausalLM`): put into evaluation mode.
        processor (`SimulProcessor`): saved beside it.
        sources, references (`Sequence[str]`): one a sentence.
        policy (`Policy`): when to READ and WRITE.
        batch_size (`int`, *optional*): sentences side by side.
        **kwargs: further arguments of `generate()`.

    Returns:
        `list[Instance]`: in the order of `sources`.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.evaluation.decode import translate_corpus
    >>> log = translate_corpus(model, processor, ["a dog", "a"], ["ein Hund", "ein"], WaitKPolicy(1), max_new_tokens=4)
    >>> [(each.index, each.source_length) for each in log]
    [(0, 2), (1, 1)]

    ```
    """
    model.eval()
    # Sentences of like length share a batch; outputs go back to the corpus's order.
    order = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
    instances: dict[int, Instance] = {}
    with tqdm(total=len(sources), desc=repr(policy), unit="sentence") as progress:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = processor(source=[sources[index] for index in batch]).to(model.device)
            output = model.generate(**inputs, policy=policy, return_dict_in_generate=True, **kwargs)
            for row, index in enumerate(batch):
                words = output.words[row]
                instances[index] = Instance(
                    index=index,
                    prediction=processor.text(words),
                    delays=output.delays[row],
                    elapsed=[round(elapsed, 3) for elapsed in output.elapsed_ms[row]],
                    prediction_length=len(words),
                    reference=references[index],
                    source=sources[index],
                    source_length=int(inputs["source_words"][row].max()),
                )
            progress.update(len(batch))
    return [instances[index] for index in range(len(sources))]


__all__ = ["translate_corpus"]
