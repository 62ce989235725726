# SPDX-License-Identifier: Apache-2.0
"""Slots: given up ones are taken again, what is forgotten is seen by nobody, steps split and join without loss."""

import random

import pytest
import torch
from transformers import LogitsProcessorList, SuppressTokensLogitsProcessor

from families import make_family
from helpers import make_model
from transformers_simul import OfflinePolicy, SimulCache, StreamEngine
from transformers_simul.models.schedule import Schedule


def tokens(offsets):
    ids = torch.tensor([offsets])
    one = torch.ones_like(ids)
    return Schedule(one, one.bool(), ids, one, 0 * one)


def feed(cache, rows, counts, forgets, first):
    """Feed numbered tokens; keys and values carry their number."""
    numbers = list(range(first, first + sum(counts)))
    step = cache.place(rows, counts, forgets, tokens(numbers))
    states = torch.tensor(numbers, dtype=torch.float32)[None, None, :, None]
    return step, step.update(states, -states, 0), numbers


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
        step, (keys, values), numbers = feed(cache, rows, counts, forgets, first)
        first += len(numbers)
        for row, count, forget in zip(rows, counts, forgets, strict=True):
            newest_first = held[row][::-1]
            held[row] = [each for index, each in enumerate(newest_first) if index not in forget][::-1]
            held[row] += [numbers.pop(0) for _ in range(count)]
            begun[row] = begun[row] or held[row][:2]
        schedule = step.keys
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
    step, _, _ = feed(cache, [0, 2], [1, 3], [(), ()], 1)
    states = torch.arange(4)[None, :, None] + 1.0
    assert step.split(states)[..., 0].tolist() == [[1, 0, 0], [2, 3, 4]]
    assert torch.equal(step.join(step.split(states)), states)
    assert step.slots.tolist() == [[0, 0, 0], [0, 1, 2]]


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


def test_what_is_given_back_leaves_no_numbers_behind():
    """Masks hide no NaN: neither may a row's own forgotten entries keep theirs, nor a row that is cleared."""
    cache = SimulCache(2)
    with torch.inference_mode():  # as decoding does; the cache grows, so that its tables are new
        feed(cache, [0, 1], [100, 1], [(), ()], 1)
        step = cache.place([0], [1], [(0, 3, 99)], tokens([500]))
        keys, values = step.update(torch.full((1, 1, 1, 1), torch.nan), torch.full((1, 1, 1, 1), torch.inf), 0)
    for table in (keys, values):
        assert table[0, 0, [96, 0], 0].tolist() == [0, 0]  # slot 99 is taken again at once
        assert not table[0, 0, 99].isfinite()
    assert step.keys.pair_ids[0].sum() == 98
    cache.clear(0, keep=0)
    with torch.inference_mode():
        _, (keys, values), _ = feed(cache, [0, 1], [1, 1], [(), ()], 900)
    for table in (keys, values):
        assert table.isfinite().all()
        assert table[0].count_nonzero() == 1


@pytest.mark.parametrize("backend", ["eager", "sdpa", "flex_attention"])
@pytest.mark.parametrize("family", ["Falcon", "Llama"])
def test_a_streams_nan_does_not_outlive_it(processor, backend, family):
    """The next stream in its place gets what it gets alone."""
    model = make_model(processor) if family == "Falcon" else make_family(family, processor)
    model = type(model)._from_config(model.config, attn_implementation=backend).eval()
    poison = processor.encode("today")[0][-1]
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.get_input_embeddings().weight[poison] = torch.nan
    engine = StreamEngine(model, processor, max_streams=2, max_tokens=200)
    rules = [SuppressTokensLogitsProcessor([poison, processor.eos_token_id])]

    def translate(source, tokens):
        stream = engine.open(OfflinePolicy(), logits_processor=rules, max_new_tokens=tokens)
        stream.source.put(source)
        stream.source.end()
        return stream

    # A neighbour that is longer, so that its steps read the others' rows far behind their ends.
    neighbour = translate("two children watch him jumping over the green meadow while a dog runs", 60)
    for source in ("a dog runs over the meadow today", "a dog", "today", "two children"):
        stream = translate(source, 5)
        while not stream.stop_reason:
            engine.step()
        if "today" in source:
            assert stream.stop_reason == "error"
            continue
        alone = model.generate(
            **processor(source=source), policy=OfflinePolicy(), max_new_tokens=5, return_dict_in_generate=True,
            logits_processor=LogitsProcessorList(rules),
        )  # fmt: skip
        assert [word.text for word in stream.words] == processor.words(alone.words[0])
    assert neighbour.stop_reason == ""
    engine.close()
