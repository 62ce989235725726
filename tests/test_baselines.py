# SPDX-License-Identifier: Apache-2.0
"""The paper's other systems: their rows, and their decoding against oracles that share no code with it."""

import random

import pytest
import torch
from transformers import LogitsProcessorList
from transformers.models.falcon.modeling_falcon import FalconForCausalLM

from helpers import random_sentence
from test_generation import POLICIES, Babble, feed_later
from transformers_simul import FixedChunkPolicy, OfflinePolicy, SimulMaskDataCollator, WaitKPolicy
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.research.baselines import (
    SYSTEMS,
    ConverseDataCollator,
    ConverseDecoder,
    PrefixDataCollator,
    PublishedRowsDataCollator,
    RecomputingDecoder,
)

PAIR = {"source": "two children watch him", "target": "remarkably high today"}


def decode(model, processor, sources, policy, decoder, live=False):
    return model.generate(
        **processor(source=feed_later(sources) if live else sources),
        policy=policy,
        row_decoder=decoder,
        max_new_tokens=30,
        return_dict_in_generate=True,
        output_logits=True,
        logits_processor=LogitsProcessorList([Babble(processor.token_kinds)]),
    )


@pytest.fixture(scope="module")
def stock(model):
    """Stock Falcon with the same weights: knows nothing of schedules or caches of ours."""
    network = FalconForCausalLM._from_config(model.config, attn_implementation="sdpa").eval()
    network.load_state_dict(model.state_dict())

    def last_logits(ids):
        with torch.no_grad():
            return network(torch.tensor([ids]), use_cache=False).logits[0, -1]

    return last_logits


def sentences(seed, count):
    draw = random.Random(seed)
    return [random_sentence(draw, 3, 8) for _ in range(count)]


def read_tokens(words, count):
    return [token for word in words[:count] for token in word]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("policy", POLICIES[:4], ids=repr)
def test_recomputing_equals_a_causal_model_over_what_was_read(model, processor, stock, policy, live):
    sources, recomputed = sentences(5, 4), 0
    output = decode(model, processor, sources, policy, RecomputingDecoder, live)
    for row, text in enumerate(sources):
        source, queries = processor.encode(text), output.queries[row]
        target = [token for word in output.words[row] for token in word]
        behind = processor.tail_ids + target
        for query, logits in zip(queries, output.logits[row], strict=True):
            ids = processor.head_ids + read_tokens(source, query.visible_words) + behind[: query.offset + 1]
            assert (stock(ids) - logits).abs().max() <= 1e-5
        recomputed += len(queries) - len({query.offset for query in queries})
    assert recomputed > 0


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("policy", POLICIES[:4], ids=repr)
def test_conversation_equals_one_causal_forward_over_its_turns(model, processor, stock, policy, live):
    sources, turns = sentences(6, 4), 0
    output = decode(model, processor, sources, policy, ConverseDecoder, live)
    for row, text in enumerate(sources):
        source = processor.encode(text)
        target = [token for word in output.words[row] for token in word]
        conversation, shown, written = list(processor.head_ids), 0, 0
        for query, logits in zip(output.queries[row], output.logits[row], strict=True):
            if query.visible_words > shown or (not written and query.offset == len(processor.tail_ids) - 1):
                conversation += [processor.eos_token_id] if shown or len(conversation) > len(processor.head_ids) else []
                conversation += read_tokens(source, query.visible_words)[len(read_tokens(source, shown)) :]
                conversation += processor.tail_ids
                shown, turns = query.visible_words, turns + 1
            else:
                conversation.append(target[written])
                written += 1
            assert (stock(conversation) - logits).abs().max() <= 1e-5
    assert turns > len(sources)


@pytest.mark.parametrize("decoder", [RecomputingDecoder, ConverseDecoder])
def test_a_stream_gets_the_same_ids_alone_live_and_in_a_batch(model, processor, decoder):
    sources = sentences(7, 4)
    together = decode(model, processor, sources, WaitKPolicy(2), decoder)
    live = decode(model, processor, sources, WaitKPolicy(2), decoder, live=True)
    for row, source in enumerate(sources):
        alone = decode(model, processor, [source], WaitKPolicy(2), decoder)
        assert alone.words[0] == together.words[row] == live.words[row]
        assert alone.delays[0] == together.delays[row] == live.delays[row]


def rows_of(batch):
    """Ids and labels of each row, of lines that several may share."""
    rows = []
    for ids, labels, pair_ids in zip(batch["input_ids"], batch["labels"], batch["pair_ids"], strict=True):
        for number in range(1, int(pair_ids.max()) + 1):
            rows.append((ids[pair_ids == number].tolist(), labels[pair_ids == number].tolist()))
    return rows


