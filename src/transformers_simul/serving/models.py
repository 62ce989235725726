# SPDX-License-Identifier: Apache-2.0
"""The models of a server, each with an engine of its own."""

import time
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from ..models.configuration_generation import USUAL_POLICY, SimulGenerationConfig
from ..streaming.engine import StreamEngine
from .failure import Failure
from .messages import Start
from .metrics import Metrics

# What a model without a language is said to speak: "undetermined", as BCP 47 has it.
UNKNOWN = "und"


class MeasuredEngine(StreamEngine):
    """An engine that tells how long its forwards take.

    Args:
        *args, **kwargs: of [`StreamEngine`].
        observe (`Callable[[float], None]`): called with the seconds of each.
    """

    def __init__(self, *args: Any, observe: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._observe = observe

    def step(self) -> int:
        started = time.perf_counter()
        answered = super().step()
        if answered:
            self._observe(time.perf_counter() - started)
        return answered


class Served(NamedTuple):
    """One model in one direction; a model that knows several languages is there once for each, with the same engine.

    Attributes:
        name (`str`): clients choose it by.
        engine (`StreamEngine`): of it.
        source_lang, target_lang (`str`): that it translates.
        glossary (`Glossary` or `Mapping[str, str]`, *optional*): terms to prefer where a client brings none.
    """

    name: str
    engine: StreamEngine
    source_lang: str
    target_lang: str
    glossary: Any = None

    @property
    def unit(self) -> str:
        """The unit that its policies count."""
        unit: str = self.engine.processor.unit
        return unit

    @property
    def languages(self) -> dict[str, str]:
        """The languages as arguments of [`StreamEngine.open`]."""
        told = {"source_lang": self.source_lang, "target_lang": self.target_lang}
        return {name: language for name, language in told.items() if language != UNKNOWN}

    @property
    def policy(self) -> str:
        """The name of the policy that it is made for, as its generation configuration says; wait-3 if it says none."""
        return SimulGenerationConfig.of(self.engine.model.generation_config).usual_policy

    @property
    def context_sentences(self) -> int:
        """The number of sentences in view with which it was trained."""
        return SimulGenerationConfig.of(self.engine.model.generation_config).context_sentences or 0

    def about(self) -> dict[str, Any]:
        """The description that `/v1/models` shows."""
        return {
            "id": self.name,
            "source_lang": self.source_lang,
            "target_lang": self.target_lang,
            "unit": self.unit,
            "context_sentences": self.context_sentences,
            "max_streams": self.engine.cache.batch_size,
            "active_streams": self.engine.active_streams,
            "max_tokens": self.engine.max_tokens,
        }


def serve_models(
    models: Mapping[str, tuple[Any, Any]], metrics: Metrics, max_streams: int = 64, max_tokens: int = 512
) -> list[Served]:
    """Give each model an engine, not started yet.

    Args:
        models (`Mapping[str, tuple]`): of each name the model and its processor.
        metrics (`Metrics`): gets the engines' figures.
        max_streams, max_tokens (`int`, *optional*): of each engine.
    """
    served = []
    for name, (model, processor) in models.items():
        engine = MeasuredEngine(
            model,
            processor,
            max_streams=max_streams,
            max_tokens=max_tokens,
            observe=metrics.step_s.labels(name).observe,
        )
        metrics.places.labels(name).set(max_streams)
        metrics.gauge(metrics.streams, lambda engine=engine: engine.active_streams, model=name)  # type: ignore[misc]
        served += [Served(name, engine, *languages) for languages in _directions(processor)]
    return served


def _directions(processor: Any) -> list[tuple[str, str]]:
    """Languages that a processor translates from and to, first those that it does without being told."""
    own = processor.source_lang, processor.target_lang
    pairs = [own, *product(processor.source_langs, processor.target_langs)]
    known = [pair for pair in dict.fromkeys(pairs) if pair == own or pair[0] != pair[1]]
    return [(source or UNKNOWN, target or UNKNOWN) for source, target in known]


def policy_of(models: Sequence[Served]) -> str:
    """Return the name of the policy of a stream that none was named for: what its models are made for, or wait-3 where
    they are made for different ones.

    Args:
        models (`Sequence[Served]`): that translate it.
    """
    named = {each.policy for each in models}
    return named.pop() if len(named) == 1 else USUAL_POLICY


def choose(served: Sequence[Served], start: Start) -> list[Served]:
    """The models that a client asks for, one for each target language.

    Args:
        served (`Sequence[Served]`): all of them.
        start (`Start`): of the client.

    Raises:
        Failure: if there is none, or they cannot share a source.
    """
    named = [each for each in served if start.model in (None, each.name)]
    if not named:
        raise Failure("unknown_model", f"There is no model {start.model!r} here.")
    spoken = [each for each in named if start.source_lang in (None, each.source_lang)]
    if start.target_langs is None:
        if not spoken:
            raise Failure("unknown_model", f"No such model here translates from {start.source_lang!r}.")
        return spoken[:1]
    if len(set(start.target_langs)) < len(start.target_langs):
        raise Failure("bad_message", "start.target_langs must name each language once.")
    # What the first target is translated from, the others are too.
    for source in [each.source_lang for each in spoken if each.target_lang == start.target_langs[0]]:
        found = {each.target_lang: each for each in reversed(spoken) if each.source_lang == source}
        if found.keys() >= {*start.target_langs}:
            break
    else:
        pair = f"from {start.source_lang or 'any one language'} to {' and '.join(start.target_langs)}"
        raise Failure("unknown_model", f"No such model here translates {pair}.")
    chosen = [found[target] for target in start.target_langs]
    if len({each.unit for each in chosen}) > 1:
        raise Failure("unknown_model", "These models count different units, and cannot share a source.")
    return chosen


__all__ = ["Served", "choose", "policy_of", "serve_models"]
