# SPDX-License-Identifier: Apache-2.0
"""`generate()` that reads while it writes: its output, and the mixin."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation.configuration_utils import GenerationConfig
from transformers.generation.logits_process import LogitsProcessorList, PrefixConstrainedLogitsProcessor
from transformers.generation.stopping_criteria import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerateDecoderOnlyOutput, GenerationMixin

from .cache import CACHE_NAME, SimulCache, given_cache
from .configuration_generation import SimulGenerationConfig
from .decoding import decode_rows
from .glossary import Glossary
from .modes import check_mode, setting
from .policies import Policy, WaitKPolicy
from .policy_names import named
from .room import check_room
from .row import Prompt, Query
from .row_decoder import RowDecoder
from .rows import glossaries, make_rows, of_rows, per_row, row_generators, row_options, shown_words
from .source import Source

# Stands for "no limit given": the decoder then bounds each row by what it has read.
_FROM_SOURCE = 2**40


@dataclass
class SimulGenerateOutput(GenerateDecoderOnlyOutput):
    """What `generate(policy=..., return_dict_in_generate=True)` returns.

    Attributes:
        sequences (`torch.LongTensor` of shape `(batch, length)`): the prompt, with a known source whole, as in
            `input_ids`, and with what was read of a live one; then the target and its EOS. Prompts are padded on the
            left, targets on the right.
        words (`list[list[list[int]]]`): ids of each target word, per row.
        delays (`list[list[int]]`): source words read when each was written, per row.
        elapsed_ms (`list[list[float]]`): time since the call when each was committed, per row.
        stop_reasons (`list[str]`): `"eos"`, `"max_new_tokens"` or `"stopping_criteria"`; `"cancelled"` or `"timeout"`
            of a live source; `"max_tokens"` or `"max_positions"` where the next token had no room in the cache or among
            the model's positions.
        queries (`list[list[Query]]`): every question to the model, in order: which token, how much source it saw.
        logits (`tuple[torch.Tensor]`, *optional*): its answers, `(queries, vocabulary)` per row, with `output_logits`.
        forwards (`int`): forward passes of the whole batch.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> inputs = processor(source="a dog runs")
    >>> output = model.generate(**inputs, policy=WaitKPolicy(9), max_new_tokens=4, return_dict_in_generate=True)
    >>> set(output.delays[0]) <= {3}
    True

    ```
    """

    words: list[list[list[int]]] | None = None
    delays: list[list[int]] | None = None
    elapsed_ms: list[list[float]] | None = None
    stop_reasons: list[str] | None = None
    queries: list[list[Query]] | None = None
    forwards: int | None = None


class SimulGenerationMixin(GenerationMixin):
    """Adds `policy` to the stock `generate()`. Without one, everything is stock."""

    generation_config_class = SimulGenerationConfig

    def adjust_generation_fn(self, *args: Any, **kwargs: Any) -> None:
        """As the stock method, which always loads a stock configuration."""
        super().adjust_generation_fn(*args, **kwargs)
        self.generation_config = SimulGenerationConfig.of(self.generation_config)

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *args: Any,
        policy: Policy | str | Sequence[Policy | str] | None = None,
        wait_k: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `GenerationMixin.generate`; with a policy, the translation is written while the source is read.

        Args:
            policy (`Policy`, `str` or a sequence of either, *optional*): when to READ and WRITE, for all rows or for
                each; a name is one that [`policy_from_name`] knows.
            wait_k (`int`, *optional*): instead of a policy, [`WaitKPolicy`]'s k. For a [`SimulProcessor`]'s inputs with
                neither, `default_policy` or `wait_k` of the generation configuration, see [`SimulGenerationConfig`].
            input_ids, attention_mask, source, prompt: what [`SimulProcessor`] returns.
            generators (`Sequence[torch.Generator]`, *optional*): one per row, for sampling that does not depend on
                the row's neighbours.
            max_word_tokens (`int`, *optional*, defaults to 64): longest word; a word start is forced then.
            cache (`SimulCache`, *optional*): empty, of as many rows; also called `past_key_values`.
            committed (`Sequence[Sequence]`, *optional*): for each row, words that were shown before, pairs of ids and
                delay, or [`Word`]s: the target begins with them. A streamer gets only what comes after.
            row_decoder (`type`, *optional*): how a row reads and writes, a subclass of [`RowDecoder`]; the baselines
                bring their own.
            glossary (`Glossary`, `Mapping[str, str]` or a sequence of these or None, *optional*): terms to prefer, for
                all rows or for each; see [`Glossary`].
            streamer (`SimulStreamer`, *optional*): gets each word as it is committed; stock streamers get its ids.
            **kwargs: as in the stock method. Without `max_new_tokens` or `max_length` a row may write 20 tokens and
                three for each source token that it has read.

        Returns:
            `torch.LongTensor` or [`SimulGenerateOutput`].

        Raises:
            ValueError: for a policy beside `wait_k`, a model in training mode, and for beam search and other modes that
                revise or look ahead.
        """
        with telling(kwargs.get("streamer")):
            cache = given_cache(kwargs.pop("past_key_values", None), kwargs.pop("cache", None))
            if cache is not None:
                kwargs[CACHE_NAME] = cache
            # What the caller's configuration leaves open, the model's decides, as in the stock method.
            configs = [SimulGenerationConfig.of(each) for each in (generation_config, self.generation_config) if each]
            if policy is not None and wait_k is not None:
                raise ValueError(f"wait_k must not stand beside a policy, got {wait_k} and {policy!r}.")
            if policy is None and wait_k is None and "prompt" in kwargs:
                policy = next((each for config in configs if (each := config.make_policy()) is not None), None)
            if wait_k is not None:
                policy = WaitKPolicy(wait_k)
            if isinstance(policy, (list, tuple)):
                policy = [named(each, self) for each in policy]
            elif policy is not None:
                policy = named(policy, self)
            if policy is None:
                if hasattr(cache, "place"):
                    raise ValueError(f"{CACHE_NAME} must not be a SimulCache without a policy: give one, or wait_k.")
                if kwargs.get("glossary") is not None:
                    raise ValueError("glossary needs a policy, or wait_k: without one, decoding is stock.")
                return super().generate(inputs, generation_config, *args, **kwargs)
            if self.training:
                raise ValueError("model must be in evaluation mode with a policy, without dropout: call model.eval().")
            check_mode(kwargs, *configs)
            if all(setting(name, kwargs, *configs) is None for name in ("max_new_tokens", "max_length")):
                kwargs["max_new_tokens"] = _FROM_SOURCE
            return super().generate(inputs, generation_config, *args, policy=policy, **kwargs)

    def _get_logits_processor(
        self, *args: Any, model_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> LogitsProcessorList:
        """As the stock method; but with a policy each row is shown alone, without the batch's padding."""
        if model_kwargs and model_kwargs.get("policy") is not None:
            model_kwargs = {name: value for name, value in model_kwargs.items() if name != "attention_mask"}
        return super()._get_logits_processor(*args, model_kwargs=model_kwargs, **kwargs)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        policy: Any = None,
        source: Any = None,
        prompt: Any = None,
        generators: Any = None,
        max_word_tokens: Any = None,
        row_decoder: Any = None,
        committed: Any = None,
        glossary: Any = None,
        tokenizer: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As the stock method; names the arguments of simultaneous decoding, which plain decoding leaves out."""
        return super().prepare_inputs_for_generation(input_ids, **kwargs)

    def _sample(
        self,
        input_ids: torch.LongTensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        streamer: BaseStreamer | None = None,
        policy: Policy | Sequence[Policy] | None = None,
        source: Sequence[Source | list[list[int]]] | None = None,
        prompt: Prompt | Sequence[Prompt] | None = None,
        generators: Sequence[torch.Generator] | None = None,
        max_word_tokens: int = 64,
        row_decoder: type[RowDecoder] | None = None,
        committed: Sequence[Sequence[Any]] | None = None,
        glossary: Glossary | Mapping[str, str] | Sequence[Glossary | Mapping[str, str] | None] | None = None,
        **kwargs: Any,
    ) -> Any:
        if policy is None:
            stock = (input_ids, logits_processor, stopping_criteria, generation_config, synced_gpus, streamer)
            return super()._sample(*stock, **kwargs)
        started = time.perf_counter()
        batch = input_ids.shape[0]
        _check_inputs(source, prompt, batch, logits_processor)
        cache = _cache_for(kwargs.get(CACHE_NAME), batch)
        prompts = self._fit_prompts(prompt, batch, cache)
        limit = generation_config.max_length - input_ids.shape[1]
        device = input_ids.device
        columns = {
            "source": per_row("source", source, batch),
            "policy": of_rows("policy", policy, batch),
            "prompt": prompts,
            "generator": row_generators(generators, batch, device) if generation_config.do_sample else [None] * batch,
            "committed": shown_words(committed, prompts),
            "glossary": glossaries(glossary, prompts),
        }
        shared = {
            "max_new_tokens": None if limit >= _FROM_SOURCE else limit,
            "started": started,
            **row_options(generation_config, logits_processor, stopping_criteria, max_word_tokens),
        }
        rows = make_rows(row_decoder or RowDecoder, columns, shared, streamer)
        forwards = decode_rows(self, cache, rows, synced_gpus)
        if streamer is not None:
            streamer.end()
        sequences = _sequences(rows, generation_config, device)
        whole = generation_config.return_dict_in_generate
        return _output(rows, sequences, cache, forwards, self.config.vocab_size) if whole else sequences

    def _fit_prompts(self, prompt: Prompt | Sequence[Prompt], batch: int, cache: SimulCache) -> list[Prompt]:
        """The prompt of each row, with the word rule for this model's vocabulary."""
        prompts = of_rows("prompt", prompt, batch)
        # Once for each language, since the word rule is as large as the vocabulary.
        fitted = {id(each): each.fit(self) for each in {id(each): each for each in prompts}.values()}
        for each in fitted.values():
            check_room(self.config, cache.max_tokens, len(each.head), len(each.tail))
        return [fitted[id(each)] for each in prompts]


def _output(
    rows: Sequence[RowDecoder], sequences: torch.LongTensor, cache: SimulCache, forwards: int, vocab_size: int
) -> SimulGenerateOutput:
    keeps_logits = rows[0].keeps_logits
    return SimulGenerateOutput(
        sequences=sequences,
        logits=tuple(_stack(row.logits, vocab_size) for row in rows) if keeps_logits else None,
        words=[row.words for row in rows],
        delays=[row.delays for row in rows],
        elapsed_ms=[row.elapsed_ms for row in rows],
        stop_reasons=[row.stop_reason for row in rows],
        queries=[row.queries for row in rows],
        forwards=forwards,
        **{CACHE_NAME: cache},
    )


@contextmanager
def telling(streamer: Any) -> Iterator[None]:
    """End the streamer too if an error is raised in here: who iterates over it in another thread would wait for ever.

    Args:
        streamer (`BaseStreamer`, *optional*): a [`SimulStreamer`] gets the error; a stock one knows only an end.
    """
    try:
        yield
    except BaseException as error:
        if hasattr(streamer, "fail"):
            streamer.fail(error)
        elif streamer is not None:
            streamer.end()
        raise


def _check_inputs(source: Any, prompt: Any, batch: int, processors: LogitsProcessorList) -> None:
    if source is None or prompt is None:
        raise ValueError("source and prompt must be given with a policy: pass **processor(source=...).")
    if batch > 1 and any(isinstance(each, PrefixConstrainedLogitsProcessor) for each in processors):
        # Rows are shown to processors one at a time, so that each would be its row 0.
        raise ValueError(f"prefix_allowed_tokens_fn must have a batch of one with a policy, got {batch} rows.")


def _cache_for(cache: Any, batch: int) -> SimulCache:
    # generate() has made a cache of its own unless the user passed one.
    if not getattr(cache, "_is_user_defined", False):
        return SimulCache(batch)
    if not hasattr(cache, "place"):
        raise ValueError(f"{CACHE_NAME} must be a SimulCache with a policy, got {type(cache).__name__}.")
    taken: SimulCache = cache
    if taken.batch_size != batch or taken.get_seq_length():
        raise ValueError(
            f"{CACHE_NAME} must be empty and hold {batch} rows, got {taken.batch_size} rows and "
            f"{taken.get_seq_length()} tokens."
        )
    return taken


def _stack(logits: list[torch.Tensor], vocab_size: int) -> torch.Tensor:
    return torch.stack(logits) if logits else torch.zeros(0, vocab_size)


def _sequences(rows: list[RowDecoder], generation_config: GenerationConfig, device: torch.device) -> torch.Tensor:
    prompts = [row.prompt_ids for row in rows]
    targets = [row.target + ([row.rule.eos_token_id] if row.stop_reason == "eos" else []) for row in rows]
    left, right = max(map(len, prompts)), max(map(len, targets))
    stored = generation_config._pad_token_tensor
    pad = rows[0].rule.eos_token_id if stored is None else int(stored)
    table = [
        [pad] * (left - len(prompt)) + prompt + target + [pad] * (right - len(target))
        for prompt, target in zip(prompts, targets, strict=True)
    ]
    return torch.tensor(table, dtype=torch.long, device=device)


__all__ = ["SimulGenerateOutput", "SimulGenerationMixin", "telling"]
