# SPDX-License-Identifier: Apache-2.0
"""A picture of the training mask of a sentence pair beside the attention that decoding performed."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy
import torch

from ..models.masking import Pattern, visible
from ..models.policies import Policy
from ..models.row import Query
from ..models.schedule import WORD_ENDS, Peek, Schedule, training_row
from .forced import AttentionRecorder, forced_decoder
from .plots import plot_masks


class MaskPicture(NamedTuple):
    """Training and decoding of one sentence pair, cell by cell.

    Attributes:
        trained (`numpy.ndarray` of shape `(queries, keys)`): 1 where the training mask lets a query see a key; or one
            head's attention in one training forward.
        decoded (`numpy.ndarray` of shape `(queries, keys)`): attention while streaming, the largest of all heads and
            layers, or that of one head; exactly 0 where a key was not seen.
        queries, keys (`list[str]`): labels; peek rows come last and end with "?".
        peek_rows (`int`): how many of the queries are peek rows.
        logit_difference (`float`): largest difference between a streamed logit and that of one masked training forward.
    """

    trained: numpy.ndarray
    decoded: numpy.ndarray
    queries: list[str]
    keys: list[str]
    peek_rows: int
    logit_difference: float

    @property
    def agreement(self) -> tuple[int, int]:
        """The number of cells in which training and decoding agree, and the number of all cells."""
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
    peek_rows: bool = True,
) -> MaskPicture:
    """Draw who sees whom when `target` is written while `source` is read; or one head's attention in training and
    decoding.

    The target is forced token by token; the decoder runs as always, and a policy that looks sees what the model would
    write. Questions before the first word that a READ follows are compared, each with a prompt of its own, but not
    drawn.

    Args:
        path (`str` or `os.PathLike`): a PNG or SVG file.
        model: of any family, loaded with `attn_implementation="eager"`, which returns its attention.
        processor (`SimulProcessor`): saved beside it.
        source, target (`str`): a sentence pair.
        policy (`Policy`): when to READ and WRITE.
        layer, head (`int`, *optional*): both, counted from 0, or neither.
        peek_rows (`bool`, *optional*): whether to draw the peek rows too. They are compared in any case.

    Raises:
        ValueError: if the model computes attention in another way, or has no such layer or head, or for a policy that
            drafts.

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
    _check_model(model.config, layer, head)
    if policy.draft_words:
        raise ValueError(f"policy must ask for no drafts, whose questions have no row in the picture, got {policy!r}.")
    policy = policy.for_model(model)
    pair = processor.encode_pair(source, target)
    recorder = AttentionRecorder(layer, head)
    output = _stream(model, processor, source, pair["target_ids"], policy, recorder)
    queries, tail = output.queries[0], len(processor.tail_ids)
    early = sum(query.offset < tail for query in queries) - 1
    provisional = _provisional(queries[early:])
    peeks = [Peek(query.offset, query.visible_words, WORD_ENDS) for query in provisional.values()]
    row = training_row(
        processor.head_ids,
        pair["source_ids"],
        processor.tail_ids,
        pair["target_ids"],
        processor.eos_token_id,
        [*output.delays[0], len(pair["source_ids"])],
        peeks,
    )
    answers = _training_forward(model, row)
    if layer is None:
        seen = visible(Pattern.of(Schedule.of_row(row)), _widest(model.base_model.windows()))[0].int().numpy()
    else:
        seen = answers.attentions[layer][0, head].numpy().copy()
    streamed = output.logits[0]
    differences = [
        _early_difference(model, processor, pair["source_ids"][: query.visible_words], answer)
        for query, answer in zip(queries[:early], streamed[:early], strict=True)
    ]
    differences.append(
        _logit_difference(answers.logits[0].float(), row, queries[early:], provisional, streamed[early:])
    )
    labels = [repr(processor.tokenizer.decode([token]))[1:-1].strip() or "␣" for token in row["input_ids"]]
    picture = _compare(row, labels, seen, recorder.table(row, early, tail), max(differences))
    _plot(path, picture, "" if layer is None else f"layer {layer}, head {head}", peek_rows)
    return picture


def _check_model(config: Any, layer: int | None, head: int | None) -> None:
    if not config._attn_implementation.endswith("eager"):
        raise ValueError(
            f"model must have attn_implementation='eager' to show its attention, got {config._attn_implementation!r}."
        )
    for name, value, count in (
        ("layer", layer, config.num_hidden_layers),
        ("head", head, config.num_attention_heads),
    ):
        if (layer is None) != (head is None) or (value is not None and not 0 <= value < count):
            raise ValueError(f"{name} must lie in 0..{count - 1}, with layer and head both given or neither: {value}.")


