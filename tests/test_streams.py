# SPDX-License-Identifier: Apache-2.0
import asyncio
import gc
import itertools
import queue
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from transformers_simul import (
    SimulStreamer,
    SourceCancelled,
    SourceStream,
    SourceTimeout,
    WaitKPolicy,
    translate_stream,
    translate_stream_async,
)
from transformers_simul.models.text import normalise_spaces, split_words


def read_all(stream):
    words = []
    while (word := stream.poll()[1]) is not None:
        words.append(word)
    return words


@pytest.mark.parametrize(("unit", "count"), [("word", 100_000), ("char", 20_000)])
def test_any_chunking_gives_the_words_of_the_text_at_once(unit, count):
    draw = random.Random(0)
    alphabet = "ab.é \u00a0\u202f\t\n\u3000😀 "
    for _ in range(count):
        text = "".join(draw.choice(alphabet) for _ in range(draw.randint(0, 14)))
        stream = SourceStream(unit=unit)
        rest = text
        while rest:
            size = draw.randint(1, 6)
            stream.put(rest[:size])
            rest = rest[size:]
        stream.end()
        expected = split_words(text) if unit == "word" else list(normalise_spaces(text))
        assert read_all(stream) == expected, repr(text)


def test_a_word_is_complete_when_white_space_or_the_end_follows():
    stream = SourceStream("Hel")
    assert stream.poll() == (False, None)
    stream.put("lo")
    assert stream.poll() == (False, None)
    stream.put(" wor")
    assert stream.put_units == 1
    assert stream.poll() == (True, "Hello")
    stream.put("ld")
    stream.end()
    assert stream.poll() == (True, "world")
    assert stream.poll() == (True, None)


def test_time_out_cancel_and_late_text(processor):
    stream = SourceStream(timeout_s=0.05, name="stream 7")
    reader = stream.bind(processor)
    assert reader.poll() == (False, None)
    time.sleep(0.06)
    assert reader.wait_s == 0
    with pytest.raises(SourceTimeout, match="stream 7: no unit came within timeout_s=0.05"):
        reader.poll()
    stream.put("a ")
    stream.cancel()
    with pytest.raises(SourceCancelled, match="stream 7"):
        stream.poll()
    with pytest.raises(ValueError, match=r"stream 7: put\('b'\) came after cancel\(\)"):
        stream.put("b")
    ended = SourceStream("a")
    ended.end()
    ended.end()
    with pytest.raises(ValueError, match=r"after end\(\)"):
        ended.put("b")


def test_late_text_is_told_why_nobody_reads_it():
    stream = SourceStream("a ")
    stream.cancel("the translation had ended: max_new_tokens")
    stream.cancel()
    with pytest.raises(ValueError, match="put\\('b'\\) came after the translation had ended: max_new_tokens"):
        stream.put("b")
    stream.end_sentence()
    stream.end()
    assert stream.is_cancelled


def test_two_hundred_thousand_pieces_of_one_word_cost_no_more_than_themselves():
    """Quadratic, they took minutes; the bound is far above what any loaded machine needs."""
    stream, started = SourceStream(max_waiting=10**6), time.thread_time()
    for _ in range(200_000):
        stream.put("x")
    assert time.thread_time() - started < 60
    stream.put(" ")
    assert stream.poll() == (True, "x" * 200_000)


def test_a_listener_that_fails_harms_neither_the_writer_nor_the_other_listeners(caplog):
    stream, called = SourceStream(name="stream 3"), []

    def breaks():
        raise RuntimeError("a listener of the user's")

    stream.listen(breaks)
    stream.listen(lambda: called.append(1))
    stream.put("a ")
    stream.end_sentence()
    stream.end()
    stream.cancel()
    assert len(called) == 4
    assert "A listener of stream 3 failed" in caplog.text
    assert "a listener of the user's" in caplog.text


