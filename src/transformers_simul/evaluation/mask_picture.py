# SPDX-License-Identifier: Apache-2.0
"""The law for the eye: the training mask of a sentence pair beside the attention that decoding really performed."""

import os
from typing import Any, NamedTuple

import numpy
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from ..models.cache import CacheStep, SimulCache
from ..models.masking import Pattern, visible
from ..models.policies import Policy
from ..models.schedule import WORD_ENDS, Peek, Schedule, training_row
from .plots import plot_masks


class MaskPicture(NamedTuple):
    """What was drawn.

    Attributes:
        trained (`numpy.ndarray` of shape `(queries, keys)`): 1 where the training mask lets a query see a key; of one
            layer and head, the attention of one training forward.
        decoded (`numpy.ndarray` of shape `(queries, keys)`): attention while streaming, the largest of all heads and
            layers, or of the one; exactly 0 where a key was not seen.
        queries, keys (`list[str]`): labels; provisional rows come last and end with "?".
        logit_difference (`float`): largest difference between a streamed logit and that of one masked training forward.
    """

    trained: numpy.ndarray
    decoded: numpy.ndarray
    queries: list[str]
    keys: list[str]
    logit_difference: float

    @property
    def agreement(self) -> tuple[int, int]:
        """Cells in which both let see or both hide, and all cells."""
        return int(((self.trained > 0) == (self.decoded > 0)).sum()), self.trained.size


def draw_mask(
    path: str | os.PathLike,
    model: Any,
    processor: Any,
    source: str,
    target: str,
    policy: Policy,
    layer: int | None = None,
    head: int | None = None,
) -> MaskPicture:
    """Draw who sees whom when `target` is written while `source` is read; or one head's attention, in training and
    while decoding.

    The target is forced through a logits processor, token by token; the decoder runs as always.

    Args:
        path (`str` or `os.PathLike`): a PNG or SVG file.
        model: of any family, loaded with `attn_implementation="eager"`, which returns its attention.
        processor (`SimulProcessor`): saved beside it.
        source, target (`str`): a sentence pair.
        policy (`Policy`): when to READ and WRITE.
        layer, head (`int`, *optional*): both from 0, or neither.

    Raises:
        ValueError: if the model computes attention in another way, or has no such layer or head.

    Example:

    ```python
    >>> import os, tempfile
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.evaluation.mask_picture import draw_mask
    >>> eager = type(model)._from_config(model.config, attn_implementation="eager").eval()
    >>> path = os.path.join(tempfile.mkdtemp(), "mask.png")
    >>> picture = draw_mask(path, eager, processor, "a dog runs", "two children", WaitKPolicy(1))
    >>> same, cells = picture.agreement
    >>> same == cells
    True

    ```
    """
    if not model.config._attn_implementation.endswith("eager"):
        raise ValueError(
            f"model must have attn_implementation='eager' to show its attention, got "
            f"{model.config._attn_implementation!r}."
        )
    _check_head(model.config, layer, head)
    pair = processor.encode_pair(source, target)
    inputs = processor(source=source)
    forced = [token for word in pair["target_ids"] for token in word] + [processor.eos_token_id]
    cache = _RecordingCache(batch_size=1)
    recorder = _Recorder(cache, layer, head)
    hooks = [module.register_forward_hook(recorder) for module in model.base_model.attention_modules]
    try:
        output = model.generate(
            **inputs,
            policy=policy,
            past_key_values=cache,
            logits_processor=LogitsProcessorList([_Forced(forced, processor.tail_ids)]),
            max_new_tokens=len(forced) + 1,
            max_word_tokens=len(forced) + 1,
            return_dict_in_generate=True,
            output_logits=True,
        )
    finally:
        for hook in hooks:
            hook.remove()

    queries = output.queries[0]
    newest = {query.offset: index for index, query in enumerate(queries)}
    peeks = [
        Peek(query.offset, query.visible_words, WORD_ENDS)
        for index, query in enumerate(queries)
        if newest[query.offset] != index
    ]
    words = pair["source_ids"]
    delays = [*output.delays[0], len(words)]
    row = training_row(
        processor.head_ids, words, processor.tail_ids, pair["target_ids"], processor.eos_token_id, delays, peeks
    )
    schedule = Schedule.of_row(row)
    length = len(row["input_ids"])
    answers = _training_forward(model, row)
    if layer is None:
        trained = visible(Pattern.of(schedule), _widest(model.base_model.windows()))[0].int().numpy()
    else:
        trained = answers.attentions[layer][0, head].numpy().copy()
    decoded, eos = recorder.table(row), length - len(peeks) - 1
    # EOS is an answer and asks nothing while decoding; provisional rows are keys to nobody else.
    rows = [index for index in range(length) if index != eos]
    columns = [index for index in range(length - len(peeks)) if index != eos]
    for index in range(eos + 1, length):
        trained[index, _twin(row, index)] = trained[index, index]
    texts = [repr(processor.tokenizer.decode([token]))[1:-1] for token in row["input_ids"]]
    picture = MaskPicture(
        trained[numpy.ix_(rows, columns)],
        decoded[numpy.ix_(rows, columns)],
        [texts[index] + ("?" if index > eos else "") for index in rows],
        [texts[index] for index in columns],
        _logit_difference(answers.logits[0].float(), row, queries, newest, output.logits[0]),
    )
    if layer is None:
        panels = {"training mask": picture.trained, "attention while decoding (max)": picture.decoded}
    else:
        name = f"layer {layer}, head {head}"
        panels = {f"training: {name}": picture.trained, f"decoding: {name}": picture.decoded}
    plot_masks(path, panels, picture.queries, picture.keys)
    return picture


