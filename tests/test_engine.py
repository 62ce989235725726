# SPDX-License-Identifier: Apache-2.0
"""Many live streams: each gets what it would get alone, none waits long, none harms another, memory is bounded."""

import asyncio
import random
import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from test_generation import POLICIES, Babble, assert_streamed_equals_trained, run, sentences
from transformers_simul import EngineFull, SimulStreamer, SourceStream, StreamEngine, WaitKPolicy
from transformers_simul.models.decoding import decode_step
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.models.schedule import EOS, STARTS
from transformers_simul.models.streams import SourceReader
from transformers_simul.research.baselines import ConverseDecoder, RecomputingDecoder


class Recorded(RowDecoder):
    """Keeps every decoder that was made, for the oracle."""

    made: list["Recorded"] = []

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.made.append(self)


@pytest.fixture(autouse=True)
def forget_decoders():
    Recorded.made.clear()


def options(processor, **kwargs):
    return {"logits_processor": [Babble(processor.token_kinds)], "max_new_tokens": 40, "output_logits": True} | kwargs


def as_output(decoders):
    names = ("words", "delays", "queries")
    fields = {name: [getattr(decoder, name) for decoder in decoders] for name in names}
    return SimpleNamespace(logits=[torch.stack(decoder.logits) for decoder in decoders], **fields)


def finish(engine):
    while engine.step():
        pass


def play(engine, processor, sources, policies, draw):
    """Opens streams at odd moments and puts their text in odd pieces, between steps."""
    streams, rest = [], list(sources)
    texts = {}
    while rest or texts:
        if rest and engine.active_streams < engine.cache.batch_size and draw.random() < 0.4:
            policy = policies[len(streams)]
            streams.append(engine.open(policy, row_decoder=Recorded, **options(processor)))
            texts[len(streams) - 1] = rest.pop(0)
        if texts:
            index = draw.choice(list(texts))
            size = draw.randint(1, 9)
            if streams[index].stop_reason:
                # It has written all that it may; the rest comes too late.
                texts[index] = ""
            else:
                streams[index].source.put(texts[index][:size])
            texts[index] = texts[index][size:]
            if not texts[index]:
                streams[index].source.end()
                del texts[index]
        engine.step()
    finish(engine)
    return streams


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_streams_that_come_and_go_get_what_training_gives_and_what_they_get_alone(model, processor, rows):
    sources = sentences(21, 24)
    policies = [POLICIES[index % len(POLICIES)] for index in range(24)]
    engine = StreamEngine(model, processor, max_streams=rows, max_tokens=300)
    streams = play(engine, processor, sources, policies, random.Random(rows))
    order = [next(d for d in Recorded.made if d.source.stream is stream.source) for stream in streams]
    counts = assert_streamed_equals_trained(model, processor, sources, policies, as_output(order))
    assert all(counts.values()), counts
    for source, policy, stream, decoder in zip(sources, policies, streams, order, strict=True):
        alone = run(model, processor, [source], policy)
        assert decoder.words == alone.words[0]
        assert decoder.delays == alone.delays[0]
        assert stream.stop_reason == alone.stop_reasons[0]
        assert [word.text for word in stream.words] == processor.words(alone.words[0])
    assert engine.active_streams == 0


@pytest.mark.parametrize("decoder", [RecomputingDecoder, ConverseDecoder])
def test_the_baselines_too_get_what_they_get_alone(model, processor, decoder):
    """In one place, so that each stream but the first finds the prompt's head in it."""
    engine = StreamEngine(model, processor, max_streams=1, max_tokens=300)
    for source in sentences(23, 5):
        stream = engine.open(WaitKPolicy(1), row_decoder=decoder, **options(processor))
        stream.source.put(source)
        stream.source.end()
        finish(engine)
        alone = run(model, processor, [source], WaitKPolicy(1), row_decoder=decoder)
        assert [word.text for word in stream.words] == processor.words(alone.words[0])


def test_sentence_ends_mean_nothing_without_sentences(model, processor):
    engine = StreamEngine(model, processor, max_streams=1)
    stream = engine.open(WaitKPolicy(1), **options(processor))
    stream.source.put("a dog")
    stream.source.end_sentence()
    stream.source.put("runs over .")
    stream.source.end()
    finish(engine)
    alone = run(model, processor, ["a dog runs over ."], WaitKPolicy(1))
    assert [word.text for word in stream.words] == processor.words(alone.words[0])


