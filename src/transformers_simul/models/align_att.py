# SPDX-License-Identifier: Apache-2.0
"""AlignAtt by words: READ while the model looks at what was read last."""

from collections.abc import Sequence

from .adaptive import AdaptivePolicy, Evidence
from .policies import check_count
from .seam import DecodingModel


class AlignAttPolicy(AdaptivePolicy):
    """AlignAtt (Papi et al. 2023, arXiv 2305.11408, section 3) by words: READ while the model looks at the last words
    read, since what it would write then may still change.

    It looks at the source word that its alignment heads attend to most: of each head the word with the largest sum of
    weights over its tokens, and of these words the median (for decoder-only models, after AlignAtt4LLM, arXiv
    2606.03967). Only the scores of these heads are computed, beside the forward, whose logits stay as they are.

    Args:
        words (`int`, *optional*, defaults to 2): f: READ while one of the last f words read is looked at; at least 1.
        least_lag, greatest_lag: as in [`AdaptivePolicy`].
        heads (`Sequence[tuple[int, int]]`, *optional*): layer and head of each alignment head; without them
            `alignment_heads` of the model's generation configuration, which `transformers-simul heads` writes.

    Raises:
        ValueError: if an argument is out of range, or when it is to decide for a model that names no heads, or lacks
            one of these.

    Example:

    ```python
    >>> from transformers_simul import AlignAttPolicy
    >>> AlignAttPolicy(2, heads=[(1, 3)]).for_model(model)
    AlignAttPolicy(words=2, heads=((1, 3),), least_lag=1, greatest_lag=9)

    ```
    """

    def __init__(
        self,
        words: int = 2,
        least_lag: int = 1,
        greatest_lag: int = 9,
        heads: Sequence[Sequence[int]] = (),
    ):
        super().__init__(least_lag, greatest_lag)
        self.words = check_count("words", words)
        self.heads = _pairs(heads)

    def for_model(self, model: DecodingModel) -> "AlignAttPolicy":
        # A stock configuration has it too, if it was loaded with it.
        heads = self.heads or model.generation_config.to_dict().get("alignment_heads")
        if not heads:
            raise ValueError(
                f"heads of {self!r} must be given, or alignment_heads of the model's generation configuration, which "
                "transformers-simul heads writes."
            )
        check_heads(heads, model)
        return AlignAttPolicy(self.words, self.least_lag, self.greatest_lag, heads)

    def reads_after(self, evidence: Evidence) -> bool:
        return evidence.looked_at >= evidence.progress.source_words - self.words

    def __repr__(self) -> str:
        return self._show(words=self.words, **({"heads": self.heads} if self.heads else {}))


def check_heads(heads: Sequence[Sequence[int]], model: DecodingModel) -> None:
    """Raise a `ValueError` unless these are attention heads of the model.

    Args:
        heads (`Sequence[Sequence[int]]`): layer and head of each, counted from 0.
        model: with its `config`.
    """
    layers, count = model.config.num_hidden_layers, model.config.num_attention_heads
    for layer, head in _pairs(heads):
        if not (0 <= layer < layers and 0 <= head < count):
            raise ValueError(
                f"heads must be among the model's {layers} layers of {count} heads, counted from 0, got layer {layer}, "
                f"head {head}."
            )


def _pairs(heads: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """The same as tuples, once they are pairs of whole numbers."""
    try:
        found = tuple(tuple(pair) for pair in heads)
    except TypeError:
        found = ((),)
    if any(len(pair) != 2 or any(type(number) is not int for number in pair) for pair in found):
        raise ValueError(f"heads must be pairs of whole numbers, layer and head, such as [(1, 3)], got {heads!r}.")
    return found  # type: ignore[return-value]


__all__ = ["AlignAttPolicy", "check_heads"]
