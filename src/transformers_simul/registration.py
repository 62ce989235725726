# SPDX-License-Identifier: Apache-2.0
"""Registers our classes with `AutoConfig`, `AutoModelForCausalLM` and `AutoProcessor`, without importing
Transformers."""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_AUTO = "transformers.models.auto"


def register_classes() -> None:
    """Register at once what Transformers has imported already, and the rest when it imports it."""
    actions: dict[str, Callable[[ModuleType], None]] = {
        f"{_AUTO}.configuration_auto": _register_configurations,
        f"{_AUTO}.processing_auto": _register_processor,
    }
    waiting = {name: action for name, action in actions.items() if name not in sys.modules}
    for name in actions.keys() - waiting.keys():
        actions[name](sys.modules[name])
    if waiting:
        sys.meta_path.insert(0, _AfterImport(waiting))


class _AfterImport(MetaPathFinder):
    """Calls functions with modules that were just imported."""

    def __init__(self, actions: dict[str, Callable[[ModuleType], None]]):
        self.actions = actions

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        action = self.actions.get(name)
        spec = PathFinder.find_spec(name, path, target) if action else None
        if action is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_then_act(module: ModuleType) -> None:
            execute(module)
            action(module)

        spec.loader.exec_module = execute_then_act  # type: ignore[method-assign]
        return spec


def _register_configurations(module: ModuleType) -> None:
    from .models.families import MODEL_TYPES

    for model_type in (*MODEL_TYPES, "speech"):
        ours = f"simul_{model_type.removesuffix('_text')}"
        module.AutoConfig.register(ours, _placeholder(ours, module.PreTrainedConfig), exist_ok=True)


def _placeholder(ours: str, base: Any) -> Any:
    """Return a configuration class that makes configurations of the family's own class."""

    def real() -> Any:
        from .auto import simul_class

        return simul_class(ours).config_class

    class Placeholder(base):
        model_type = ours

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return real()(*args, **kwargs)

        @classmethod
        def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
            return real().from_dict(config_dict, **kwargs)

    return Placeholder


def _register_processor(module: ModuleType) -> None:
    from .models.processing import SimulProcessor
    from .models.processing_speech import SimulSpeechProcessor

    # Found by the name in processor_config.json; the keys only have to be ours.
    for key, processor in (("simul", SimulProcessor), ("simul_speech", SimulSpeechProcessor)):
        module.AutoProcessor.register(_placeholder(key, module.PreTrainedConfig), processor, exist_ok=True)


__all__ = ["register_classes"]
