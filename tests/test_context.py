# SPDX-License-Identifier: Apache-2.0
"""Context across sentences: what training shows of the sentences before, and what a stream keeps of them."""

import random

import pytest
import torch

import oracle
from families import make_family
from helpers import make_model, random_sentence
from test_masking import expected_rows, place_of
from transformers_simul import SimulMaskDataCollator, WaitKPolicy, join_documents
from transformers_simul.models.masking import Pattern, ranks, visible
from transformers_simul.models.schedule import Schedule, training_row
from transformers_simul.research.baselines import PrefixDataCollator
from transformers_simul.training.paths import AlignedPolicy, RandomPathPolicy
from transformers_simul.training.rows import join_sentences


def documents(seed, count, sentences=5):
    draw = random.Random(seed)
    return [
        {"sentences": [{"source": random_sentence(draw, 2), "target": random_sentence(draw, 2)} for _ in range(length)]}
        for length in (draw.randint(1, sentences) for _ in range(count))
    ]


def assert_equals_oracle(batch, processor, policy, texts, context, look=oracle.visible_with_context, starts=0):
    """`starts` is the rank of the first key that a query sees."""
    schedule = Schedule(**Schedule.fields_in(batch))
    seen, rank = visible(Pattern.of(schedule)), ranks(schedule, schedule)
    looked = 0
    for document in texts:
        rows = list(expected_rows(processor, policy, document["sentences"], True))
        found = [place_of(batch, ids) for _, ids in rows]
        assert len({row for row, _ in found}) == 1
        for number, (tokens, _) in enumerate(rows):
            row, first = found[number]
            for query in range(len(tokens)):
                keys = look([tokens for tokens, _ in rows], number, query, context)
                columns = [found[sentence][1] + key for sentence, key in keys]
                assert sorted(columns) == seen[row, first + query].nonzero().flatten().tolist()
                assert rank[row, first + query, columns].tolist() == list(range(starts, starts + len(columns)))
                looked += any(sentence < number for sentence, _ in keys)
    return looked


@pytest.mark.parametrize("context", [1, 2, 4])
@pytest.mark.parametrize(
    "layout",
    [{}, {"padding_side": "left", "pad_to_multiple_of": 16}, {"packing": True, "max_length": 500}],
    ids=str,
)
def test_mask_and_ranks_of_several_sentences_equal_the_oracle(processor, context, layout):
    for policy in (WaitKPolicy(1), WaitKPolicy(3)):
        texts = documents(context, 4)
        batch = SimulMaskDataCollator(processor, policy, context_sentences=context, **layout)(texts)
        assert assert_equals_oracle(batch, processor, policy, texts, context) > 100
        if "packing" in layout:
            assert batch["input_ids"].shape[0] < len(texts)


def older_too(sentences, number, query, context):
    return oracle.visible_with_context(sentences, number, query, context + 1)


def fewer(sentences, number, query, context):
    return oracle.visible_with_context(sentences, number, query, context - 1)


def with_the_end(sentences, number, query, context):
    """The EOS of the sentence before is a key."""
    seen = oracle.visible_with_context(sentences, number, query, context)
    ends = [index for index, token in enumerate(sentences[number - 1]) if token["part"] == "eos"]
    return seen + [(number - 1, ends[0])] if number else seen


@pytest.mark.parametrize("mutant", [{"look": older_too}, {"look": fewer}, {"look": with_the_end}, {"starts": 1}])
def test_mutated_oracles_fail(processor, mutant):
    texts = documents(2, 4)
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1), context_sentences=2)(texts)
    assert assert_equals_oracle(batch, processor, WaitKPolicy(1), texts, 2)
    with pytest.raises(AssertionError):
        assert_equals_oracle(batch, processor, WaitKPolicy(1), texts, 2, **mutant)


def test_without_context_sentences_have_the_rows_that_they_have_alone(processor):
    texts = documents(3, 3)
    alone = SimulMaskDataCollator(processor, WaitKPolicy(2))([each for text in texts for each in text["sentences"]])
    batch = SimulMaskDataCollator(processor, WaitKPolicy(2))(texts)
    assert batch.keys() == alone.keys()
    assert all(torch.equal(batch[name], alone[name]) for name in batch)


