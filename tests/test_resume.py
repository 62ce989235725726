# SPDX-License-Identifier: Apache-2.0
"""A stream that was cut off goes on elsewhere: nothing that was shown changes, and the rest is what it would have been."""

import random

import pytest
import torch
from transformers import LogitsProcessorList

from families import make_family
from helpers import make_processor, random_sentence
from test_engine import finish
from test_generation import POLICIES, TOLERANCE, Babble, feed_later, masked_training_logits, run, sentences
from transformers_simul import (
    ConfidencePolicy,
    HoldPolicy,
    LearnedReadPolicy,
    LocalAgreementPolicy,
    RelaxedAgreementPolicy,
    SourceStream,
    StreamEngine,
    WaitKPolicy,
    Word,
    translate_stream,
)
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.research.baselines import ConverseDecoder, RecomputingDecoder

ADAPTIVE = [
    LearnedReadPolicy(0.3, 1, 4),
    ConfidencePolicy(0.3, delta=1.0, greatest_lag=4),
    HoldPolicy(1, greatest_lag=4),
    LocalAgreementPolicy(greatest_lag=4),
    RelaxedAgreementPolicy(0.6, 3, greatest_lag=4),
]

LONG = ["a dog runs over the green meadow while two children", "watch him jumping remarkably high today a dog runs"]


def name(policy):
    return repr(policy).split(" object")[0]


def pairs(output, words, row=0):
    """What a client holds after so many words."""
    return [*zip(output.words[row], output.delays[row], strict=True)][:words]


def assert_resumes(model, processor, source, policy):
    """Interrupts after every word, and goes on with what was committed."""
    whole = run(model, processor, [source], policy)
    encoded = processor.encode(source)
    for count in range(len(whole.words[0]) + 1):
        output = run(model, processor, [source], policy, committed=[pairs(whole, count)])
        for field in ("words", "delays", "stop_reasons"):
            assert output[field] == whole[field], (policy, count)
        # What is asked after the last committed word is what was asked there without the break.
        queries = output.queries[0]
        expected = masked_training_logits(model, processor, encoded, output.words[0], output.delays[0], queries)
        assert (output.logits[0] - expected).abs().max() <= TOLERANCE
        asked = dict(zip(whole.queries[0], whole.logits[0], strict=True))
        begin = len(processor.tail_ids) + sum(map(len, whole.words[0][:count])) - 1
        for query, logits in zip(queries, output.logits[0], strict=True):
            if query.offset >= begin and query in asked:
                assert (logits - asked[query]).abs().max() <= TOLERANCE
    return whole


@pytest.mark.parametrize("policy", POLICIES + ADAPTIVE, ids=name)
def test_interrupted_at_every_word_the_rest_equals_the_undisturbed_stream_and_training(model, processor, policy):
    words = 0
    for source in LONG:
        whole = assert_resumes(model, processor, source, policy)
        words += len(whole.words[0])
        for count in (1, len(whole.words[0])):
            output = run(model, processor, feed_later([source]), policy, committed=[pairs(whole, count)])
            assert (output.words, output.delays) == (whole.words, whole.delays)
    assert words > 1


@pytest.mark.parametrize("family", ["Llama", "Gemma3", "Falcon-rotary", "Mpt"])
def test_positions_and_windows_of_other_families(processor, family):
    model = make_family(family, processor)
    source = sentences(43, 1)[0]
    assert_resumes(model, processor, source, WaitKPolicy(2))


def test_rows_of_a_batch_are_resumed_at_words_of_their_own(model, processor):
    sources = sentences(44, 4)
    whole = run(model, processor, sources, WaitKPolicy(2))
    committed = [pairs(whole, row, row) for row in range(4)]
    output = run(model, processor, sources, WaitKPolicy(2), committed=committed)
    assert output.words == whole.words
    assert output.elapsed_ms[3][:3] == [0.0] * len(whole.words[3][:3])


