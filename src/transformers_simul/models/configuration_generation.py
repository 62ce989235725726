# SPDX-License-Identifier: Apache-2.0
"""What simultaneous decoding adds to the generation configuration: a policy, and what policies need to know about the
model; saved and loaded with it."""

from collections.abc import Sequence
from typing import Any, cast

from transformers.generation.configuration_utils import GenerationConfig

from .policies import Policy, WaitKPolicy, check_count
from .policy_names import policy_from_name

# Where nobody names one.
USUAL_POLICY = "wait-3"
_OURS = ("wait_k", "default_policy", "alignment_heads", "context_sentences", "eos_threshold")


class SimulGenerationConfig(GenerationConfig):
    """The generation configuration of our models.

    Args:
        wait_k (`int`, *optional*): the policy of `generate()` if it is given neither a policy nor `wait_k`.
        default_policy (`str`, *optional*): the same by a name that [`policy_from_name`] knows; instead of `wait_k`.
        alignment_heads (`Sequence[Sequence[int]]`, *optional*): layer and head of the attention heads that look at what
            is translated next, the best first, for [`AlignAttPolicy`]; `transformers-simul heads` finds them.
        context_sentences (`int`, *optional*): how many sentences that have ended an endless stream keeps in view,
            unless it says so itself: as many as training showed.
        eos_threshold (`float`, *optional*): a translation ends only where EOS has more than this share of the
            probability of all that may follow, instead of where it is the likeliest token. Training on decision rows,
            which give EOS the probability of a READ, sets 0.5.
        **kwargs: as for `GenerationConfig`.

    Raises:
        ValueError: if `wait_k` is not a whole number of at least 1, `default_policy` is not a policy's name or is given
            beside `wait_k`, `context_sentences` is no whole number, `eos_threshold` not between 0 and 1, a head is not
            a pair of whole numbers, or the id of a special token not a whole number.

    Example:

    ```python
    >>> import tempfile
    >>> from transformers import AutoModelForCausalLM
    >>> folder = tempfile.mkdtemp()
    >>> model.generation_config.default_policy = "confidence:0.6,max=5"
    >>> model.save_pretrained(folder)
    >>> AutoModelForCausalLM.from_pretrained(folder).generation_config.default_policy
    'confidence:0.6,max=5'
    >>> model.generation_config.default_policy = None

    ```
    """

    def __init__(
        self,
        wait_k: int | None = None,
        default_policy: str | None = None,
        alignment_heads: Sequence[Sequence[int]] | None = None,
        context_sentences: int | None = None,
        eos_threshold: float | None = None,
        **kwargs: Any,
    ):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            ids = kwargs.get(name)
            if ids is not None and not all(isinstance(each, int) for each in (ids if isinstance(ids, list) else [ids])):
                raise ValueError(f"{name} of the generation configuration must be a token's id, got {ids!r}.")
        self.wait_k, self.default_policy = wait_k, default_policy
        self.alignment_heads = None if alignment_heads is None else check_heads(alignment_heads)
        if context_sentences is not None:
            check_count("context_sentences", context_sentences, least=0)
        if eos_threshold is not None and not (isinstance(eos_threshold, (int, float)) and 0 <= eos_threshold < 1):
            raise ValueError(f"eos_threshold must be at least 0 and below 1, got {eos_threshold!r}.")
        self.context_sentences, self.eos_threshold = context_sentences, eos_threshold
        # What is wrong with it shows where it is loaded.
        self.make_policy()
        super().__init__(**kwargs)

    @property
    def usual_policy(self) -> str:
        """The name of the policy that it is made for; wait-3 if it names none."""
        return self.default_policy or (f"wait-{self.wait_k}" if self.wait_k else USUAL_POLICY)

    def make_policy(self) -> Policy | None:
        """Return the policy that it names; None if it names none."""
        if self.default_policy is not None and self.wait_k is not None:
            raise ValueError(
                f"default_policy must not stand beside wait_k in a generation configuration, got "
                f"{self.default_policy!r} and {self.wait_k}."
            )
        if self.default_policy is not None:
            return policy_from_name(self.default_policy)
        return None if self.wait_k is None else WaitKPolicy(self.wait_k)

    @classmethod
    def of(cls, config: GenerationConfig) -> "SimulGenerationConfig":
        """Return the configuration as one of ours. A stock one has our settings if it was loaded with them."""
        if isinstance(config, cls):
            return config
        return cast(SimulGenerationConfig, cls.from_dict(config.to_dict()))

    def to_dict(self) -> dict[str, Any]:
        """Do as the stock method, but leave out our settings where they are None."""
        settings = super().to_dict()
        for name in _OURS:
            if settings[name] is None:
                del settings[name]
            else:
                # One that stems from the model's alone loses what Transformers does not know when it is loaded.
                settings.pop("_from_model_config", None)
        return settings


def check_heads(heads: Sequence[Sequence[int]]) -> list[list[int]]:
    """Check attention heads, and return them as lists, as JSON keeps them.

    Args:
        heads (`Sequence[Sequence[int]]`): layer and head of each.

    Raises:
        ValueError: for none, or what is no pair of whole numbers of at least 0.
    """
    if not isinstance(heads, (list, tuple)) or not heads:
        raise ValueError(f"alignment_heads must be pairs of a layer and a head, such as [[2, 3]], got {heads!r}.")
    for head in heads:
        is_pair = isinstance(head, (list, tuple)) and len(head) == 2
        if not is_pair or not all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in head):
            raise ValueError(f"alignment_heads must be pairs of a layer and a head, counted from 0, got {head!r}.")
    return [list(head) for head in heads]


__all__ = ["USUAL_POLICY", "SimulGenerationConfig", "check_heads"]
