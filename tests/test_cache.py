# SPDX-License-Identifier: Apache-2.0
"""Slots: given up ones are taken again, what is forgotten is seen by nobody, steps split and join without loss."""

import random

import pytest
import torch

from transformers_simul import SimulCache
from transformers_simul.models.schedule import Schedule


def tokens(offsets):
    ids = torch.tensor([offsets])
    one = torch.ones_like(ids)
    return Schedule(one, one.bool(), ids, one, 0 * one)


def feed(cache, rows, counts, forgets, first):
    """Feed numbered tokens; keys and values carry their number."""
    numbers = list(range(first, first + sum(counts)))
    cache.place(rows, counts, forgets, tokens(numbers))
    states = torch.tensor(numbers, dtype=torch.float32)[None, None, :, None]
    return cache.update(states, -states, 0), numbers


@pytest.mark.parametrize("max_tokens", [None, 400])
def test_a_row_holds_what_came_and_was_not_forgotten(max_tokens):
    """Against plain lists, at random: any rows, any counts, any entries forgotten."""
    draw = random.Random(0)
    cache, held = SimulCache(4, max_tokens), [[] for _ in range(4)]
    begun: list[list[int]] = [[] for _ in range(4)]  # the first two tokens since a row was cleared
    first = 1
    for _ in range(120):
        rows = sorted(draw.sample(range(4), draw.randint(1, 4)))
        counts = [draw.randint(1, 5) for _ in rows]
        forgets = [sorted(draw.sample(range(len(held[row])), min(len(held[row]), draw.randint(0, 3)))) for row in rows]
        (keys, values), numbers = feed(cache, rows, counts, forgets, first)
        first += len(numbers)
        for row, count, forget in zip(rows, counts, forgets, strict=True):
            newest_first = held[row][::-1]
            held[row] = [each for index, each in enumerate(newest_first) if index not in forget][::-1]
            held[row] += [numbers.pop(0) for _ in range(count)]
            begun[row] = begun[row] or held[row][:2]
        schedule = cache.schedule
        for index, row in enumerate(rows):
            taken = schedule.pair_ids[index] > 0
            assert sorted(schedule.offsets[index][taken].tolist()) == sorted(held[row])
            assert sorted(keys[index, 0, taken, 0].tolist()) == sorted(held[row])
            assert torch.equal(keys[index, 0, taken], -values[index, 0, taken])
            assert torch.equal(keys[index, 0, taken, 0].int(), schedule.offsets[index][taken])
        if draw.random() < 0.1:
            row = draw.randrange(4)
            whole = len(begun[row]) == 2 and held[row][:2] == begun[row]
            cache.clear(row, keep=2 if whole else 0)
            held[row] = begun[row] = begun[row] if whole else []
        assert [cache.used_tokens(row) for row in range(4)] == [len(each) for each in held]
        assert cache.get_seq_length() == max(map(len, held))


def test_split_and_join():
    cache = SimulCache(3)
    feed(cache, [0, 2], [1, 3], [(), ()], 1)
    step = torch.arange(4)[None, :, None] + 1.0
    assert cache.split(step)[..., 0].tolist() == [[1, 0, 0], [2, 3, 4]]
    assert torch.equal(cache.join(cache.split(step)), step)
    assert cache.slots.tolist() == [[0, 0, 0], [0, 1, 2]]


@pytest.mark.parametrize(
    ("rows", "counts", "forgets", "message"),
    [
        ([0], [6], [()], "max_tokens of the cache is 5, but stream 0 needs 6"),
        ([0], [1], [(0,)], "must lie below the 0 tokens that stream 0 holds"),
        ([1, 0], [1, 1], [(), ()], r"rows must ascend, got \[1, 0\]"),
    ],
)
def test_what_does_not_fit_is_refused(rows, counts, forgets, message):
    with pytest.raises(ValueError, match=message):
        feed(SimulCache(2, 5), rows, counts, forgets, 1)
