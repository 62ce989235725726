# SPDX-License-Identifier: Apache-2.0
"""Sentences that stay in view, over the wire: the engine's words, also after a break."""

import json
import random

import httpx
import pytest

from helpers import make_model, make_processor, random_sentence
from serving import END, Relay, rest, run, running, say, source, taken, tiny, until
from test_context_streams import Brief
from test_engine import finish
from transformers_simul import SimulClient, SimulStreamer, StreamEngine
from transformers_simul.serving.client.kept import Kept
from transformers_simul.serving.messages import SERVER_MESSAGES, SentenceEnd, SourcePiece, Start, WordMessage
from transformers_simul.serving.models import MeasuredEngine

resuming = Kept._resuming
_draw = random.Random(3)
TEXT = " ".join(random_sentence(_draw, 2, 5) + " ." for _ in range(7))
# Two of its sentences are cut off, and those before them leave with them.
OPTIONS = {"max_new_tokens": 12}
ERROR = {"type": "error", "action": "fix"}


@pytest.fixture(scope="module")
def parts():
    model, processor = tiny()
    # As if it had been trained so.
    model.generation_config.context_sentences = 2
    model.generation_config.sequence_bias = None
    return model, processor


@pytest.fixture(autouse=True)
def babble(monkeypatch):
    """A random model's words, which depend on all that is in view, and mostly end by themselves."""

    def opened(self, *args, **kwargs):
        return StreamEngine.open(self, *args, logits_processor=[Brief(self.processor.token_kinds, 1.0)], **kwargs)

    monkeypatch.setattr(MeasuredEngine, "open", opened)


def alone(parts, context, options):
    """What the engine itself writes."""
    engine = StreamEngine(*parts, max_streams=1, max_tokens=256)
    processors = [Brief(parts[1].token_kinds, 1.0)]
    stream = engine.open("wait-1", sentences=True, context_sentences=context, logits_processor=processors, **options)
    stream.source.put(TEXT)
    stream.source.end()
    finish(engine)
    return [(word.text, word.delay) for word in stream.words]


def pairs(messages):
    return [(each.text, each.delay) for each in messages if each.type == "word"]


async def said(server, start, *messages):
    """What the server says to a start and what follows."""
    async with server.connect() as socket:
        await say(socket, json.loads(start.model_dump_json(exclude_none=True)), *messages)
        return [SERVER_MESSAGES.validate_python(each) for each in await rest(socket)]


def test_words_are_those_of_the_engine_with_as_many_sentences_in_view(parts):
    expected = {context: alone(parts, context, OPTIONS) for context in (0, 1, 2)}
    assert len({*map(str, expected.values())}) == 3

    async def main():
        async with running({"one": parts}) as server, httpx.AsyncClient(base_url=server.url, timeout=300) as http:
            for wanted, context in ((0, 0), (1, 1), (2, 2), (None, 2)):
                start = Start(context_sentences=wanted, options=OPTIONS)
                started, *others = await said(server, start, source(TEXT), END)
                assert pairs(others) == expected[context]
                assert started.context_sentences == {"de": context}
                assert started.kept_sentences == context * 2  # layers
                body = {"text": TEXT, "context_sentences": wanted, "options": OPTIONS}
                answer = (await http.post("/v1/translate", json=body)).json()
                assert [(word["text"], word["delay"]) for word in answer["words"]] == expected[context]
            assert (await http.get("/v1/models")).json()["models"][0]["context_sentences"] == 2
            # Of one that is no endless stream there are none to keep.
            started, *_ = await said(server, Start(sentences=False, options=OPTIONS), source("a dog"), END)
            assert started.kept_sentences == 0

    run(main())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"context_sentences": 3}, "context_sentences must be at most 2 for 'one', trained with 2, got 3"),
        ({"context_sentences": 1, "target_langs": ["fr"]}, "at most 0 for 'two', trained without context, got 1"),
        ({"context_sentences": 1, "target_langs": ["de", "fr"]}, "at most 0 for 'two', trained without context"),
        ({"context_sentences": 1, "sentences": False}, "context_sentences=1 needs sentences=True"),
        ({"context_sentences": -1}, "start.context_sentences: Input should be greater than or equal to 0"),
        ({"context_sentences": 10**30}, "start.context_sentences: Input should be less than or equal to 1000"),
        ({"context_sentences": True}, "start.context_sentences: Input should be a valid integer"),
    ],
)
def test_what_no_model_was_trained_for_is_refused(parts, fields, message):
    async def main():
        async with running({"one": parts, "two": tiny(target_lang="fr")}) as server:
            async with server.connect() as socket:
                await say(socket, {"type": "start", **fields}, END)
                (answer,) = await rest(socket)
            assert message in answer["message"]
            assert answer["code"] in ("bad_option", "bad_message")
            await server.idle()

    run(main())


