# SPDX-License-Identifier: Apache-2.0
"""Rows without room: each ends alone, before the forward; what can never fit is refused."""

import random
from types import SimpleNamespace

import pytest

from families import ROTARY, make_family
from test_generation import Babble, feed_later, run
from transformers_simul import OfflinePolicy, SimulCache, SourceStream, StreamEngine, WaitKPolicy
from transformers_simul.models.decoding import decode_step
from transformers_simul.models.positions import check_positions
from transformers_simul.models.room import check_room, has_positions
from transformers_simul.models.row import Ask
from transformers_simul.models.schedule import Schedule, training_row

LONG = "a dog runs over the green meadow while two children watch him jumping " * 3


def limited(processor, limit):
    """A model, or a cache, with no room for the long source."""
    if limit == "reserved":
        return make_family("Llama", processor, "reserved", target_start=16), "max_positions"
    if limit == "cache":
        return make_family("Llama", processor), "max_tokens"
    return make_family("Llama", processor, limit, max_position_embeddings=40), "max_positions"


@pytest.mark.parametrize("limit", [*ROTARY, "cache"])
def test_a_row_without_room_ends_alone(processor, limit):
    model, reason = limited(processor, limit)
    texts, policies = ["a", LONG, "two dog"], [WaitKPolicy(1), OfflinePolicy(), WaitKPolicy(1)]
    options = {"max_new_tokens": 8}

    def caches(rows):
        return options | ({"past_key_values": SimulCache(rows, max_tokens=40)} if limit == "cache" else {})

    alone = run(model, processor, texts[::2], policies[::2], **caches(2))
    for sources in (texts, feed_later(texts)):
        rows = run(model, processor, sources, policies, **caches(3))
        assert rows.stop_reasons == [alone.stop_reasons[0], reason, alone.stop_reasons[1]]
        assert rows.words == [alone.words[0], [], alone.words[1]]
    engine = StreamEngine(model, processor, max_streams=3, max_tokens=40 if limit == "cache" else 400)
    streams = []
    for text, policy in zip(texts, policies, strict=True):
        streams.append(engine.open(policy, logits_processor=[Babble(processor.token_kinds)], **options))
        streams[-1].source.put(text)
        streams[-1].source.end()
    while engine.active_streams:
        engine.step()
    assert [stream.stop_reason for stream in streams] == rows.stop_reasons
    assert [[word.text for word in stream.words] for stream in streams] == [*map(processor.words, rows.words)]


@pytest.mark.parametrize("positions", ROTARY)
def test_what_was_committed_before_stays(processor, positions):
    settings = {"target_start": 24} if positions == "reserved" else {}
    outputs = []
    for limit in (50, 2048):
        model = make_family("Llama", processor, positions, max_position_embeddings=limit, **settings)
        source = SourceStream("a dog")
        source.end()
        options = {"suppress_tokens": [0], "max_new_tokens": 90, "max_word_tokens": 4}
        outputs.append(run(model, processor, [source], WaitKPolicy(1), **options))
    short, long = outputs
    assert (short.stop_reasons, long.stop_reasons) == (["max_positions"], ["max_new_tokens"])
    count = len(short.words[0])
    assert count > 0
    assert short.words[0] == long.words[0][:count]
    assert short.delays[0] == long.delays[0][:count]
    # No beginning of a word that did not end.
    target = [token for word in short.words[0] for token in word]
    assert short.sequences[0].tolist()[-len(target) :] == target


def test_rows_are_held_against_the_same_bounds_as_training_rows():
    draw = random.Random(0)
    fitting = 0
    for _ in range(600):
        positions = draw.choice(ROTARY)
        head, source, tail, target = (draw.randint(1, 6) for _ in range(4))
        config = SimpleNamespace(
            has_alibi=False, positions=positions, max_position_embeddings=draw.randint(4, 24),
            first_target_position=0 if positions == "own_frame" else draw.randint(0, 12),
        )  # fmt: skip
        row = training_row([5] * head, [[5]] * source, [5] * tail, [[5]] * target, 0, [source] * (target + 1))
        ask = Ask([5] * (head + source), 0, [5] * (tail + target + 1), 0, head + source)
        try:
            check_positions(
                Schedule.of_row(row), positions, config.first_target_position, config.max_position_embeddings
            )
        except ValueError:
            assert not has_positions(config, ask)
        else:
            assert has_positions(config, ask)
            fitting += 1
    assert 50 < fitting < 550


def test_what_can_never_fit_is_refused_at_once(processor):
    prompt = len(processor.head_ids) + len(processor.tail_ids)
    model = make_family("Llama", processor)
    check_room(model.config, prompt + 2, len(processor.head_ids), len(processor.tail_ids))
    with pytest.raises(ValueError, match=rf"max_tokens of the cache is {prompt + 1}, but .* need {prompt + 2}"):
        StreamEngine(model, processor, max_tokens=prompt + 1)
    small = make_family("Llama", processor, max_position_embeddings=prompt + 1)
    with pytest.raises(ValueError, match=f"max_position_embeddings of the model is {prompt + 1} .*no room"):
        StreamEngine(small, processor)
    few = make_family("Llama", processor, "reserved", target_start=2)
    with pytest.raises(ValueError, match="target_start=2, which leaves no room"):
        few.generate(**processor(source="a"), policy=WaitKPolicy(1))
    with pytest.raises(ValueError, match="row 0 must fit the model's max_position_embeddings"):
        decode_step(small, SimulCache(1), {0: Ask([5] * 90, 0, [5], 0, 90)})