def test_what_was_shown_stays_also_where_the_model_would_have_written_something_else(model, processor):
    """Another policy, other weights: the prefix is forced, the rest follows from it."""
    source = sentences(45, 1)[0] + " today today today"
    foreign = processor.encode("jumping meadow children", "target")
    committed = [(ids, delay) for ids, delay in zip(foreign, (1, 1, 4), strict=True)]
    output = run(model, processor, [source], WaitKPolicy(3), committed=[committed])
    assert output.words[0][:3] == foreign
    assert output.delays[0][:3] == [1, 1, 4]
    assert output.delays[0][3] >= 6
    expected = masked_training_logits(
        model, processor, processor.encode(source), output.words[0], output.delays[0], output.queries[0]
    )
    assert (output.logits[0] - expected).abs().max() <= TOLERANCE
    # Without delays, the policy says what had been read.
    derived = run(model, processor, [source], WaitKPolicy(3), committed=[[(ids, None) for ids in foreign]])
    assert derived.words[0][:3] == foreign
    assert derived.delays[0][:3] == [3, 4, 5]


def test_the_prefix_is_forced_and_not_asked_for(model, processor, monkeypatch):
    """A mutant: without the forcing, foreign words are lost."""
    source = sentences(46, 1)[0]
    committed = [[(processor.encode("jumping", "target")[0], 1)]]
    kept = run(model, processor, [source], WaitKPolicy(1), committed=committed)

    def ignored(self):
        return (yield from self.questions.ask(self.feed(self.tail)))

    monkeypatch.setattr(RowDecoder, "_write_committed", ignored)
    assert run(model, processor, [source], WaitKPolicy(1), committed=committed).words != kept.words


def test_a_limit_that_was_reached_is_reached_again(model, processor):
    source = sentences(47, 1)[0]
    whole = run(model, processor, [source], WaitKPolicy(1), max_new_tokens=3)
    assert whole.stop_reasons == ["max_new_tokens"]
    again = run(model, processor, [source], WaitKPolicy(1), max_new_tokens=3, committed=[pairs(whole, 99)])
    assert (again.words, again.stop_reasons) == (whole.words, whole.stop_reasons)


def test_sampling_keeps_the_prefix(model, processor):
    source = sentences(48, 1)[0]
    sampled = {"do_sample": True, "generators": [torch.Generator().manual_seed(1)]}
    whole = run(model, processor, [source], WaitKPolicy(1), **sampled)
    committed = pairs(whole, 2)
    again = run(model, processor, [source], WaitKPolicy(1), committed=[committed], **sampled)
    assert pairs(again, 2) == committed


class TestEngine:
    def options(self, processor):
        return {"logits_processor": [Babble(processor.token_kinds)], "max_new_tokens": 40}

    def play(self, model, processor, policy, text, **kwargs):
        """All of a source in one engine, and a neighbour beside it."""
        engine = StreamEngine(model, processor, max_streams=2, max_tokens=400)
        beside = engine.open(WaitKPolicy(1), **self.options(processor))
        beside.source.put("two children watch him ")
        stream = engine.open(policy, **self.options(processor), **kwargs)
        for piece in text.split(" "):
            if piece == "/":
                stream.source.end_sentence()
            else:
                stream.source.put(f"{piece} ")
                engine.step()
        stream.source.end()
        finish(engine)
        return [*stream.words], stream.stop_reason

    @pytest.mark.parametrize("policy", [WaitKPolicy(2), *ADAPTIVE[2:]], ids=name)
    def test_a_stream_goes_on_in_another_engine(self, model, processor, policy):
        text = "a dog runs over the green meadow"
        whole, reason = self.play(model, processor, policy, text)
        for count in range(len(whole) + 1):
            rest, again = self.play(model, processor, policy, text, committed=whole[:count])
            shown = [(word.text, word.delay, word.ids) for word in whole[:count] + rest]
            assert shown == [(word.text, word.delay, word.ids) for word in whole], count
            assert again == reason

    def test_an_endless_stream_goes_on_in_its_sentence(self, model, processor):
        """With all of the source again, or from a sentence that had ended on, or from the last."""
        draw = random.Random(49)
        texts = [f"{random_sentence(draw, 2, 5)} ." for _ in range(2)] + ["two children /", "a dog runs . a", "dog ."]
        texts = " ".join(texts).replace(". ", ".| ").replace("/ ", "/| ").split("| ")
        policy, before = WaitKPolicy(2), [0]
        for text in texts:
            before.append(before[-1] + len(text.replace(" /", "").split()))
        whole, _ = self.play(model, processor, policy, " ".join(texts), sentences=True)
        assert len({sum(word.delay > start for start in before) for word in whole}) > 2
        for count in range(len(whole) + 1):
            delay = whole[count - 1].delay if count else 1
            newest = sum(delay > start for start in before) - 1
            for first in range(newest + 1):
                rest, _ = self.play(
                    model,
                    processor,
                    policy,
                    " ".join(texts[first:]),
                    sentences=True,
                    committed=[word for word in whole[:count] if word.delay > before[first]],
                    words_before=before[first],
                )
                shown = [(word.text, word.delay) for word in whole[:count] + rest]
                assert shown == [(word.text, word.delay) for word in whole], (count, first)

    def test_it_waits_for_the_source_that_a_committed_word_had_read(self, model, processor):
        engine = StreamEngine(model, processor, max_streams=1)
        committed = [("a", 2), ("dog", 3)]
        stream = engine.open(WaitKPolicy(2), sentences=True, committed=committed, **self.options(processor))
        stream.source.put("a dog ")
        finish(engine)
        assert engine.active_streams == 1
        stream.source.put("runs over ")
        finish(engine)
        stream.source.end()
        finish(engine)
        delays = [word.delay for word in stream.words]
        assert delays
        assert min(delays) >= 4

    @pytest.mark.parametrize("sentences", [False, True])
    @pytest.mark.parametrize("delay", [5, 6])
    def test_a_source_that_lacks_what_was_read_is_an_error(self, model, processor, sentences, delay):
        engine = StreamEngine(model, processor, max_streams=1)
        stream = engine.open(WaitKPolicy(1), sentences=sentences, committed=[("a", 1), ("dog", delay)])
        stream.source.put("a dog runs . a")
        stream.source.end()
        finish(engine)
        assert (stream.stop_reason == "error") == (delay == 6)
        if delay == 6:
            with pytest.raises(ValueError, match=r"committed.* 6"):
                list(stream.words)

    def test_the_place_is_free_again(self, model, processor):
        engine = StreamEngine(model, processor, max_streams=1, max_tokens=60)
        long = [(processor.encode("jumping", "target")[0], 1)] * 40
        stream = engine.open(WaitKPolicy(1), committed=long, max_new_tokens=500)
        stream.source.put("a ")
        finish(engine)
        assert stream.stop_reason == "max_tokens"
        assert list(stream.words) == []
        assert engine.active_streams == 0