@pytest.mark.parametrize("unit", ["word", "char"])
def test_wherever_it_is_cut_the_context_goes_on(parts, unit):
    """A client gives back what it kept; without that, other words follow."""
    if unit == "char":
        parts = tiny(unit="char")
        parts[0].generation_config.context_sentences, parts[0].generation_config.sequence_bias = 2, None
    text = TEXT if unit == "word" else "a dog. run to. it. dogs."
    start = Start(options=OPTIONS if unit == "word" else {"max_new_tokens": 40}, context_sentences=1)

    def told(messages):
        kinds = ("word", "sentence_end")
        return [each.model_dump(exclude={"elapsed_ms", "read"}) for each in messages if each.type in kinds]

    async def main():
        async with running({"one": parts}, max_streams=32) as server:
            whole = await said(server, start, source(text), END)
            ends = [each.reason for each in whole if each.type == "sentence_end"]
            assert {*ends} == {"eos", "max_new_tokens"}
            differ = 0
            for cut in range(1, len(whole), 2 if unit == "word" else 7):
                kept = Kept(start)
                kept.begin(whole[0])
                kept.put(text)
                kept.end()
                for message in whole[1:cut]:
                    assert kept.heard(message)
                again = [json.loads(each.model_dump_json(exclude_none=True)) for each in kept.again()]
                mine = await said(server, kept.start(), *again)
                assert told(mine) == told(whole[cut:]), cut
                read = [unit for each in whole[cut:-1] for unit in each.read]
                assert [unit for each in mine[1:-1] for unit in each.read] == read, cut
                if cut % 3 == 0 and kept.tracks["de"].context:
                    kept.tracks["de"].context.clear()
                    kept.forget()
                    again = [json.loads(each.model_dump_json(exclude_none=True)) for each in kept.again()]
                    differ += told(await said(server, kept.start(), *again)) != told(whole[cut:])
            assert differ
            await server.idle()

    run(main())


def test_the_client_resumes_with_context_wherever_its_line_is_cut(parts):
    expected = alone(parts, 2, OPTIONS)

    async def main():
        async with (
            running({"one": parts}) as one,
            running({"one": parts}) as other,
            Relay(one) as relay,
            SimulClient(relay.url, give_up_s=300).open(options=OPTIONS, context_sentences=2) as stream,
        ):
            for number, word in enumerate(TEXT.split()):
                await stream.put(f"{word} ")
                if number % 8 == 7:
                    await stream.flush()
                    relay.target = other if relay.target is one else one
                    relay.cut()
            await stream.end()
            assert [(word.text, word.delay) async for word in stream] == expected
            assert stream.reconnects > 1

    run(main())


def test_tracks_with_and_without_context_go_on_together(parts):
    """The newest ends and words of both, from where the one that keeps sentences begins."""
    start = Start(target_langs=["de", "fr"], options=OPTIONS)
    french = tiny(target_lang="fr", template="{source} in {target_lang}: {target}")

    def told(messages, language):
        mine = [each for each in messages if getattr(each, "target_lang", None) == language]
        return [each.model_dump(exclude={"elapsed_ms", "read"}) for each in mine]

    async def main():
        async with running({"one": parts, "two": french}) as server:
            whole = await said(server, start, source(TEXT), END)
            assert whole[0].context_sentences == {"de": 2, "fr": 0}
            german = [each for each in whole if getattr(each, "target_lang", None) == "de"]
            for cut in range(1, len(german), 7):
                kept = Kept(start)
                kept.begin(whole[0])
                kept.put(TEXT)
                kept.end()
                for message in german[:cut]:
                    kept.heard(message)
                again = [json.loads(each.model_dump_json(exclude_none=True)) for each in kept.again()]
                mine = await said(server, kept.start(), *again)
                assert told(mine, "de") == told(german[cut:], "de")
                assert told(mine, "fr") == told(whole, "fr")

    run(main())