def test_no_stream_waits_more_than_a_few_steps(model, processor, monkeypatch):
    """The budget of a step holds two short asks: eight ready streams take turns, first come first served."""
    from transformers_simul.streaming import engine_rows

    answered = []

    def step(model, cache, asks):
        answered.append({*asks})
        return decode_step(model, cache, asks)

    monkeypatch.setattr(engine_rows, "decode_step", step)
    engine = StreamEngine(model, processor, max_streams=8, max_step_tokens=2)
    for text in sentences(5, 8):
        stream = engine.open(WaitKPolicy(1), **options(processor, max_new_tokens=12))
        stream.source.put(text)
        stream.source.end()
    finish(engine)
    turns = [[-1, *(number for number, rows in enumerate(answered) if row in rows)] for row in range(8)]
    longest = max(later - earlier - 1 for each in turns for earlier, later in pairwise(each))
    assert 1 < longest <= 8


def test_the_engine_refuses_what_it_has_no_room_for(model, processor):
    engine = StreamEngine(model, processor, max_streams=1, max_tokens=40)
    first = engine.open(WaitKPolicy(1), max_new_tokens=4)
    with pytest.raises(EngineFull, match="max_streams is 1, and all places were taken"):
        engine.open(WaitKPolicy(1))
    first.source.put("a dog runs over the green meadow while two children watch him jumping today " * 3)
    first.source.end()
    finish(engine)
    assert first.stop_reason in ("max_tokens", "max_new_tokens")
    long = engine.open(WaitKPolicy(30))
    long.source.put("a dog runs over the green meadow while two children watch him jumping " * 3)
    long.source.end()
    finish(engine)
    assert long.stop_reason == "max_tokens"
    assert engine.cache.used_tokens(0) == len(processor.head_ids)
    # A place that becomes free in time is taken.
    busy = engine.open(WaitKPolicy(1))
    threading.Timer(0.1, lambda: (busy.source.cancel(), engine.step())).start()
    assert engine.open(WaitKPolicy(1), wait_s=30).stop_reason == ""
    with pytest.raises(ValueError, match="max_sentence_words=5 needs sentences=True"):
        engine.open(WaitKPolicy(1), max_sentence_words=5)
    for bound in ("max_streams", "max_tokens", "max_step_tokens"):
        with pytest.raises(ValueError, match="at least 1"):
            StreamEngine(model, processor, **{bound: 0})


def test_what_breaks_in_one_stream_ends_it_alone(model, processor):
    engine = StreamEngine(model, processor, max_streams=4, max_unread=1)

    def breaks(ids, scores):
        raise RuntimeError("a processor of the user's")

    def goes_on(ids, scores):
        return scores.masked_fill(processor.token_kinds == EOS, -torch.inf)

    good, broken, unread, gone = (
        engine.open(WaitKPolicy(1), **options(processor, logits_processor=[rule], max_new_tokens=tokens))
        for rule, tokens in ((goes_on, 1), (breaks, 9), (goes_on, 99), (goes_on, 9))
    )
    for stream in (good, broken, unread, gone):
        stream.source.put("a dog runs over the green meadow ")
    gone.source.cancel()
    for stream in (good, broken, unread):
        stream.source.end()
    finish(engine)
    assert len(list(good.words)) == 1
    with pytest.raises(RuntimeError, match="user's"):
        list(broken.words)
    assert broken.stop_reason == unread.stop_reason == "error"
    with pytest.raises(BufferError, match="stream 2: max_unread is 1, and 1 words wait"):
        list(unread.words)
    assert gone.stop_reason == "cancelled"
    assert engine.active_streams == 0
    with pytest.raises(BufferError, match="max_waiting"):
        StreamEngine(model, processor, max_waiting=2).open(WaitKPolicy(1)).source.put("a b c d ")
    with pytest.raises(BufferError, match="max_waiting"):
        StreamEngine(model, processor, max_waiting=2).open(WaitKPolicy(1)).source.put("endless")


