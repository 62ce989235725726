# SPDX-License-Identifier: Apache-2.0
"""What simultaneous decoding adds to the generation configuration: wait-k, which is saved and loaded with the model."""

from typing import Any

from transformers.generation.configuration_utils import GenerationConfig

from .policies import WaitKPolicy


class SimulGenerationConfig(GenerationConfig):
    """The generation configuration of our models.

    Args:
        wait_k (`int`, *optional*): the policy of `generate()` where neither a policy nor `wait_k` is given.
        **kwargs: of `GenerationConfig`.

    Raises:
        ValueError: if `wait_k` is no whole number of at least 1, or a special token's id no whole number.

    Example:

    ```python
    >>> import tempfile
    >>> from transformers import AutoModelForCausalLM
    >>> folder = tempfile.mkdtemp()
    >>> model.generation_config.wait_k = 3
    >>> model.save_pretrained(folder)
    >>> AutoModelForCausalLM.from_pretrained(folder).generation_config.wait_k
    3
    >>> model.generation_config.wait_k = None

    ```
    """

    def __init__(self, wait_k: int | None = None, **kwargs: Any):
        if wait_k is not None:
            WaitKPolicy(wait_k)
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            ids = kwargs.get(name)
            if ids is not None and not all(isinstance(each, int) for each in (ids if isinstance(ids, list) else [ids])):
                raise ValueError(f"{name} of the generation configuration must be a token's id, got {ids!r}.")
        self.wait_k = wait_k
        super().__init__(**kwargs)

    @classmethod
    def of(cls, config: GenerationConfig) -> "SimulGenerationConfig":
        """The same configuration as one of ours; itself if it is.

        Args:
            config (`GenerationConfig`): ours or a stock one, which has `wait_k` if it was loaded with it.
        """
        if isinstance(config, cls):
            return config
        ours: Any = cls.from_dict(config.to_dict())
        return ours

    def to_dict(self) -> dict[str, Any]:
        """As the stock method; without `wait_k` where there is none."""
        settings = super().to_dict()
        if settings["wait_k"] is None:
            del settings["wait_k"]
        else:
            # A configuration that stems from the model's alone loses what Transformers does not know when it is loaded.
            settings.pop("_from_model_config", None)
        return settings


__all__ = ["SimulGenerationConfig"]