def word(delay, text="a"):
    return {"text": text, "delay": delay}


@pytest.mark.parametrize(
    ("before", "track", "message"),
    [
        (
            0,
            {"source_words": 4, "context": {"source_words": 5, "words": []}},
            "must begin before source_words, 4, got 5",
        ),
        (3, {"source_words": 4, "context": {"source_words": 2, "words": []}}, "must be at most the 2 of each"),
        (0, {"source_words": 4, "context": {"source_words": 0, "words": [word(5)]}}, "are of the context"),
        (0, {"source_words": 4, "committed": [word(3)]}, "are of the context"),
        (0, {"source_words": 4, "context": {"source_words": 2, "words": [word(1)]}}, "a delay of at least 2"),
        (0, {"source_words": 4, "context": {"source_words": 0, "words": [word(3), word(2)]}}, "do not decrease"),
        (0, {"source_words": 99, "context": {"source_words": 0, "words": []}, "committed": [word(100)]}, None),
        (0, {"source_words": 2**53, "context": {"source_words": 0, "words": [word(2**53)]}}, None),
        (0, {"source_words": 5, "context": {"source_words": 0, "words": [word(5, "the"), word(5)]}}, None),
        (0, {"source_words": 3, "context": {"source_words": 0, "words": [word(1)] * 300}}, None),
    ],
)
def test_a_forged_context_is_refused_or_borne(parts, before, track, message):
    """Whatever it is, the stream ends, with words that follow or an error that says why, and its place is free."""

    async def main():
        async with running({"one": parts}) as server:
            async with server.connect() as socket:
                resume = {"source_words": before, "tracks": [{"committed": [], **track}]}
                await say(socket, {"type": "start", "options": OPTIONS, "resume": resume}, source(TEXT), END)
                answers = await rest(socket)
            if message is None:
                assert answers[-1]["type"] == "end" or answers[-1]["code"] == "bad_resume"
            else:
                assert answers[-1] | ERROR == answers[-1]
                assert message in answers[-1]["message"]
            assert all(each.get("code") != "internal" for each in answers)
            await server.idle()

    run(main())


@pytest.mark.parametrize("context", [0, 2])
def test_committed_words_of_several_sentences_are_borne(parts, context):
    """Told of the first sentence before the last committed word has read its source, which no client of ours asks for."""

    async def main():
        async with running({"one": parts}) as server:
            async with server.connect() as socket:
                resume = {"source_words": 0, "tracks": [{"committed": [word(1), word(8)]}]}
                start = {"type": "start", "context_sentences": context, "options": OPTIONS, "resume": resume}
                await say(socket, start, source("a dog. run "))
                told = await until(socket, "sentence_end")
                await say(socket, source("to it. a dog runs. it is."), END)
                told += await rest(socket)
            assert told[-1]["type"] == "end"
            assert told[-1]["tracks"][0]["source_words"] == 10
            # What the committed words had read is not told again.
            assert [unit for each in told for unit in each.get("read", [])] == ["it", "is."]
            await server.idle()

    run(main())


def test_the_oldest_source_leaves_first_of_what_is_too_much():
    """Also where it is that of a language whose sentences have no words, and another language has no context."""
    kept = Kept(Start(target_langs=["de", "fr"]))
    kept.begin(taken(target_langs=("de", "fr"), kept_sentences=4, burst_words=16))
    for number in range(1, 4):
        kept.add(SourcePiece(text="a dog runs today. "))
        ends = {"sentences": number, "source_words": 4 * number, "target_words": 0}
        kept.heard(SentenceEnd(target_lang="de", reason="max_new_tokens", **ends))
        kept.heard(SentenceEnd(target_lang="fr", **ends))
    start = kept.start()
    assert start.resume.source_words == 4
    assert [each.context and each.context.source_words for each in start.resume.tracks] == [None, 4]