@pytest.mark.parametrize("unit", ["word", "char", "token"])
def test_units_and_texts(model, unit):
    """Texts of units become their ids where these are the tokenizer's own; ids are always right."""
    processor = make_processor(unit=unit)
    rules = LogitsProcessorList([Babble(processor.token_kinds)])
    source = "a dog runs"
    options = {"max_new_tokens": 12, "logits_processor": rules}
    whole = list(translate_stream(model, processor, processor.split(source), WaitKPolicy(1), **options))
    for count in range(len(whole) + 1):
        again = translate_stream(
            model, processor, processor.split(source), WaitKPolicy(1), committed=whole[:count], **options
        )
        assert [(word.text, word.ids) for word in again] == [(word.text, word.ids) for word in whole[count:]], count
    if unit == "token":
        with pytest.raises(ValueError, match=r"committed\[0\] must be token ids with token units"):
            next(translate_stream(model, processor, ["a"], "wait-1", committed=[("dog", 1)]))
        return
    typed = processor.split("a dog")
    expected = processor.encode("a dog", "target")
    streamed = list(translate_stream(model, processor, processor.split(source), WaitKPolicy(1), **options))
    engine = StreamEngine(model, processor, max_streams=1)
    stream = engine.open(WaitKPolicy(1), committed=[(text, 1) for text in typed], **options)
    stream.source.put(source)
    stream.source.end()
    finish(engine)
    inputs = processor(source=source)
    output = model.generate(
        **inputs,
        policy=WaitKPolicy(1),
        committed=[[(ids, 1) for ids in expected]],
        return_dict_in_generate=True,
        **options,
    )
    assert [list(word.ids) for word in stream.words] == output.words[0][len(expected) :]
    assert streamed


def test_a_bare_first_word_is_committed_as_it_stands(model):
    processor = make_processor(template="{source}=>\n{target}")
    assert processor.bare_first_word
    engine = StreamEngine(model, processor, max_streams=1)
    stream = engine.open(WaitKPolicy(1), committed=[("dog", 1), ("dog", 1)], max_new_tokens=9)
    stream.source.put("a")
    stream.source.end()
    finish(engine)
    bare, spaced = processor.encode("dog dog", "target")
    assert bare != spaced
    output = model.generate(
        **processor(source="a"), wait_k=1, committed=[[(bare, 1), (spaced, 1)]], max_new_tokens=9,
        return_dict_in_generate=True,
    )  # fmt: skip
    assert [list(word.ids) for word in stream.words] == output.words[0][2:]
    with pytest.raises(ValueError, match=r"committed\[0\] must be a unit of the target, but token \d+ cannot start"):
        engine.open(WaitKPolicy(1), committed=[(spaced, 1)])