def test_who_writes_hears_when_a_read_begins_to_wait(processor):
    stream, waits = SourceStream(), []
    reader = stream.bind(processor)
    stream.listen_for_waits(lambda: waits.append(stream.put_units))
    assert reader.peek(0) == (False, None)
    assert waits == []
    assert [reader.poll()[0] for _ in range(3)] == [False] * 3
    assert waits == [0]
    stream.put("dog")
    assert not reader.poll()[0]
    stream.put(" ")
    assert reader.poll() == (True, processor.encode("dog")[0])
    assert [reader.poll()[0] for _ in range(3)] == [False] * 3
    assert waits == [0, 1]


def test_bad_arguments_and_bounds(processor):
    with pytest.raises(ValueError, match="unit must be one of"):
        SourceStream(unit="line")
    with pytest.raises(ValueError, match="timeout_s must be above 0"):
        SourceStream(timeout_s=0)
    with pytest.raises(ValueError, match="text must be a string, got bytes"):
        SourceStream().put(b"a")
    with pytest.raises(ValueError, match="unit of the source"):
        SourceStream(unit="char").bind(processor)
    bounded = SourceStream(max_waiting=2, name="stream 5")
    bounded.put("a b c")
    with pytest.raises(BufferError, match="stream 5: max_waiting is 2, but 3 units would wait"):
        bounded.put(" d")
    with pytest.raises(BufferError, match="a unit of 3 characters"):
        bounded.put("cc")
    assert bounded.poll() == (True, "a")
    bounded.put(" d")
    bounded.end()
    assert read_all(bounded) == ["b", "c", "d"]


def test_many_writers_lose_nothing():
    stream = SourceStream()
    writers = [threading.Thread(target=lambda: [stream.put("x ") for _ in range(500)]) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stream.end()
    assert len(read_all(stream)) == 4000


def test_a_slow_consumer_does_not_hold_the_model_up(model, processor):
    streamer = SimulStreamer(processor)
    slow = iter(streamer)
    started = time.monotonic()
    output = model.generate(
        **processor(source="a dog runs over"), policy=WaitKPolicy(1), streamer=streamer, max_new_tokens=30,
        max_word_tokens=2, return_dict_in_generate=True, suppress_tokens=[0],
    )  # fmt: skip
    assert time.monotonic() - started < 60
    assert [word.text for word in slow] == processor.words(output.words[0])


def test_several_async_consumers(processor):
    streamer = SimulStreamer(processor)
    ids = processor.encode("two children watch")

    def write():
        for index, word in enumerate(ids):
            time.sleep(0.01)
            streamer.put_word(0, word, index + 1, 0.0)
        streamer.end()

    async def consume(delay):
        words = []
        async for word in streamer:
            await asyncio.sleep(delay)
            words.append(word.text)
        return words

    async def main():
        threading.Thread(target=write).start()
        return await asyncio.gather(consume(0), consume(0.03), consume(0))

    assert asyncio.run(main()) == [["two", "children", "watch"]] * 3


def test_a_consumer_who_leaves_the_loop_goes_on_with_the_next_word(processor):
    """Also where words are forgotten once they are read."""
    streamer = SimulStreamer(processor, max_unread=3, name="stream 4")
    for index, ids in enumerate(processor.encode("a dog runs")):
        streamer.put_word(0, ids, index + 1, 0.0)
    with pytest.raises(BufferError, match="stream 4: max_unread is 3, and 3 words wait"):
        streamer.put_word(0, ids, 4, 0.0)
    assert next(iter(streamer)).text == "a"

    async def two():
        words = [await anext(aiter(streamer))]
        return words + [await anext(aiter(streamer))]

    assert [word.text for word in asyncio.run(two())] == ["dog", "runs"]
    streamer.put_word(0, processor.encode("over")[0], 4, 0.0)
    streamer.end()
    assert [word.text for word in streamer] == ["over"]


class ClosesBetween(asyncio.SelectorEventLoop):
    """Closes after it was found open, before it is called."""

    def call_soon_threadsafe(self, *args, **kwargs):
        self.close()
        return super().call_soon_threadsafe(*args, **kwargs)


def test_a_consumer_whose_event_loop_closes_harms_nobody(processor):
    streamer, loop = SimulStreamer(processor), ClosesBetween()
    other = iter(streamer)
    waiting = loop.create_task(anext(aiter(streamer)))
    loop.run_until_complete(asyncio.sleep(0))
    streamer.put_word(0, processor.encode("dog")[0], 1, 0.0)
    streamer.end()
    assert loop.is_closed()
    assert [word.text for word in other] == ["dog"]
    waiting._log_destroy_pending = False


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration])
def test_what_ended_the_model_does_not_end_who_reads(processor, kind):
    streamer = SimulStreamer(processor, name="stream 2")
    streamer.put_word(0, processor.encode("dog")[0], 1, 0.0)
    streamer.fail(kind("enough"))
    words = iter(streamer)
    assert next(words).text == "dog"
    with pytest.raises(RuntimeError, match=f"stream 2: the translation ended with {kind.__name__}"):
        next(words)

    async def read():
        return [word async for word in streamer]

    with pytest.raises(RuntimeError, match=kind.__name__):
        asyncio.run(read())