def test_a_forward_that_fails_ends_its_streams_and_the_engine_goes_on(model, processor, monkeypatch):
    from transformers_simul.streaming import engine_rows as module

    calls = iter([True, False])

    def sometimes(*args):
        if next(calls, False):
            raise MemoryError("no memory")
        return decode_step(*args)

    monkeypatch.setattr(module, "decode_step", sometimes)
    engine = StreamEngine(model, processor, max_streams=1)
    for fails in (True, False):
        stream = engine.open(WaitKPolicy(1), **options(processor))
        stream.source.put("a dog runs over ")
        stream.source.end()
        finish(engine)
        assert (stream.stop_reason == "error") == fails
    # Nothing of the failed forward is left in the row.
    alone = run(model, processor, ["a dog runs over"], WaitKPolicy(1))
    assert [word.text for word in stream.words] == processor.words(alone.words[0])


def test_in_a_thread_with_writers_and_readers(model, processor):
    """Words come as their source does; a visitor who leaves, and closing, let nobody hang."""
    results = {}

    def visit(index, text):
        stream = engine.open(WaitKPolicy(1), wait_s=60, **options(processor))
        for word in text.split():
            stream.source.put(f"{word} ")
        if index == 3:
            stream.source.cancel()
        stream.source.end()
        results[index] = [word.text for word in stream.words]

    sources = sentences(8, 12)
    with StreamEngine(model, processor, max_streams=4) as engine:
        visitors = [threading.Thread(target=visit, args=item) for item in enumerate(sources)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join(60)
        left = engine.open(WaitKPolicy(1))
        silent = engine.open(WaitKPolicy(1), source=SourceStream(timeout_s=0.1))
        assert list(silent.words) == []
        assert silent.stop_reason == "timeout"
    assert list(left.words) == []
    assert left.stop_reason == "cancelled"
    with pytest.raises(RuntimeError, match="closed"):
        engine.open(WaitKPolicy(1))
    for index in set(range(12)) - {3}:
        alone = run(model, processor, [sources[index]], WaitKPolicy(1))
        assert results[index] == processor.words(alone.words[0])


def test_a_visitor_who_leaves_ends_the_stream_at_once(model, processor):
    """Also where all the source is read and nothing but writing is left."""
    engine = StreamEngine(model, processor, max_streams=1)

    def goes_on(ids, scores):
        return scores.masked_fill(processor.token_kinds == EOS, -torch.inf)

    stream = engine.open(WaitKPolicy(9), logits_processor=[goes_on], max_new_tokens=200)
    stream.source.put("a dog ")
    stream.source.end()
    for _ in range(5):
        engine.step()
    stream.source.cancel()
    engine.step()
    assert stream.stop_reason == "cancelled"
    assert engine.active_streams == 0
    assert len(list(stream.words)) < 6


class TestEndless:
    def test_equals_sentence_by_sentence_and_training(self, model, processor):
        """Sentences end where punctuation or the caller ends them; each is translated as if it were alone."""
        texts = [f"{text} ." for text in sentences(31, 5)] + sentences(32, 5)
        engine = StreamEngine(model, processor, max_streams=1, max_tokens=200)
        stream = engine.open(WaitKPolicy(2), sentences=True, row_decoder=Recorded, **options(processor))
        for text in texts:
            for word in text.split():
                stream.source.put(f"{word} ")
                engine.step()
            if not text.endswith("."):
                stream.source.end_sentence()
        stream.source.end()
        finish(engine)
        assert len(Recorded.made) == len(texts)
        counts = assert_streamed_equals_trained(
            model, processor, texts, [WaitKPolicy(2)] * len(texts), as_output(Recorded.made)
        )
        assert all(counts.values()), counts
        expected, before = [], 0
        for text in texts:
            alone = run(model, processor, [text], WaitKPolicy(2))
            expected += zip(processor.words(alone.words[0]), (before + delay for delay in alone.delays[0]), strict=True)
            before += len(text.split())
        assert [(word.text, word.delay) for word in stream.words] == expected

    def test_a_window_ends_what_has_no_end(self, model, processor):
        engine = StreamEngine(model, processor, max_streams=1, max_tokens=120)
        stream = engine.open(
            WaitKPolicy(2), sentences=True, max_sentence_words=6, row_decoder=Recorded, **options(processor)
        )
        stream.source.put("a dog runs over the green meadow " * 60)
        stream.source.end()
        most = 0
        while engine.step():
            most = max(most, engine.cache.used_tokens(0))
        assert len(Recorded.made) == 70
        assert {decoder.source.reader for decoder in Recorded.made} == {Recorded.made[0].source.reader}
        assert most < 120
        # The lag does not drift: within a window it is bounded by it, and the next begins with k words.
        delays = [word.delay for word in stream.words]
        assert delays == sorted(delays)
        assert delays[-1] <= 420
        assert stream.stop_reason == "max_new_tokens" or stream.stop_reason == "eos"

    @pytest.mark.parametrize("target_words", [2, 18])
    def test_the_lag_does_not_drift(self, model, processor, target_words):
        """Targets of a third and of three times the source's length: every sentence begins k words behind its start and
        ends with its source."""
        kinds = processor.token_kinds

        def forced(ids, scores):  # one-token words, so many; then EOS
            written = len(Recorded.made[-1].target)
            return scores.masked_fill(kinds != (EOS if written == target_words else STARTS), -torch.inf)

        engine = StreamEngine(model, processor, max_streams=1, max_tokens=200)
        stream = engine.open(
            WaitKPolicy(3), sentences=True, row_decoder=Recorded, max_word_tokens=1, logits_processor=[forced]
        )
        for _ in range(40):
            stream.source.put("a dog runs over green meadow. ")
            finish(engine)
        stream.source.end()
        finish(engine)
        assert len(Recorded.made) == 40
        expected = [min(3 + index, 6) for index in range(target_words)]
        delays = [word.delay for word in stream.words]
        assert delays == [6 * sentence + delay for sentence in range(40) for delay in expected]

    def test_an_early_stop_leaves_the_rest_of_its_sentence(self, model, processor):
        engine = StreamEngine(model, processor, max_streams=1)
        stream = engine.open(
            WaitKPolicy(1), sentences=True, row_decoder=Recorded, **options(processor, max_new_tokens=1)
        )
        stream.source.put("a dog runs over . two children . ")
        stream.source.end()
        finish(engine)
        assert [decoder.source.words_before for decoder in Recorded.made[-1:]] == [5]
        assert [len(decoder.words) for decoder in Recorded.made] == [1, 1]


def test_logits_processor_lists_are_taken_too(model, processor):
    engine = StreamEngine(model, processor, max_streams=1)
    rule = LogitsProcessorList([Babble(processor.token_kinds)])
    stream = engine.open(WaitKPolicy(1), logits_processor=rule, max_new_tokens=3)
    stream.source.put("a dog ")
    stream.source.end()
    finish(engine)
    assert list(stream.words)


def test_max_new_tokens_ends_a_stream_whose_source_goes_on(model, processor):
    engine = StreamEngine(model, processor, max_streams=1)
    stream = engine.open(WaitKPolicy(1), **options(processor, max_new_tokens=2))
    stream.source.put("a dog runs ")
    finish(engine)
    assert stream.stop_reason == "max_new_tokens"
    assert engine.active_streams == 0
    assert list(stream.words)
    with pytest.raises(
        ValueError, match="source of stream 0: put.*came after its translation had ended: max_new_tokens"
    ):
        stream.source.put("over ")


class TestArguments:
    """`open` takes what `generate` takes."""

    def test_sampling_equals_generate(self, model, processor):
        chosen = {"do_sample": True, "temperature": 0.7, "top_k": 30, "repetition_penalty": 1.2, "max_new_tokens": 30}
        texts = sentences(41, 4)
        for settings in (chosen, {"generation_config": GenerationConfig(**chosen)}):
            engine = StreamEngine(model, processor, max_streams=2)
            for text in texts:
                draws = [torch.Generator().manual_seed(7)]
                stream = engine.open(WaitKPolicy(1), generators=draws, **settings)
                stream.source.put(text)
                stream.source.end()
                finish(engine)
                draws = [torch.Generator().manual_seed(7)]
                output = model.generate(
                    **processor(source=text), policy=WaitKPolicy(1), generators=draws, return_dict_in_generate=True,
                    **settings,
                )  # fmt: skip
                assert [word.text for word in stream.words] == processor.words(output.words[0])
                assert stream.stop_reason == output.stop_reasons[0]

    def test_lengths_and_criteria_are_generates(self, model, processor):
        def three_words(ids, scores):
            return torch.tensor([ids.shape[1] >= 24])

        prompt = len(processor.head_ids + processor.tail_ids)
        for settings in ({"max_length": prompt + 5}, {"stopping_criteria": StoppingCriteriaList([three_words])}, {}):
            engine = StreamEngine(model, processor, max_streams=1)
            stream = engine.open(WaitKPolicy(1), logits_processor=[Babble(processor.token_kinds)], **settings)
            stream.source.put("a dog runs over the green meadow")
            stream.source.end()
            finish(engine)
            source = SourceStream("a dog runs over the green meadow")
            source.end()
            output = model.generate(
                **processor(source=source), policy=WaitKPolicy(1), return_dict_in_generate=True,
                logits_processor=LogitsProcessorList([Babble(processor.token_kinds)]), **settings,
            )  # fmt: skip
            assert [word.text for word in stream.words] == processor.words(output.words[0])
            assert stream.stop_reason == output.stop_reasons[0]

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"max_new_token": 3}, "max_new_token: no such argument"),
            ({"wait_k": 3}, "wait_k must not stand beside a policy, got 3"),
            ({"processors": []}, "processors: no such argument"),
            ({"wordy": None, "policies": 1}, "policies, wordy: no such argument"),
            ({"num_beams": 4}, "num_beams=4 is not supported"),
            ({"max_length": 3}, "max_length must be above the prompt's"),
            ({"max_word_tokens": 0}, "max_word_tokens must be at least 1, a whole number, got 0"),
            ({"do_sample": True, "generators": torch.Generator()}, "generators must be a sequence of one"),
            ({"do_sample": True, "generators": []}, "generators must hold one entry per row"),
        ],
    )
    def test_what_is_wrong_is_refused_at_once(self, model, processor, monkeypatch, wrong, message):
        engine = StreamEngine(model, processor, max_streams=1)
        for wait_k in (None, 2):
            monkeypatch.setattr(model.generation_config, "wait_k", wait_k)
            with pytest.raises(ValueError, match=message):
                engine.open(WaitKPolicy(1), **wrong)
        assert engine.active_streams == 0