def test_a_row_ends_where_it_is_full_or_a_sentence_was_left_out(processor):
    short, long = ({"source": "a dog " * words, "target": "a dog " * words} for words in (1, 60))
    collator = SimulMaskDataCollator(
        processor, WaitKPolicy(3), context_sentences=2, max_length=180, too_long="drop", peek_rows=0
    )
    batch = collator([{"sentences": [short, short, long, short]}])
    assert collator.dropped == 1
    starts = [sorted({*row.tolist()} - {0}) for row in batch["pair_ids"]]
    assert starts == [[1, 2], [1]]
    length = int((batch["pair_ids"][1] > 0).sum())
    batch = collator([{"sentences": [short] * 7}])
    assert [int(row.max()) for row in batch["pair_ids"]] == [180 // length] * (7 // (180 // length)) + (
        [7 % (180 // length)] if 7 % (180 // length) else []
    )
    # Each row begins without context.
    assert (batch["context_starts"][:, 0] == 0).all()
    assert (batch["offsets"][:, 0] == 0).all()


def test_the_loss_of_joined_sentences_is_that_of_each_under_its_context(processor, model):
    """And without a context that could be seen, it is the loss that they have alone."""
    texts = documents(4, 3)
    joined = SimulMaskDataCollator(processor, RandomPathPolicy(1, 3), context_sentences=2)
    joined.set_epoch(0)
    batch = joined(texts)
    alone = SimulMaskDataCollator(processor, RandomPathPolicy(1, 3))
    alone.set_epoch(0)
    separate = alone([each for text in texts for each in text["sentences"]])
    for name in ("labels", "peeks"):
        lacking = -100 if name == "labels" else 0
        assert (batch[name] != lacking).sum() == (separate[name] != lacking).sum()
    hidden = {name: batch[name].clone() for name in batch}
    hidden["places"].fill_(-1)
    for name in ("offsets", "visible_source"):
        before = batch["places"] * 0
        # Back to where each begins alone.
        for row in range(len(before)):
            for pair in batch["pair_ids"][row].unique():
                of_pair = batch["pair_ids"][row] == pair
                source = of_pair & ~batch["in_target"][row]
                if pair:
                    before[row, of_pair] = batch["offsets"][row, source].min()
        hidden[name] -= before * (~batch["in_target"] if name == "offsets" else 1)
    hidden["visible_source"][hidden["pair_ids"] == 0] = 1
    with torch.no_grad():
        losses = [float(model(**each).loss) for each in (batch, hidden, separate)]
    assert losses[1] == pytest.approx(losses[2], abs=1e-5)
    assert abs(losses[0] - losses[2]) > 1e-3


def test_literal_case_of_the_documentation():
    """docs/law.md: wait-1, words of one token, n = 1."""
    rows = [training_row([], [[1]] * words, [2], [[3]], 0, WaitKPolicy(1).delays(words, 1)) for words in (2, 1, 1)]
    row = join_sentences(rows, context_sentences=1)
    seen = visible(Pattern.of(Schedule.of_row(row)))[0].int().tolist()
    assert [each[:11] for each in seen[:11]] == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1],
    ]


@pytest.mark.parametrize("backend", ["eager", "flex_attention"])
def test_backends_agree(processor, backend):
    texts = [{"sentences": [{"source": "a dog", "target": "a dog"}] * 3}]
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1), context_sentences=1)(texts)
    columns = {name: batch[name] for name in batch if name not in ("labels", "token_kinds")}
    model = make_model(processor)
    other = type(model)._from_config(model.config, attn_implementation=backend).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        difference = model(**columns).logits - other(**columns).logits
    assert difference.abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("family", "settings"),
    [("Llama", {}), ("Mistral", {"positions": "group"}), ("Falcon-rotary", {}), (None, {"positions": "plain"})],
)
def test_positions_that_cannot_keep_a_context_are_refused(processor, family, settings):
    model = make_model(processor, **settings) if family is None else make_family(family, processor, **settings)
    batch = SimulMaskDataCollator(processor, WaitKPolicy(2), context_sentences=1)(documents(6, 1, 2))
    with pytest.raises(ValueError, match="context_sentences needs a model with ALiBi"):
        model(**batch)


def test_wrong_arguments_are_named(processor, model):
    with pytest.raises(ValueError, match="context_sentences must be a whole number of at least 0, got -1"):
        SimulMaskDataCollator(processor, WaitKPolicy(1), context_sentences=-1)
    with pytest.raises(
        ValueError, match="context_sentences needs a row with a schedule for each pair, which PrefixData"
    ):
        PrefixDataCollator(processor, WaitKPolicy(1), context_sentences=1)(documents(7, 1))
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1), context_sentences=1)(documents(6, 1, 2))
    with pytest.raises(ValueError, match="both places and context_starts"):
        model(**{name: batch[name] for name in batch if name != "places"})


def test_prompts_of_reads_before_the_first_word_see_the_context_and_not_their_own_sentence(processor):
    """They stand behind their sentence in the row, which has read more."""
    texts = documents(8, 3)
    for sentence in (each for text in texts for each in text["sentences"]):
        sentence |= {"source": "two " + sentence["source"], "alignment": "2-0"}
    batch = SimulMaskDataCollator(processor, AlignedPolicy(), context_sentences=1)(texts)
    sentences = sum(len(text["sentences"]) for text in texts)
    assert sum(int(row.max()) for row in batch["pair_ids"]) > sentences
    schedule = Schedule(**Schedule.fields_in(batch))
    pairs = batch["pair_ids"]
    across = visible(Pattern.of(schedule)) & (pairs[:, :, None] != pairs[:, None])
    place = batch["places"][:, None] - batch["context_starts"][:, :, None]
    assert (place[across] >= 0).all()
    for row in range(len(pairs)):
        for number in range(1, int(pairs[row].max()) + 1):
            own = pairs[row] == number
            begins = batch["offsets"][row, own & ~batch["in_target"][row]].min()
            assert (place[row, own][across[row, own]] < begins).all()
    assert across.sum() > 100


def test_documents_become_runs_of_their_sentences():
    pairs = [("a", 1), ("b", 1), ("c", 1), ("d", 2), ("e", None), ("f", None), ("g", 1)]
    examples = [{"source": text, "target": text, "document": each, "length": 2} for text, each in pairs]
    joined = join_documents(examples, most_sentences=2)
    runs = ["".join(sentence["source"] for sentence in each["sentences"]) for each in joined]
    assert runs == ["ab", "c", "d", "e", "f", "g"]
    assert joined["length"] == [4, 2, 2, 2, 2, 2]
    for wrong, message in (
        ({"examples": [{"source": "a", "target": "b"}]}, "needs the column document, got"),
        ({"examples": []}, "needs at least one example"),
        ({"examples": examples, "most_sentences": 0}, "most_sentences must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            join_documents(**wrong)