def expected_words(model, processor, source, **kwargs):
    output = model.generate(**processor(source=source), policy=WaitKPolicy(1), return_dict_in_generate=True, **kwargs)
    return processor.words(output.words[0]), output.delays[0]


OPTIONS = {"max_new_tokens": 25, "max_word_tokens": 2, "suppress_tokens": [0]}


def test_translate_stream_equals_the_known_source(model, processor):
    source = "a dog runs over the meadow"
    words = list(translate_stream(model, processor, iter(source.split()), WaitKPolicy(1), **OPTIONS))
    assert ([word.text for word in words], [word.delay for word in words]) == expected_words(
        model, processor, source, **OPTIONS
    )


def test_translate_stream_async_equals_the_known_source(model, processor):
    source = "a dog runs over the meadow"

    async def arriving():
        for word in source.split():
            await asyncio.sleep(0.001)
            yield word

    async def main(words):
        return [word async for word in translate_stream_async(model, processor, words, WaitKPolicy(1), **OPTIONS)]

    for words in (arriving(), source.split()):
        written = asyncio.run(main(words))
        assert [word.text for word in written] == expected_words(model, processor, source, **OPTIONS)[0]


def test_errors_of_source_and_model_reach_the_caller(model, processor):
    def broken():
        yield "a"
        raise RuntimeError("the microphone fell")

    with pytest.raises(RuntimeError, match="microphone"):
        list(translate_stream(model, processor, broken(), WaitKPolicy(3), **OPTIONS))
    with pytest.raises(ValueError, match="num_beams"):
        list(translate_stream(model, processor, ["a"], WaitKPolicy(1), num_beams=4))

    async def main():
        async for _ in translate_stream_async(model, processor, ["a"], WaitKPolicy(1), num_beams=4):
            pass

    with pytest.raises(ValueError, match="num_beams"):
        asyncio.run(main())


def test_a_streamers_consumer_hears_of_an_error_before_decoding_began(model, processor):
    streamer = SimulStreamer(processor)
    with pytest.raises(ValueError, match="nonsense"):
        model.generate(**processor(source="a"), policy=WaitKPolicy(1), streamer=streamer, nonsense=1)
    with pytest.raises(ValueError, match="nonsense"):
        list(streamer)


def endless_words():
    while True:
        yield "dog"


BABBLE = {"max_word_tokens": 2, "suppress_tokens": [0]}


@pytest.mark.parametrize("policy", [WaitKPolicy(1), WaitKPolicy(3)])
def test_no_word_is_taken_before_the_policy_reads_it(model, processor, policy):
    """However long the source and however slow its reader: nothing piles up."""
    taken, words = itertools.count(), []

    def counted():
        for word in endless_words():
            next(taken)
            yield word

    for word in translate_stream(model, processor, counted(), policy, max_new_tokens=30, **BABBLE):
        words.append(word)
        # `repr` reads a count without moving it.
        assert repr(taken) == f"count({word.delay})"
    assert words[-1].delay > policy.k


def test_leaving_early_ends_the_threads(model, processor):
    before = threading.active_count()
    for _ in translate_stream(model, processor, endless_words(), WaitKPolicy(1), **BABBLE):
        break
    assert threading.active_count() == before


