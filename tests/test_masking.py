# SPDX-License-Identifier: Apache-2.0
import random

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

import oracle
from helpers import make_processor, random_sentence
from transformers_simul import FixedChunkPolicy, OfflinePolicy, SimulMaskDataCollator, WaitKPolicy
from transformers_simul.models.masking import (
    Alibi,
    Pattern,
    additive_mask,
    alibi_slopes,
    flex_bias,
    flex_mask,
    ranks,
    unmodified,
    visible,
)
from transformers_simul.models.schedule import Peek, Schedule, due_peeks, training_row

POLICIES = [
    WaitKPolicy(1),
    WaitKPolicy(3),
    WaitKPolicy(2, catchup=0.25),
    FixedChunkPolicy(3, 2),
    FixedChunkPolicy(1, 1),
    OfflinePolicy(),
]
LAYOUTS = [
    {"padding_side": "right"},
    {"padding_side": "left"},
    {"packing": True, "max_length": 256},
    {"packing": True, "max_length": 256, "padding_side": "left", "pad_to_multiple_of": 16},
    {"peek_rows": 0},
]


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def schedule_of(batch):
    return Schedule(**Schedule.fields_in(batch))


def examples(seed, count=5):
    draw = random.Random(seed)
    return [{"source": random_sentence(draw), "target": random_sentence(draw)} for _ in range(count)]


def expected_rows(processor, policy, pairs, peeks):
    """The oracle's tokens for each pair, found again in the batch by their ids."""
    for pair in pairs:
        source, target = processor.encode(pair["source"]), processor.encode(pair["target"])
        g = policy.delays(len(source), len(target))
        lengths = [len(word) for word in source], [len(word) for word in target]
        tokens = oracle.tokens_of(len(processor.head_ids), lengths[0], len(processor.tail_ids), lengths[1], g, peeks)
        flat = processor.head_ids + [t for w in source for t in w] + processor.tail_ids
        flat += [t for w in target for t in w] + [processor.eos_token_id]
        yield tokens, [flat[token["twin"]] for token in tokens]


def place_of(batch, ids):
    """Row and first column of a pair in the batch."""
    for row in range(batch["input_ids"].shape[0]):
        for number in range(1, int(batch["pair_ids"][row].max()) + 1):
            columns = (batch["pair_ids"][row] == number).nonzero().flatten().tolist()
            if columns and batch["input_ids"][row, columns].tolist() == ids:
                assert columns == list(range(columns[0], columns[-1] + 1))
                return row, columns[0]
    raise AssertionError("the pair is not in the batch")


def assert_equals_oracle(batch, processor, policy, pairs, peeks, look=oracle.visible_keys, rank_of=oracle.rank_of_keys):
    schedule = schedule_of(batch)
    seen = visible(Pattern.of(schedule))
    rank = ranks(schedule, schedule)
    multi_token = peeked = 0
    for tokens, ids in expected_rows(processor, policy, pairs, peeks):
        row, first = place_of(batch, ids)
        for query, token in enumerate(tokens):
            keys = [first + key for key in look(tokens, query)]
            assert sorted(keys) == seen[row, first + query].nonzero().flatten().tolist()
            for key, expected in rank_of(tokens, query).items():
                assert rank[row, first + query, first + key] == expected
            kind = {"": 0, "word ends": 1, "eos": 2}[token["peek"]]
            assert batch["peeks"][row, first + query] == kind
            peeked += kind > 0
            multi_token += token["part"] == "target" and token["sees"] is not None and token["word"] is not None
    return multi_token, peeked


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_mask_ranks_and_peek_rows_equal_the_oracle(processor, policy, layout):
    peeked = multi_token = 0
    for seed in range(4):
        pairs = examples(seed)
        batch = SimulMaskDataCollator(processor, policy, **layout)(pairs)
        counts = assert_equals_oracle(batch, processor, policy, pairs, layout.get("peek_rows", 1) > 0)
        multi_token, peeked = multi_token + counts[0], peeked + counts[1]
    assert multi_token
    assert (peeked > 0) == (layout.get("peek_rows", 1) > 0 and not isinstance(policy, OfflinePolicy))