def test_each_sentence_may_begin_with_a_bare_word(model):
    """Those that are over come from the same client as the unfinished one."""
    processor = make_processor(template="{source}=>\n{target}")
    bare, spaced = processor.encode("dog dog", "target")
    given = [(bare, 1), (spaced, 2), (bare, 3), (spaced, 4)]

    engine = StreamEngine(model, processor, max_streams=1)
    stream = engine.open("wait-1", sentences=True, context_sentences=1, committed=given, words_over=4)
    stream.source.put("a dog. a dog. ")
    stream.source.end()
    finish(engine)
    assert (list(stream.words), stream.stop_reason) == ([], "eos")
    with pytest.raises(ValueError, match=r"committed\[2\] must be a unit of the target, but token \d+ cannot start a"):
        StreamEngine(model, processor, max_streams=1).open("wait-1", committed=given)


def test_what_no_decoder_writes_is_refused_before_work_is_lost(model, processor):
    engine = StreamEngine(model, processor, max_streams=1)
    dog = processor.encode("dog", "target")[0]
    eos = processor.eos_token_id
    refused = {
        "must be a sequence of units": "dog",
        r"committed\[0\] must be a pair": [dog],
        r"committed\[1\] must be a pair": [(dog, 1), dog[0]],
        r"committed\[0\] must hold at least one token id": [([], 1)],
        "all whole numbers, got": [([True], 1)],
        "cannot start the first unit": [([eos], 1)],
        "token 999999 cannot": [([999999], 1)],
        "token -1 cannot": [([*dog, -1], 1)],
        f"token {dog[0]} cannot continue a unit": [([dog[0], dog[0]], 1)],
        "a delay of at least 0": [(dog, -1)],
        "a whole number, got 1.5": [(dog, 1.5)],
        "delays for all units or for none": [(dog, 1), (dog, None)],
        "do not decrease": [(dog, 2), (dog, 1)],
        "the text of one word, got 'two dogs'": [("two dogs", 1)],
        "the text of one word, got ''": [("", 1)],
    }
    for message, committed in refused.items():
        with pytest.raises(ValueError, match=message):
            engine.open(WaitKPolicy(1), committed=committed)
    with pytest.raises(ValueError, match="delay of at least 7, a whole number, got 3"):
        engine.open(WaitKPolicy(1), committed=[(dog, 3)], words_before=7)
    with pytest.raises(ValueError, match="words_before must be a whole number of at least 0"):
        engine.open(WaitKPolicy(1), words_before=-1)
    with pytest.raises(ValueError, match="committed must have delays with sentences=True"):
        engine.open(WaitKPolicy(1), sentences=True, committed=[(dog, None)])
    assert engine.active_streams == 0
    inputs = processor(source=["a dog", "a dog"])
    with pytest.raises(ValueError, match="committed must hold one entry per row, 2, got 1"):
        model.generate(**inputs, wait_k=1, committed=[[(dog, 1)]])
    with pytest.raises(ValueError, match=r"committed\[0\] must be token ids, got the text 'dog'"):
        model.generate(**inputs, wait_k=1, committed=[[("dog", 1)]] * 2)
    with pytest.raises(ValueError, match="committed words must have delays, with .*, within the source"):
        model.generate(**inputs, wait_k=1, committed=[[(dog, 3)]] * 2)
    with pytest.raises(ValueError, match="committed words must have delays, with LearnedReadPolicy"):
        model.generate(**inputs, policy=LearnedReadPolicy(), committed=[[(dog, None)]] * 2)
    for decoder in (ConverseDecoder, RecomputingDecoder):
        with pytest.raises(ValueError, match=f"a decoder that keeps its cache, got {decoder.__name__}"):
            model.generate(**inputs, wait_k=1, committed=[[(dog, 1)]] * 2, row_decoder=decoder)


def test_a_word_made_by_hand_has_its_text(model, processor):
    engine = StreamEngine(model, processor, max_streams=1)
    stream = engine.open(WaitKPolicy(1), source=SourceStream("a dog "), committed=[Word("dog", 1, 0.0)])
    stream.source.end()
    finish(engine)
    assert stream.stop_reason