def test_prefix_rows_are_plain_and_teach_each_token_once(processor):
    rows = rows_of(PrefixDataCollator(processor, WaitKPolicy(1))([PAIR]))
    source, target = (processor.encode(PAIR[side]) for side in ("source", "target"))
    head, tail, eos = processor.head_ids, processor.tail_ids, processor.eos_token_id
    expected = []
    for read, start, stop in [(1, 0, 1), (2, 1, 2), (3, 2, 3), (4, 3, 3)]:
        ids = head + sum(source[:read], []) + tail + sum(target[:stop], []) + [eos]
        learnt = sum(target[start:stop], []) + [eos]
        expected.append((ids, [-100] * (len(ids) - len(learnt)) + learnt))
    assert sorted(rows) == sorted(expected)
    offline = PrefixDataCollator(processor, OfflinePolicy())([PAIR])
    causal = SimulMaskDataCollator(processor, OfflinePolicy(), peek_rows=0)([PAIR])
    assert all(offline[name].equal(causal[name]) for name in causal)


def test_prefix_rows_share_lines_without_seeing_each_other(model, processor, stock):
    """The batch's loss is that of the stock model on each row alone."""
    draw = random.Random(3)
    pairs = [{"source": random_sentence(draw, 2, 9), "target": random_sentence(draw, 2, 9)} for _ in range(4)]
    batch = PrefixDataCollator(processor, WaitKPolicy(2), max_length=200)(pairs)
    rows = rows_of(batch)
    lines, length = batch["input_ids"].shape
    assert lines < len(rows)
    assert length == max(len(ids) for ids, _ in rows)
    # Packing goes further, up to max_length.
    packed = PrefixDataCollator(processor, WaitKPolicy(2), max_length=200, packing=True)(pairs)
    assert sorted(rows_of(packed)) == sorted(rows)
    assert length < packed["input_ids"].shape[1] <= 200
    losses = []
    for ids, labels in rows:
        for place, label in enumerate(labels):
            if label != -100:
                losses.append(-stock(ids[:place]).log_softmax(-1)[label].item())
    with torch.no_grad():
        loss = model(**batch).loss.item()
    assert loss == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_turns_are_one_causal_row(processor):
    batch = ConverseDataCollator(processor, FixedChunkPolicy(2, 1))([PAIR])
    source, target = (processor.encode(PAIR[side]) for side in ("source", "target"))
    tail, eos = processor.tail_ids, processor.eos_token_id
    turns = [(source[:2], target[:1]), (source[2:], target[1:])]
    ids, labels = list(processor.head_ids), [-100] * len(processor.head_ids)
    for read, written in turns:
        ids += sum(read, []) + tail + sum(written, []) + [eos]
        labels += [-100] * (len(sum(read, [])) + len(tail)) + sum(written, []) + [eos]
    assert batch["input_ids"][0].tolist() == ids
    assert batch["labels"][0].tolist() == labels
    assert batch["offsets"][0].tolist() == list(range(len(ids)))


def test_a_conversation_streams_what_its_training_row_gives(model, processor):
    """Streamed == trained for converse: where the policy alone READs, the fed row is the collator's, logit by logit."""
    sources, compared, turns = sentences(9, 40), 0, 0
    for policy in (WaitKPolicy(1), WaitKPolicy(3), FixedChunkPolicy(2, 2), FixedChunkPolicy(4, 1)):
        output = decode(model, processor, sources, policy, ConverseDecoder)
        for row, text in enumerate(sources):
            source, words, delays = processor.encode(text), output.words[row], output.delays[row]
            scheduled = policy.delays(len(source), len(words) + 1)
            if output.stop_reasons[row] != "eos" or scheduled[:-1] != [*delays, len(source)]:
                continue  # EOS before the end READs outside the schedule
            collator = ConverseDataCollator(processor, policy)
            (trained,) = collator.make_rows(source, words, policy, None)
            fields = {name: torch.tensor([values]) for name, values in trained.items() if name != "labels"}
            with torch.no_grad():
                logits = model(**fields, use_cache=False).logits[0]
            asked = [index for index, label in enumerate(trained["labels"][1:]) if label != -100]
            assert len(asked) == len(output.logits[row])
            assert (logits[asked] - output.logits[row]).abs().max() <= 1e-5
            compared, turns = compared + 1, turns + trained["input_ids"].count(processor.eos_token_id)
    assert compared > 5
    assert turns > compared


def test_published_rows_differ_inside_long_words_only(processor):
    right = SimulMaskDataCollator(processor, WaitKPolicy(1), peek_rows=0)([PAIR])
    published = PublishedRowsDataCollator(processor, WaitKPolicy(1))([PAIR])
    differ = (right["visible_source"] != published["visible_source"])[0]
    words = processor.encode(PAIR["target"])
    start = len(processor.head_ids) + sum(map(len, processor.encode(PAIR["source"]))) + len(processor.tail_ids)
    inside = []
    for word in words:
        inside += range(start, start + len(word) - 1)
        start += len(word)
    assert differ.nonzero()[:, 0].tolist() == inside
    assert inside
    assert right["input_ids"].equal(published["input_ids"])


def test_the_list_holds_the_papers_systems():
    names = [system.name for system in SYSTEMS]
    assert names[:8] == [
        "causal-offline",
        "causal-rec",
        "causal-norec",
        "prefix-rec",
        "prefix-norec",
        "converse-norec",
        "SM-norec",
        "SM-norec-mod",
    ]
    assert all(issubclass(system.row_decoder, RowDecoder) for system in SYSTEMS)
    assert len({system.training.name for system in SYSTEMS}) == 6