class TestLeaving:
    def test_the_loop_the_block_or_close_gives_the_place_back(self, model, processor):
        def left(stream):
            for _ in stream:
                break

        def closed(stream):
            stream.close()

        def block(stream):
            with stream:
                next(iter(stream.words))

        async def left_in_a_task(stream):
            async for _ in stream:
                break

        leave = [left, closed, block, lambda stream: asyncio.run(left_in_a_task(stream))]
        with StreamEngine(model, processor, max_streams=1) as engine:
            for way in leave:
                stream = engine.open(WaitKPolicy(1), wait_s=60, **options(processor))
                stream.source.put("a dog runs over the green meadow ")
                way(stream)
            last = engine.open(WaitKPolicy(1), wait_s=60)
            assert stream.stop_reason == "cancelled"
            with pytest.raises(ValueError, match="source of stream 3: put.*came after the stream was closed"):
                stream.source.put("a ")
            last.close()

    def test_the_words_alone_can_be_left_and_resumed(self, model, processor):
        engine = StreamEngine(model, processor, max_streams=1)
        stream = engine.open(WaitKPolicy(1), **options(processor))
        stream.source.put("a dog runs over the green meadow")
        stream.source.end()
        finish(engine)
        alone = run(model, processor, ["a dog runs over the green meadow"], WaitKPolicy(1))
        words = []
        for _ in alone.words[0]:
            for word in stream.words:
                words.append(word.text)
                break
        assert words == processor.words(alone.words[0])


