# SPDX-License-Identifier: Apache-2.0
"""Many sentences on a few rows: where a translation ends, the next sentence begins."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import distributed
from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_managed_module

from ..models.cache import SimulCache
from ..models.decoding import decode_rows
from ..models.glossary import Glossary, bound_glossary
from ..models.glossary_row import BoundGlossary
from ..models.policies import Policy
from ..models.policy_names import named
from ..models.room import check_room
from ..models.row import Prompt
from ..models.row_decoder import RowDecoder
from ..models.source import KnownSource
from ..streaming.options import decoder_options

# Told of each sentence that is translated: its place among the sentences, units of its source, its decoder.
OnEnd = Callable[[int, int, RowDecoder], None]


class CorpusRows:
    """Takes sentences into rows as rows finish, so that no row waits for the longest of a batch; a row's numbers do not
    depend on its neighbours.

    Args:
        model: of any family, in evaluation mode.
        processor (`SimulProcessor`): saved beside it.
        policy (`Policy` or `str`): when to READ and WRITE.
        rows (`int`): sentences at a time.
        row_decoder (`type`, *optional*): how a row reads and writes.
        generators (`Sequence[torch.Generator]`, *optional*): one for each sentence, to sample with.
        glossary (`Glossary` or `Mapping[str, str]`, *optional*): terms to prefer once they were read.
        synced_gpus (`bool`, *optional*): as in `generate()`, which finds it out unless told.
        **kwargs: arguments of `generate()` that concern one row.

    Raises:
        ValueError: if `rows` is below 1, for arguments that `generate()` would not know or take, or a sentence that the
            processor refuses.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        policy: Policy | str,
        rows: int,
        row_decoder: type[RowDecoder] = RowDecoder,
        generators: Sequence[torch.Generator] | None = None,
        glossary: Glossary | Mapping[str, str] | None = None,
        synced_gpus: bool | None = None,
        **kwargs: Any,
    ):
        if rows < 1:
            raise ValueError(f"batch_size must be at least 1, got {rows}.")
        self.model, self.processor, self.rows = model, processor, rows
        self.policy = named(policy, model)
        self.row_decoder, self.generators, self.glossary, self.kwargs = row_decoder, generators, glossary, kwargs
        several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        shared = several and (is_deepspeed_zero3_enabled() or is_fsdp_managed_module(model))
        self.synced = shared if synced_gpus is None else synced_gpus
        # What is wrong with them shows before the first sentence.
        options = decoder_options(model, processor, **kwargs)
        # Without what draws, counts or looks at the clock, all sentences have the same.
        begins_anew = options["processors"] or options["criteria"] or options["generator"] is not None
        self._options = None if begins_anew else options
        # The processor's prompt, and what was made of it for the model.
        self._given: Prompt | None = None
        self._fitted: tuple[Prompt, BoundGlossary | None] | None = None

    def translate(self, sentences: Iterable[tuple[int, str]], on_end: OnEnd) -> int:
        """Translate all sentences.

        Args:
            sentences (`Iterable[tuple[int, str]]`): place and text of each; long ones first end together.
            on_end (`OnEnd`): told of each.

        Returns:
            `int`: the number of forwards.
        """
        waiting, cache = iter(sentences), SimulCache(self.rows)
        running: dict[int, tuple[int, int, RowDecoder]] = {}

        def following(row: int) -> RowDecoder | None:
            if row in running:
                place, units, ended = running.pop(row)
                on_end(place, units, ended)
                # The next prompt begins alike.
                cache.clear(row, keep=len(ended.head))
            return self._begin(row, waiting, cache, running)

        first = [each for row in range(self.rows) if (each := self._begin(row, waiting, cache, running)) is not None]
        return decode_rows(self.model, cache, first, self.synced, following)

    def _begin(
        self,
        row: int,
        waiting: Iterator[tuple[int, str]],
        cache: SimulCache,
        running: dict[int, tuple[int, int, RowDecoder]],
    ) -> RowDecoder | None:
        """The next sentence in a row of the cache; None if there is none left."""
        place, text = next(waiting, (None, ""))
        if place is None:
            return None
        inputs = self.processor(source=[text])
        words, (prompt, glossary) = inputs["source"][0], self._fit(inputs["prompt"])
        options = self._options
        if options is None:
            own: dict[str, Any] = {} if self.generators is None else {"generators": [self.generators[place]]}
            # A time limit counts from the start of each sentence.
            options = decoder_options(self.model, self.processor, **own, **self.kwargs)
        decoder = self.row_decoder(
            source=KnownSource(words),
            policy=self.policy,
            prompt=prompt,
            glossary=glossary,
            head_is_fed=cache.used_tokens(row) == len(prompt.head),
            started=time.perf_counter(),
            **options,
        )
        running[row] = place, len(words), decoder
        return decoder

    def _fit(self, prompt: Prompt) -> tuple[Prompt, BoundGlossary | None]:
        """The prompt for the model, and the glossary for the prompt."""
        if self._fitted is None or self._given is not prompt:
            check_room(self.model.config, None, len(prompt.head), len(prompt.tail))
            fitted = prompt.fit(self.model)
            self._given, self._fitted = prompt, (fitted, bound_glossary(self.glossary, fitted))
        return self._fitted


__all__ = ["CorpusRows", "OnEnd"]