def _stream(
    model: Any,
    processor: Any,
    source: str,
    target: Sequence[Sequence[int]],
    policy: Policy,
    recorder: AttentionRecorder,
) -> Any:
    """Return what `generate()` returns for this source and, word by word, this target."""
    forced = [*(token for word in target for token in word), processor.eos_token_id]
    hooks = [module.register_forward_hook(recorder.hook) for module in model.base_model.attention_modules]
    try:
        return model.generate(
            **processor(source=source),
            policy=policy,
            past_key_values=recorder.cache,
            row_decoder=forced_decoder(forced),
            max_new_tokens=len(forced) + 1,
            max_word_tokens=len(forced) + 1,
            return_dict_in_generate=True,
            output_logits=True,
        )
    finally:
        for hook in hooks:
            hook.remove()


def _provisional(queries: Sequence[Query]) -> dict[int, Query]:
    """Return the questions that were asked again under more source, by number; training asks them in peek rows."""
    newest = {query.offset: number for number, query in enumerate(queries)}
    return {number: query for number, query in enumerate(queries) if newest[query.offset] != number}


def _training_forward(model: Any, row: dict[str, list]) -> Any:
    """Run one masked training forward over the finished row, with attention."""
    fields = {name: torch.tensor([values]) for name, values in row.items() if name != "labels"}
    with torch.no_grad():
        return model(**fields, use_cache=False, output_attentions=True)


def _early_difference(model: Any, processor: Any, source: list[list[int]], streamed: torch.Tensor) -> float:
    """Compare a question before the first word that a READ followed with a training forward over its prompt."""
    row = training_row(processor.head_ids, source, processor.tail_ids, [], processor.eos_token_id, [len(source)])
    return float((_training_forward(model, row).logits[0, -2].float() - streamed).abs().max())


def _logit_difference(
    trained: torch.Tensor,
    row: dict[str, list],
    queries: Sequence[Query],
    provisional: dict[int, Query],
    streamed: torch.Tensor,
) -> float:
    """Compare the streamed answers with those of the training forward."""
    first = row["in_target"].index(True)
    peeks = iter(index for index, kind in enumerate(row["peeks"]) if kind)
    indices = [next(peeks) if number in provisional else first + query.offset for number, query in enumerate(queries)]
    return float((trained[indices] - streamed).abs().max())


def _compare(
    row: dict[str, list], labels: list[str], trained: numpy.ndarray, decoded: numpy.ndarray, difference: float
) -> MaskPicture:
    """Return both tables of a row, in the rows and columns that both have."""
    length, peeks = len(labels), sum(kind > 0 for kind in row["peeks"])
    eos = length - peeks - 1
    for index in range(eos + 1, length):
        # Its key is stored while decoding; in training it is a key to itself only, in its own column.
        twin = row["in_target"].index(True) + row["offsets"][index]
        trained[index, twin] = trained[index, index]
    # EOS is an answer and asks nothing while decoding.
    rows, columns = [index for index in range(length) if index != eos], range(eos)
    cells = numpy.ix_(rows, columns)
    queries = [labels[index] + ("?" if index > eos else "") for index in rows]
    return MaskPicture(trained[cells], decoded[cells], queries, labels[:eos], peeks, difference)


def _widest(windows: int | dict[str, int | None] | None) -> int | None:
    """Return the window of the layers that see most, which is what any layer sees."""
    kinds = list(windows.values()) if isinstance(windows, dict) else [windows]
    return None if None in kinds else max(kind for kind in kinds if kind is not None)


def _plot(path: str | os.PathLike, picture: MaskPicture, head: str, peek_rows: bool) -> None:
    tokens = len(picture.queries) - picture.peek_rows
    drawn = len(picture.queries) if peek_rows else tokens
    titles = (f"training: {head}", f"decoding: {head}") if head else ("training mask", "attention while decoding (max)")
    panels = dict(zip(titles, (picture.trained[:drawn], picture.decoded[:drawn]), strict=True))
    caption = "Rows are queries, columns are keys."
    if drawn > tokens:
        caption += (
            f" Rows below the line, such as “{picture.queries[tokens]}”, are peek rows: before the next READ, the last "
            "token of a word is asked whether the word ends there; after the READ, its own row above replaces it."
        )
    plot_masks(path, panels, picture.queries[:drawn], picture.keys, caption, tokens)


__all__ = ["MaskPicture", "draw_mask"]