class Raises(WaitKPolicy):
    """A policy that ends its thread, or tries to."""

    def __init__(self, error):
        super().__init__(1)
        self.error = error

    def reads(self, progress):
        raise self.error


class BrokenSource(SourceStream):
    """Its reader fails where no stream is asked, in the engine's own lines."""

    def bind(self, processor):
        class Reader(SourceReader):
            def note_wait(self, waits):
                pass

            @property
            def wait_s(self):
                raise SystemExit("no clock")

        return Reader(self, processor)


class TestNobodyHangs:
    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
    def test_whatever_a_policy_raises_ends_its_stream_alone(self, model, processor, kind):
        with StreamEngine(model, processor, max_streams=2) as engine:
            good = engine.open(WaitKPolicy(1), **options(processor))
            good.source.put("a dog ")
            bad = engine.open(Raises(kind("enough")), **options(processor))
            bad.source.put("a dog ")
            with pytest.raises(RuntimeError, match=f"stream 1: the translation ended with {kind.__name__}"):
                list(bad.words)
            assert bad.stop_reason == "error"
            good.source.put("runs")
            good.source.end()
            alone = run(model, processor, ["a dog runs"], WaitKPolicy(1))
            assert [word.text for word in good] == processor.words(alone.words[0])

    def test_ctrl_c_reaches_who_steps_and_leaves_nobody_waiting(self, model, processor):
        engine = StreamEngine(model, processor, max_streams=2)
        streams = [engine.open(policy) for policy in (Raises(KeyboardInterrupt()), WaitKPolicy(1))]
        for stream in streams:
            stream.source.put("a dog ")
        with pytest.raises(KeyboardInterrupt):
            engine.step()
        finish(engine)
        streams[1].source.end()
        finish(engine)
        assert engine.active_streams == 0
        assert streams[0].stop_reason == "error"
        assert streams[1].stop_reason in ("eos", "max_new_tokens")

    @pytest.mark.parametrize("kind", [RuntimeError, SystemExit, asyncio.CancelledError])
    def test_a_listener_that_raises_while_its_stream_closes(self, model, processor, kind):
        def breaks():
            if stream.stop_reason:
                raise kind("a listener of the user's")

        with StreamEngine(model, processor, max_streams=1) as engine:
            for _ in range(2):
                stream = engine.open(WaitKPolicy(1), wait_s=60, max_new_tokens=1)
                stream.source.listen(breaks)
                stream.source.put("a dog ")
                stream.source.end()
                list(stream.words)
            assert stream.stop_reason in ("eos", "max_new_tokens")

    def test_a_worker_that_fails_ends_all_streams_and_refuses_new_ones(self, model, processor):
        with StreamEngine(model, processor, max_streams=3) as engine:
            waiting = engine.open(WaitKPolicy(1))
            waiting.source.put("a ")
            broken = engine.open(WaitKPolicy(1), source=BrokenSource())
            for stream in (waiting, broken):
                with pytest.raises(RuntimeError, match="ended with SystemExit"):
                    list(stream.words)
                assert stream.stop_reason == "error"
            with pytest.raises(RuntimeError, match="the engine has failed: SystemExit"):
                engine.open(WaitKPolicy(1), wait_s=60)
            with pytest.raises(RuntimeError, match="closed"):
                engine.start()

    def test_starting_twice_makes_one_worker(self, model, processor):
        def workers():
            return sum(thread.name == "StreamEngine" for thread in threading.enumerate())

        before = workers()
        engine = StreamEngine(model, processor, max_streams=1)
        engine.start()
        engine.start()
        with engine:
            assert workers() == before + 1
            stream = engine.open(WaitKPolicy(1), **options(processor))
            stream.source.put("a dog ")
            stream.source.end()
            # Steps of one's own beside it wait for their turn.
            engine.step()
            assert list(stream.words)
        assert workers() == before

    @pytest.mark.parametrize("has_thread", [True, False])
    def test_a_callback_may_close_the_engine(self, model, processor, has_thread):
        engine = StreamEngine(model, processor, max_streams=2)
        other = engine.open(WaitKPolicy(1))
        stream = engine.open(WaitKPolicy(1), logits_processor=[lambda ids, scores: (engine.close(), scores)[1]])
        stream.source.put("a dog ")
        if has_thread:
            engine.start()
        else:
            finish(engine)
        assert list(other.words) == []
        list(stream.words)
        engine.close()
        assert [other.stop_reason, stream.stop_reason] == ["cancelled", "cancelled"]
        assert engine.active_streams == 0


def test_a_streamer_of_the_caller_hears_of_words_and_of_ends_of_sentences(model, processor):
    heard = []

    class Hears(SimulStreamer):
        def put_word(self, row, ids, delay, elapsed_ms):
            heard.append(delay)

        def end_sentence(self, source_units, reason):
            heard.append((source_units, reason))

    with StreamEngine(model, processor, max_streams=1) as engine:
        stream = engine.open(WaitKPolicy(1), sentences=True, max_new_tokens=3, streamer=Hears(processor))
        stream.source.put("a dog runs. two children watch him")
        stream.source.end_sentence()
        stream.source.end()
        assert list(stream.words) == []
        assert not engine.is_closed
    assert engine.is_closed
    ends = [each for each in heard if isinstance(each, tuple)]
    assert [units for units, _ in ends] == [3, 7]
    assert {reason for _, reason in ends} <= {"eos", "max_new_tokens"}
    first = heard.index(ends[0])
    assert all(delay <= 3 for delay in heard[:first])
    assert all(delay > 3 for delay in heard[first + 1 : -1])