def off_by_one_word(tokens, query):
    """The paper's published grouping: non-final tokens of a word see one word too many."""
    shifted = [dict(token) for token in tokens]
    for index, token in enumerate(shifted[:-1]):
        if token["part"] == "target" and shifted[index + 1]["word"] == token["word"]:
            token["sees"] = token["sees"] + 1
    return oracle.visible_keys(shifted, query)


def peeks_as_keys(tokens, query):
    return sorted({*oracle.visible_keys(tokens, query), *(i for i, t in enumerate(tokens) if t["part"] == "peek")})


@pytest.mark.parametrize(
    "mutant",
    [
        {"look": off_by_one_word},
        {"look": peeks_as_keys},
        {"rank_of": oracle.plain_ranks},
        {"rank_of": lambda tokens, query: {k: r + (r > 9) for k, r in oracle.rank_of_keys(tokens, query).items()}},
    ],
)
def test_mutated_oracles_fail(processor, mutant):
    policy, pairs = WaitKPolicy(1), examples(0)
    batch = SimulMaskDataCollator(processor, policy)(pairs)
    with pytest.raises(AssertionError):
        assert_equals_oracle(batch, processor, policy, pairs, True, **mutant)


def test_no_attention_across_packed_pairs_and_padding_sees_itself_only(processor):
    batch = SimulMaskDataCollator(processor, WaitKPolicy(2), packing=True, max_length=256)(examples(1, 8))
    schedule = schedule_of(batch)
    seen = visible(Pattern.of(schedule))
    assert (batch["pair_ids"].max(-1).values > 1).any()
    for row, query, key in seen.nonzero().tolist():
        same = batch["pair_ids"][row, query] == batch["pair_ids"][row, key]
        assert same
        assert batch["pair_ids"][row, key] > 0 or query == key


def test_plain_ranks_count_hidden_source(processor):
    pairs = examples(2)
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1))(pairs)
    schedule = schedule_of(batch)
    rank = ranks(unmodified(schedule), schedule)
    for tokens, ids in expected_rows(processor, WaitKPolicy(1), pairs, True):
        row, first = place_of(batch, ids)
        for query in range(len(tokens)):
            for key, expected in oracle.plain_ranks(tokens, query).items():
                assert rank[row, first + query, first + key] == expected


@pytest.mark.parametrize("rounding", ["stock", "exact"])
@pytest.mark.parametrize(("window", "counts_hidden"), [(None, False), (9, False), (None, True)])
def test_flex_form_equals_the_dense_form(processor, rounding, window, counts_hidden):
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1), packing=True, max_length=128)(examples(3))
    schedule = schedule_of(batch)
    pattern = Pattern.of(schedule)
    rows, length = schedule.offsets.shape
    heads, size = 4, 8
    torch.manual_seed(0)
    query, key, value = torch.randn(3, rows, heads, length, size)
    alibi = Alibi(alibi_slopes(heads, torch.device("cpu")), rounding, size**0.5, counts_hidden)
    mask = additive_mask(pattern, torch.float32, window, alibi)
    dense = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    allowed, score = flex_mask(pattern, window), flex_bias(pattern, alibi)

    def masked_score(value, batch, head, query, key):
        hidden = torch.tensor(-torch.inf)
        return torch.where(allowed(batch, head, query, key), score(value, batch, head, query, key), hidden)

    flex = flex_attention(query, key, value, score_mod=masked_score)
    assert (flex - dense).abs().max() < 1e-5


def test_literal_case_of_the_documentation():
    """docs/law.md: two source words, two target words of 2 and 1 tokens, wait-1."""
    delays = WaitKPolicy(1).delays(2, 2)
    assert delays == [1, 2, 2]
    peeks = due_peeks(1, [2, 1], delays)
    assert peeks == [Peek(offset=2, visible_words=1, kind=1)]
    row = training_row([10], [[11], [12]], [13], [[14, 15], [16]], 0, delays, peeks)
    assert row["input_ids"] == [10, 11, 12, 13, 14, 15, 16, 0, 15]
    assert row["labels"] == [-100, -100, -100, -100, 14, 15, 16, 0, -100]
    schedule = Schedule.of_row(row)
    seen = visible(Pattern.of(schedule))[0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 0, 1, 1, 0, 0, 0, 1],
    ]
    assert ranks(schedule, schedule)[0, 4].tolist()[:5] == [0, 1, 2, 2, 3]