def test_no_more_context_is_kept_and_sent_than_servers_take():
    def kept_of(sentences, **limits):
        kept = Kept(Start())
        kept.begin(taken(kept_sentences=4, **limits))
        for number in range(sentences):
            kept.add(SourcePiece(text="a dog runs today. "))
            index = 2 * number
            for text in ("ein", "Hund"):
                kept.heard(
                    WordMessage(target_lang="de", index=index, text=text, delay=4 * number + 4, elapsed_ms=0, ids=[3])
                )
                index += 1
            kept.heard(
                SentenceEnd(
                    target_lang="de", sentences=number + 1, source_words=4 * number + 4, target_words=2 * number + 2
                )
            )
        return kept.start()

    def sent(start):
        (track,) = start.resume.tracks
        words = [word.delay for word in track.context.words] if track.context else []
        return start.resume.source_words, track.source_words, words

    assert sent(kept_of(2)) == (0, 8, [4, 4, 8, 8])
    assert sent(kept_of(6)) == (8, 24, [12, 12, 16, 16, 20, 20, 24, 24])
    assert sent(kept_of(6, burst_words=16)) == (16, 24, [20, 20, 24, 24])
    assert sent(kept_of(6, burst_words=6)) == (24, 24, [])
    size = len(kept_of(6).model_dump_json(exclude_none=True))
    assert sent(kept_of(6, message_bytes=size)) == sent(kept_of(6))
    assert sent(kept_of(6, message_bytes=size - 1)) == (12, 24, [16, 16, 20, 20, 24, 24])
    assert sent(kept_of(6, message_bytes=1)) == (24, 24, [])


def test_what_is_too_much_is_not_measured_for_each_sentence_that_leaves(monkeypatch):
    """A server may ask for many sentences of long words, and then take few bytes: its client does not stand still."""
    measured = []
    monkeypatch.setattr(Kept, "_resuming", lambda self: measured.append(1) or resuming(self))
    kept = Kept(Start())
    kept.begin(taken(kept_sentences=1000, message_bytes=9000))
    for number in range(1, 201):
        kept.add(SourcePiece(text="dog. "))
        said = {"target_lang": "de", "text": "a" * 500, "elapsed_ms": 0.0}
        kept.heard(WordMessage(index=number - 1, delay=number, **said))
        kept.heard(SentenceEnd(target_lang="de", sentences=number, source_words=number, target_words=number))
    assert 8000 < len(kept.start().model_dump_json(exclude_none=True)) <= 9000
    assert len(measured) < 5


@pytest.mark.parametrize(("layers", "context", "max_tokens"), [(1, 1, 64), (1, 2, 90), (3, 1, 60)])
def test_as_many_sentences_as_layers_times_those_in_view_are_enough_and_fewer_are_not(layers, context, max_tokens):
    """Also where older ones had left for lack of room."""
    processor = make_processor()
    model = make_model(processor, num_hidden_layers=layers)
    units = TEXT.split()

    def events(begin=0, room=max_tokens, **resumed):
        engine = StreamEngine(model, processor, max_streams=1, max_tokens=room)
        told = []
        streamer = SimulStreamer(processor)
        streamer.put_word = lambda row, ids, delay, ms: told.append((delay, ids))
        streamer.end_sentence = lambda units, reason: told.append((units, reason))
        processors = [Brief(processor.token_kinds, 1.0)]
        options = {"sentences": True, "context_sentences": context, "max_new_tokens": 30, "streamer": streamer}
        stream = engine.open("wait-1", logits_processor=processors, **options, **resumed)
        stream.source.put(" ".join(units[begin:]))
        stream.source.end()
        finish(engine)
        return told

    whole = events()
    assert whole != events(room=512)
    ends = [place for place, (_, what) in enumerate(whole) if isinstance(what, str)]
    differ = 0
    for number in range(1, len(ends)):
        for kept in (layers * context, layers * context - 1):
            cut = [each for each in range(number) if whole[ends[each]][1] != "eos"]
            first = max([0, number - kept, *(each + 1 for each in cut)])
            place = ends[first - 1] + 1 if first else 0
            begin, over = (whole[ends[first - 1]][0] if first else 0), whole[ends[number - 1]][0]
            words = [(ids, delay) for delay, ids in whole[place : ends[number - 1]] if not isinstance(ids, str)]
            mine = events(begin, committed=words, words_before=begin, words_over=over)
            same = [each for each in mine if each[0] > over] == whole[ends[number - 1] + 1 :]
            assert same or kept < layers * context, number
            differ += not same
    assert differ
