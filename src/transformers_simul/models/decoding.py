# SPDX-License-Identifier: Apache-2.0
"""The decoding step, one for known, live and many streams: rows ask, one forward answers all that are ready."""

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import torch

from .audio_units import source_features
from .cache import SimulCache
from .choosing import Answer, answers_of
from .head_attention import AttentionProbe
from .room import has_positions, with_room
from .row import Ask, RowStopped
from .row_decoder import RowDecoder
from .schedule import Schedule
from .seam import DecodingConfig, DecodingModel

# How far a process is; the furthest decides what all do.
_DONE, _WAITS, _ASKS = range(3)
# How long one that waits for source sleeps before it looks what the others do.
_SYNC_S = 0.01
# What a row asks whose life is over.
_OVER = object()
_Run = Generator[Ask | None, Any, None]


@torch.inference_mode()
def decode_step(model: DecodingModel, cache: SimulCache, asks: Mapping[int, Ask]) -> dict[int, list[Answer]]:
    """Answer all rows that ask, with one forward.

    Args:
        model: takes `input_ids`, a schedule and the cache.
        cache (`SimulCache`): with a row for each ask.
        asks (`Mapping[int, Ask]`): by row of the cache.

    Returns:
        `dict[int, list[Answer]]`: for each row as many as it asked for: what its last tokens say comes next.

    Raises:
        ValueError: if a row outgrows the cache or the model's positions; [`with_room`] tells before.
    """
    rows = sorted(asks)
    for row in rows:
        if not has_positions(model.config, asks[row]):
            raise ValueError(f"row {row} must fit the model's max_position_embeddings and target_start, but does not.")
    columns = [_columns(asks[row]) for row in rows]
    counts = [asks[row].tokens for row in rows]
    table = torch.tensor([[*chain(*lists)] for lists in zip(*columns, strict=True)], device=model.device)[:, None]
    ids, in_target, offsets, visible_source = table
    schedule = Schedule(torch.ones_like(ids), in_target.bool(), offsets, visible_source, torch.zeros_like(ids))
    step = cache.place(rows, counts, [asks[row].forgets for row in rows], schedule)

    answers = [asks[row].answers for row in rows]
    wishes = [(asks[row].attention, size) for row, size in zip(rows, answers, strict=True)]
    if any(wish is not None for wish, _ in wishes):
        step.probe = AttentionProbe(step, wishes)
    asked = [end - back for end, size in zip(accumulate(counts), answers, strict=True) for back in range(size, 0, -1)]
    kept = torch.tensor(asked, device=model.device)
    extra = Schedule.fields_in(schedule._asdict()) | source_features(
        chain.from_iterable(asks[row].source_ids for row in rows)
    )
    outputs = model(ids, past_key_values=step, logits_to_keep=kept, return_dict=True, **extra)
    if step.probe is not None:
        step.probe.answer()
    rules = [asks[row].rule for row, size in zip(rows, answers, strict=True) for _ in range(size)]
    found = iter(answers_of(outputs.logits[0].float(), rules))
    return {row: [next(found) for _ in range(size)] for row, size in zip(rows, answers, strict=True)}


def _columns(ask: Ask) -> tuple[list[int], list[int], list[int], list[int]]:
    """Ids, `in_target`, `offsets` and `visible_source` of one row's tokens."""
    source, target = len(ask.source_ids), len(ask.target_ids)
    before = range(ask.source_offset, ask.source_offset + source)
    after = range(ask.target_offset, ask.target_offset + target)
    ids = [*ask.source_ids, *ask.target_ids]
    offsets, visible = [*before, *after], [*(offset + 1 for offset in before), *[ask.visible_source] * target]
    if ask.copies:
        again = len(ask.copies)
        ids, offsets = [*ids, *ids[-1:] * again], [*offsets, *offsets[-1:] * again]
        visible += ask.copies
    return ids, [0] * source + [1] * (len(ids) - source), offsets, visible


def decode_rows(
    model: DecodingModel,
    cache: SimulCache,
    rows: Sequence[RowDecoder],
    synced: bool = False,
    following: Callable[[int], RowDecoder | None] = lambda index: None,
) -> int:
    """Run rows to their ends, together. Rows whose source has nothing yet are left out until it has; the call blocks
    only when none can go on. A row that has no room for what it asks ends alone.

    Args:
        model, cache: as in [`decode_step`].
        rows (`Sequence[RowDecoder]`): at most as many as the cache has.
        synced (`bool`, *optional*): every process decodes rows of its own, and no forward can end before all have
            joined it (ZeRO-3, FSDP): those with nothing to ask go along until the last has finished.
        following (`Callable[[int], RowDecoder | None]`, *optional*): called with the index of a row that has ended,
            gives the one that takes its place, for which it clears the cache; None leaves the place empty.

    Returns:
        `int`: the number of forwards that answered a row.

    Raises:
        ValueError: as [`decode_step`] and [`RowDecoder`].
    """
    arrived = threading.Event()
    rows = list(rows)
    runs = [_begin(row, arrived) for row in rows]
    forwards = 0
    # What each row is sent next: its answer, or None to begin or to look for source again.
    pending: dict[int, list[Answer] | None] = dict.fromkeys(range(len(rows)))
    while pending or synced:
        arrived.clear()
        asks: dict[int, Ask] = {}
        waiting: dict[int, list[Answer] | None] = {}
        for index, answer in pending.items():
            while (ask := _next_ask(runs[index], answer, model.config, cache, index)) is _OVER:
                row = following(index)
                if row is None:
                    break
                rows[index], runs[index], answer = row, _begin(row, arrived), None
            if ask is None:
                waiting[index] = None
            elif ask is not _OVER:
                asks[index] = ask
        others = _others(model, _ASKS if asks else _WAITS if waiting else _DONE) if synced else _DONE
        pending = waiting
        if asks:
            pending = {**waiting, **decode_step(model, cache, asks)}
            forwards += 1
        elif others == _ASKS:
            _go_along(model)
        elif waiting:
            waits = [wait for index in waiting if (wait := rows[index].source.wait_s) is not None]
            if synced:
                # Another process may be the next to ask.
                waits.append(_SYNC_S)
            arrived.wait(min(waits, default=None))
        elif others == _DONE:
            break
        else:
            time.sleep(_SYNC_S)
    return forwards


def _begin(row: RowDecoder, arrived: threading.Event) -> _Run:
    """Begin a row, whose source says when it has something."""
    if not row.source.is_known:
        row.source.listen(arrived.set)
    return row.run()


def _next_ask(run: _Run, answer: list[Answer] | None, config: DecodingConfig, cache: SimulCache, index: int) -> Any:
    """Return what a row asks next; None while it waits for source, and `_OVER` at its end."""
    try:
        ask, reason = with_room(run, run.send(answer), config, cache, index)
        if reason:
            run.throw(RowStopped(reason))
    except StopIteration:
        return _OVER
    return ask


def _others(model: DecodingModel, state: int) -> int:
    """The state of the process that needs the others most; all must call it."""
    states = torch.tensor(state, device=model.device)
    torch.distributed.all_reduce(states, torch.distributed.ReduceOp.MAX)
    return int(states)


@torch.inference_mode()
def _go_along(model: DecodingModel) -> None:
    """Take part in a forward that only other processes need."""
    model(torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False, logits_to_keep=1)


__all__ = ["decode_rows", "decode_step"]