def _check_head(config: Any, layer: int | None, head: int | None) -> None:
    for name, value, count in (
        ("layer", layer, config.num_hidden_layers),
        ("head", head, config.num_attention_heads),
    ):
        if (layer is None) != (head is None) or (value is not None and not 0 <= value < count):
            raise ValueError(f"{name} must lie in 0..{count - 1}, with layer and head both given or neither: {value}.")


def _widest(windows: int | dict[str, int | None] | None) -> int | None:
    """The window of the layers that see most: what any layer sees."""
    kinds = list(windows.values()) if isinstance(windows, dict) else [windows]
    return None if None in kinds else max(kind for kind in kinds if kind is not None)


def _training_forward(model, row: dict[str, list]):
    """One masked training forward over the finished row, with attention."""
    fields = {name: torch.tensor([values]) for name, values in row.items() if name != "labels"}
    with torch.no_grad():
        return model(**fields, use_cache=False, output_attentions=True)


def _logit_difference(
    trained: torch.Tensor, row: dict[str, list], queries, newest: dict[int, int], streamed: torch.Tensor
) -> float:
    """The streamed answers against those of the training forward."""
    first = row["in_target"].index(True)
    provisional = iter(index for index, kind in enumerate(row["peeks"]) if kind)
    rows = [
        first + query.offset if newest[query.offset] == index else next(provisional)
        for index, query in enumerate(queries)
    ]
    return float((trained[rows] - streamed).abs().max())


def _twin(row: dict[str, list], peek: int) -> int:
    """The token that a peek row asks again: same place, no peek."""
    place = (True, row["offsets"][peek], 0)
    return list(zip(row["in_target"], row["offsets"], row["peeks"], strict=True)).index(place)


class _Forced(LogitsProcessor):
    """Lets only the next token of a given target through."""

    def __init__(self, forced: list[int], tail: list[int]):
        self.forced, self.tail = forced, tail

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        ids = input_ids[0].tolist()
        # What is shown ends with the tail and as much of the target as was written.
        written = next(
            count
            for count in range(len(self.forced))
            if ids[len(ids) - count - len(self.tail) :] == self.tail + self.forced[:count]
        )
        kept = torch.full_like(scores, -torch.inf)
        kept[:, self.forced[written]] = 0.0
        return kept


class _RecordingCache(SimulCache):
    """Keeps the newest step."""

    step: CacheStep

    def place(self, *args, **kwargs) -> CacheStep:
        self.step = super().place(*args, **kwargs)
        return self.step


class _Recorder:
    """Forward hook of the attention layers: attention of each asked token, by place rather than by slot; of one head,
    or the largest of all."""

    def __init__(self, cache: _RecordingCache, layer: int | None, head: int | None) -> None:
        self.cache, self.layer, self.head = cache, layer, head
        self.asked: dict[tuple[bool, int, int, int], dict[tuple[bool, int], float]] = {}
        self.step = 0

    def __call__(self, module, args, output) -> None:
        step, attention = self.cache.step, output[1]
        keys = step.keys
        places = list(zip(keys.in_target[0].tolist(), keys.offsets[0].tolist(), strict=True))
        strongest = attention[0].amax(0) if self.head is None else attention[0, self.head]
        self.step += module.layer_idx == 0
        if self.layer not in (None, module.layer_idx):
            return
        for query, slot in enumerate(step.slots[0].tolist()):
            seen = self.asked.setdefault((*places[slot], self.step, query), {})
            for key, weight in enumerate(strongest[query].tolist()):
                seen[places[key]] = max(seen.get(places[key], 0.0), weight)

    def table(self, row: dict[str, list]) -> numpy.ndarray:
        """Attention in the order of a training row; provisional rows take the questions in the order asked.
        A replacement that was asked for ahead and not needed comes last, and no row takes it."""
        length = len(row["input_ids"])
        tokens = [index for index in range(length) if not row["peeks"][index]]
        columns = {(row["in_target"][index], row["offsets"][index]): index for index in tokens}
        questions: dict[tuple[bool, int], list[dict]] = {}
        for (behind, offset, *_), seen in self.asked.items():
            questions.setdefault((behind, offset), []).append(seen)
        table = numpy.zeros((length, length))
        peeks = [index for index in range(length) if row["peeks"][index]]
        for index in peeks + tokens:
            waiting = questions.get((row["in_target"][index], row["offsets"][index]), [])
            if waiting:
                for place, weight in waiting.pop(0).items():
                    table[index, columns[place]] = weight
        return table


__all__ = ["MaskPicture", "draw_mask"]