def test_leaving_ends_what_is_left_to_write(model, processor):
    """The source is read, and thousands of tokens could still be written."""
    calls = itertools.count()

    def count(ids, scores):
        next(calls)
        return scores

    options = BABBLE | {"max_new_tokens": 5000, "logits_processor": LogitsProcessorList([count])}
    for _ in translate_stream(model, processor, ["dog"] * 3, WaitKPolicy(3), **options):
        break

    async def main():
        words = translate_stream_async(model, processor, ["dog"] * 3, WaitKPolicy(3), **options)
        await anext(words)
        await words.aclose()

    asyncio.run(main())
    assert next(calls) < 5000


def test_a_stopping_criterion_of_the_users_holds_too(model, processor):
    ends = StoppingCriteriaList([lambda ids, scores: torch.ones(1, dtype=torch.bool)])
    ended, whole = (
        list(translate_stream(model, processor, ["dog"], WaitKPolicy(1), stopping_criteria=criteria, **BABBLE))
        for criteria in (ends, None)
    )
    assert len(ended) <= 1 < len(whole)


def test_a_source_that_was_left_silent_keeps_its_words(model, processor):
    """Nobody waits for the next word of a source whose translation was left."""
    arrived = queue.SimpleQueue()
    before = threading.active_count()
    arrived.put("dog")
    for _ in translate_stream(model, processor, iter(arrived.get, None), WaitKPolicy(1), **BABBLE):
        break
    assert threading.active_count() == before

    async def main():
        arrived.put("dog")
        words = translate_stream_async(model, processor, iter(arrived.get, None), WaitKPolicy(1), **BABBLE)
        await anext(words)
        await words.aclose()

    asyncio.run(main())
    arrived.put("runs")
    assert arrived.get(timeout=60) == "runs"


def test_a_source_that_blocks_does_not_stop_the_event_loop(model, processor):
    said = threading.Event()

    def blocking():
        yield "a"
        assert said.wait(60), "the event loop stood still"
        yield "dog"

    async def speak():
        await asyncio.sleep(0.05)
        said.set()

    async def translate():
        words = translate_stream_async(model, processor, blocking(), WaitKPolicy(2), max_new_tokens=4, **BABBLE)
        return [word async for word in words]

    async def main():
        return (await asyncio.gather(translate(), speak()))[0]

    assert asyncio.run(main())[0].delay == 2


def test_asyncios_own_threads_are_left_alone(model, processor):
    """One thread in the pool, and that is busy: translations need none of it."""

    async def main():
        busy, pool = threading.Event(), ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(pool)
        blocked = asyncio.get_running_loop().run_in_executor(None, busy.wait, 120)

        async def translate(words):
            words = translate_stream_async(model, processor, words, WaitKPolicy(1), max_new_tokens=2, **BABBLE)
            return [word async for word in words]

        sources = [["a", "dog"], iter(["a", "dog"])] * 4
        found = await asyncio.gather(*map(translate, sources))
        assert not blocked.done()
        busy.set()
        await blocked
        return found

    assert all(asyncio.run(main()))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_event_loop_that_closes_ends_its_translation(model, processor):
    left = threading.Event()

    class Later(WaitKPolicy):
        def reads(self, progress):
            assert left.wait(60)
            return super().reads(progress)

    loop, before = ClosesBetween(), set(threading.enumerate())
    words = translate_stream_async(model, processor, endless_words(), Later(1), **BABBLE)
    waiting = loop.create_task(anext(words))
    loop.run_until_complete(asyncio.sleep(0))
    left.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert loop.is_closed()
    assert set(threading.enumerate()) <= before
    waiting._log_destroy_pending = False
    del waiting, words
    gc.collect()


def test_leaving_the_async_form_early(model, processor):
    async def endless():
        while True:
            await asyncio.sleep(0)
            yield "dog"

    async def main():
        words = translate_stream_async(
            model, processor, endless(), WaitKPolicy(1), max_word_tokens=2, suppress_tokens=[0]
        )
        async for _ in words:
            break
        await words.aclose()
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
