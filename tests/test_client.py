# SPDX-License-Identifier: Apache-2.0
"""The clients against the real server, over lines that are cut: each word comes once, and is what it would have been."""

import asyncio
import contextlib
import importlib
import json
import random
import sys
import time

import pytest

from serving import LIMIT_S, Relay, in_thread, run, running, taken, taught, tiny
from test_serving import TEXT, TOKEN, alone
from transformers_simul import ConnectionLost, PlainSimulClient, ServerError, SimulClient, cli
from transformers_simul.serving.client import connection
from transformers_simul.serving.client.kept import Kept
from transformers_simul.serving.messages import SentenceEnd, SourcePiece, Start, WordMessage
from transformers_simul.serving.session import Session

OPTIONS = {"max_new_tokens": 12}
# As a stream without options.
FREE = {"max_new_tokens": None}


@pytest.fixture(scope="module")
def parts():
    return taught()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(connection, "backoff_s", lambda number: 0.02)


def pairs(words):
    return [(word.text, word.delay) for word in words]


async def fed(stream, text, cut=lambda number: None):
    """Send a text in small pieces; the words that come."""

    async def feed():
        for number, place in enumerate(range(0, len(text), 3)):
            await stream.put(text[place : place + 3])
            await asyncio.sleep(0.002)
            cut(number)
        await stream.end()

    feeder = asyncio.create_task(feed())
    words = [word async for word in stream]
    await feeder
    return words


class TestResume:
    def test_an_undisturbed_stream(self, parts):
        async def main():
            async with running({"one": parts}) as server:
                async with SimulClient(server.url).open(policy="wait-2", options=OPTIONS) as stream:
                    words = await fed(stream, TEXT)
                    assert (stream.reconnects, stream.started.unit) == (0, "word")
                assert pairs(words) == alone(parts, TEXT, "wait-2")
                assert stream.reason
                assert stream.source_words == len(TEXT.split())
                came = [word.source_at_ms for word in words if word.source_at_ms is not None]
                assert came == sorted(came)
                assert 0 <= came[0] <= came[-1] <= stream.now_ms
                await server.idle()

        run(main())

    @pytest.mark.parametrize("policy", ["wait-1", "wait-3", "full", "hold-1", "ralcp:0.6"])
    def test_cut_off_after_every_word(self, parts, policy):
        expected = alone(parts, TEXT, policy)

        async def main():
            async with running({"one": parts}) as server, Relay(server) as relay:
                async with SimulClient(relay.url).open(policy=policy, options=OPTIONS) as stream:
                    await stream.put(TEXT)
                    await stream.end()
                    words = []
                    async for word in stream:
                        words.append(word)
                        relay.cut()
                    assert stream.reconnects > 1
                assert pairs(words) == expected
                assert [word.index for word in words] == [*range(len(words))]
                await server.idle()

        run(main())

    @pytest.mark.parametrize(
        ("kind", "kwargs"),
        [
            ({}, {}),
            ({"unit": "char"}, {}),
            ({"unit": "token"}, {}),
            ({}, {"sentences": False}),
            ({}, {"max_sentence_words": 4}),
            ({"unit": "char"}, {"max_sentence_words": 5}),
        ],
        ids=str,
    )
    def test_cut_off_at_random_while_source_comes(self, kind, kwargs):
        parts = tiny(**kind) if kind else taught()
        settings = dict(kwargs)
        if not kwargs.get("sentences", True):
            settings = {"sentences": False, "max_sentence_words": None}
        text = TEXT if kind != {"unit": "char"} else "a dog. two\n  runs over 3.5"
        expected = alone(parts, text, "wait-2", **settings)
        draw = random.Random(0)

        async def main():
            async with running({"one": parts}) as server, Relay(server) as relay:
                for _ in range(4):
                    client = SimulClient(relay.url)
                    async with client.open(policy="wait-2", options=OPTIONS, **kwargs) as stream:
                        words = await fed(stream, text, lambda number: draw.random() < 0.3 and relay.cut())
                        assert stream.reconnects
                    assert pairs(words) == expected
                await server.idle()

        run(main())

    def test_a_server_is_killed_and_another_goes_on(self, parts):
        async def main():
            async with Relay() as relay:
                async with running({"one": parts}) as first:
                    relay.target = first
                    lost = []
                    client = SimulClient(relay.url, on_lost=lost.append)
                    stream = await client.open(policy="wait-2", options=OPTIONS).__aenter__()
                    words = []
                    await stream.put("a dog runs over the ")
                    async for word in stream:
                        words.append(word)
                        break
                    relay.target = None
                    relay.cut()
                # Said while there is no server.
                await stream.put("meadow. two children")
                await asyncio.sleep(0.1)
                async with running({"one": parts}) as second:
                    relay.target = second
                    await stream.put(" watch him jumping today. a green dog")
                    await stream.end()
                    words += [word async for word in stream]
                    await stream.close()
                    await second.idle()
            assert lost
            assert pairs(words) == alone(parts, TEXT, "wait-2")

        run(main())

    def test_draining_servers_are_left_for_the_next(self, parts):
        async def main():
            async with running({"one": parts}, drain_s=0.1) as first, running({"one": parts}) as second:
                async with SimulClient(first.url, second.url).open(options=OPTIONS) as stream:
                    await stream.put("a dog runs over")
                    draining = asyncio.create_task(first.service.drain())
                    while not stream.reconnects:
                        await asyncio.sleep(0.01)
                    await draining
                    await stream.put(TEXT.removeprefix("a dog runs over"))
                    await stream.end()
                    words = [word async for word in stream]
                assert pairs(words) == alone(parts, TEXT)
                assert (first.service.sessions, stream.reconnects) == (0, 1)

        run(main())

    def test_ends_of_sentences_are_sent_again(self, parts):
        pieces = ["a dog runs", "over the", "two children watch"]

        async def main():
            async def say(stream, relay):
                for piece in pieces:
                    await stream.put(piece)
                    await stream.end_sentence()
                    relay.cut()
                await stream.end()
                return [message async for message in stream.messages()]

            async with (
                running({"one": parts}) as server,
                Relay(server) as relay,
                SimulClient(relay.url).open(policy="wait-3", options=OPTIONS) as stream,
            ):
                messages = await say(stream, relay)
            ends = [message for message in messages if isinstance(message, SentenceEnd)]
            assert [(end.sentences, end.source_words) for end in ends] == [(1, 3), (2, 5), (3, 8)]
            expected = [word for piece in pieces for word, _ in alone(parts, piece, "wait-3")]
            assert [message.text for message in messages if isinstance(message, WordMessage)] == expected

        run(main())

    def test_several_targets(self, parts):
        other = tiny(target_lang="fr", template="{source} in {target_lang}: {target}")

        async def main():
            async with (
                running({"one": parts, "two": other}) as server,
                Relay(server) as relay,
                SimulClient(relay.url).open(target_langs=["fr", "de"], options=OPTIONS) as stream,
            ):
                words = await fed(stream, TEXT, lambda number: number % 7 or relay.cut())
                assert stream.reconnects
            for language, each in (("de", parts), ("fr", other)):
                assert pairs(word for word in words if word.target_lang == language) == alone(each, TEXT)

        run(main())

    def test_a_fast_sender_is_held_and_a_silent_one_pings(self, parts, monkeypatch):
        text, pongs = TEXT.replace(". ", ".\n") * 6, []
        say = Session.say
        monkeypatch.setattr(Session, "say", lambda self, message: (pongs.append(message), say(self, message)))

        async def main():
            limits = {"burst_words": 20, "words_per_second": 200.0, "waiting_words": 20, "idle_s": 0.6}
            async with (
                running({"one": parts}, **limits) as server,
                SimulClient(server.url).open(options=OPTIONS) as stream,
            ):
                while len(pongs) < 3:
                    await asyncio.sleep(0.01)
                await stream.put(text)
                await stream.end()
                words = [word async for word in stream]
            assert pairs(words) == alone(parts, text)

        run(main())


class TestRooms:
    def test_speaker_and_listener_are_cut_off_and_miss_nothing(self, parts):
        async def main():
            async with running({"one": parts}) as server, Relay(server) as relay, Relay(server) as other:
                client = SimulClient(relay.url)
                async with SimulClient(other.url).listen("talk", ["de"]) as listener:
                    assert listener.state.state == "waiting"
                    heard = asyncio.create_task(_all(listener))

                    def cut(number):
                        if number % 5 == 2:
                            relay.cut()
                        if number % 7 == 3:
                            other.cut()

                    async with client.open(options=OPTIONS, room="talk") as stream:
                        spoken = await fed(stream, TEXT, cut)
                    words = await heard
                    assert stream.reconnects
                    assert listener.reconnects
                    assert listener.state.state == "ended"
                assert pairs(words) == pairs(spoken) == alone(parts, TEXT)

        run(main())

    def test_who_leaves_early_gives_the_place_and_the_room_free(self, parts):
        async def main():
            async with running({"one": parts}) as server:
                client = SimulClient(server.url)
                async with client.open(room="talk") as stream:
                    await stream.put("a dog ")
                    with pytest.raises(ServerError, match="room_taken") as error:
                        async with client.open(room="talk"):
                            raise AssertionError
                    assert error.value.action == "retry"
                await server.idle()
                assert server.service.rooms.find("talk").state == "ended"
                with pytest.raises(ValueError, match="must come before end and cancel"):
                    await stream.put("more")
                stream = await client.open().__aenter__()
                await stream.put("a dog ")
                await stream.__aexit__(RuntimeError, RuntimeError("mine"), None)
                await server.idle()

        run(main())


async def _all(words):
    return [word async for word in words]


class TestErrors:
    def test_what_the_server_refuses_is_raised_at_once(self, parts):
        async def main():
            async with running({"one": parts}, tokens=[TOKEN], max_streams=1) as server:
                for client, fields, code in (
                    (SimulClient(server.url), {}, "unauthorized"),
                    (SimulClient(server.url, token=TOKEN), {"policy": "nonsense"}, "bad_policy"),
                    (SimulClient(server.url, token=TOKEN), {"model": "none"}, "unknown_model"),
                ):
                    with pytest.raises(ServerError, match=f"^{code}: ") as error:
                        async with client.open(**fields):
                            raise AssertionError
                    assert (error.value.code, error.value.action) == (code, "fix")
                    assert TOKEN not in repr(error.value)
                client = SimulClient(server.url, token=TOKEN)
                async with client.open():
                    with pytest.raises(ServerError, match="full: All 1 places") as error:
                        async with client.open():
                            raise AssertionError
                    assert error.value.retry_after_s == 5.0
                with pytest.raises(ServerError, match="unauthorized"):
                    async with SimulClient(server.url).listen("talk"):
                        raise AssertionError

        run(main())

    def test_who_waits_gets_a_place(self, parts, monkeypatch):
        monkeypatch.setattr(connection.Line, "_pause", lambda self, state: 0.02)

        async def main():
            async with running({"one": parts}, max_streams=1) as server:
                client = SimulClient(server.url)
                async with client.open() as holder:
                    waiting = asyncio.create_task(client.open(wait_s=60, options=OPTIONS).__aenter__())
                    await asyncio.sleep(0.1)
                    assert not waiting.done()
                    await holder.cancel()
                    stream = await waiting
                    await stream.put(TEXT)
                    await stream.end()
                    assert pairs(await _all(stream)) == alone(parts, TEXT)
                    await stream.close()

        run(main())

    def test_no_server_or_another(self, parts):
        async def main():
            async with Relay() as nobody:
                with pytest.raises(ConnectionLost, match=f"no connection to ws://127.0.0.1:{nobody.url[17:]}"):
                    async with SimulClient(nobody.url).open():
                        raise AssertionError
                # Each address once.
                async with running({"one": parts}) as server:
                    client = SimulClient(nobody.url, server.url)
                    async with client.open():
                        pass
                    with pytest.raises(ConnectionLost, match="HTTP 404|HTTP 403"):
                        async with SimulClient(server.url + "/elsewhere").open():
                            raise AssertionError
                    stream = SimulClient(server.url, nobody.url, give_up_s=0.3).open()
                    await stream.__aenter__()
                # Lost for good: said to who writes and to who reads.
                with pytest.raises(ConnectionLost, match=r"tried for 0.3 s"):
                    await _all(stream)
                with pytest.raises(ConnectionLost):
                    await stream.put("a")
                await stream.close()

        run(main())

    def test_another_kind_of_server_is_none_to_go_on_at(self, parts):
        async def main():
            other = tiny(unit="char")
            async with running({"one": parts}) as first, running({"one": other}) as second, Relay(first) as relay:
                stream = await SimulClient(relay.url).open().__aenter__()
                relay.target = second
                relay.cut()
                # It resumes with words' counts, or not at all.
                with pytest.raises(ValueError, match="servers with the same models"):
                    await _all(stream)
                await stream.close()

        run(main())

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: SimulClient(), "urls must hold at least one"),
            (lambda: SimulClient("127.0.0.1:8000"), "url must be an address"),
            (lambda: SimulClient("http://[::1"), "url must be an address"),
            (lambda: SimulClient("http://x/?a"), "url must be an address"),
            (lambda: SimulClient("http://me:secret@x"), "url must not hold a name or password"),
            (lambda: SimulClient("http://x", token="a b"), "token must be of printable"),
            (lambda: SimulClient("http://x", give_up_s=-1), "give_up_s must be at least 0, got -1"),
            (lambda: SimulClient("http://x").open(target_langs="de"), "must be a list of languages, got 'de'"),
            (lambda: SimulClient("http://x").open(options={"beams": 3}), "options.beams: Extra inputs"),
            (lambda: SimulClient("http://x").open(wait_s=-1), "wait_s must be at least 0, got -1"),
            (lambda: SimulClient("http://x").listen("a/b"), "room: String should match"),
            (lambda: SimulClient("http://x").listen("a", "de"), "must be a list of languages"),
        ],
    )
    def test_bad_arguments(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_bad_text(self, parts):
        async def main():
            async with running({"one": parts}) as server, SimulClient(server.url).open() as stream:
                with pytest.raises(ValueError, match="text must be a string, got int"):
                    await stream.put(3)
                with pytest.raises(ValueError, match="half of a surrogate pair"):
                    await stream.put("\ud800")

        run(main())


def test_kept_sends_again_what_a_server_counts():
    """Whatever was sent and forgotten, what is sent again makes the same units, with the same ends."""
    draw = random.Random(1)
    for unit in ("word", "char"):
        for _ in range(200):
            text = "".join(draw.choice("ab .\n\u00a0") for _ in range(draw.randint(0, 30)))
            kept, whole = Kept(Start()), Kept(Start())
            kept.begin(taken(unit))
            whole.begin(taken(unit))
            forgotten = 0
            for place in range(0, len(text), 3):
                for each in (kept, whole):
                    each.put(text[place : place + 3])
                if draw.random() < 0.2:
                    kept.end_sentence()
                    whole.end_sentence()
                if draw.random() < 0.3:
                    forgotten = draw.randint(forgotten, kept.source_words)
                    kept.heard(
                        SentenceEnd(target_lang="de", sentences=place + 1, source_words=forgotten, target_words=0)
                    )
            again = Kept(Start())
            again.begin(taken(unit))
            # As the server does.
            again.splitter.goes_on = kept.base > 0
            for message in kept.again(longest=5):
                again.add(message)
            gone = kept.base
            assert kept.start().resume.source_words == gone <= forgotten
            assert [each.text for each in again.units] == [each.text for each in whole.units][gone:], text
            assert [end + gone for end in again.ends] == [end for end in whole.ends if end > forgotten]
            # And it goes on the same.
            for each in (again, whole):
                each.put("b")
                each.end()
            assert [each.text for each in again.units] == [each.text for each in whole.units][gone:]


def test_a_missing_word_is_an_error_and_a_second_one_is_passed_over():
    kept = Kept(Start())
    kept.begin(taken())
    word = WordMessage(target_lang="de", index=0, text="a", delay=1, elapsed_ms=0)
    assert kept.heard(word)
    assert not kept.heard(word)
    with pytest.raises(ValueError, match="the server sent word 2 of 'de' after 0"):
        kept.heard(word.model_copy(update={"index": 2}))
    assert kept.start().resume.tracks[0].committed[0].delay == 1
    assert kept.count(SourcePiece(text="a b")) == 2


def test_the_plain_client_from_another_thread(parts):
    # Longer than the test may take: no silence ends a stream for it.
    with in_thread({"one": parts}, idle_s=2 * LIMIT_S) as server:
        client = PlainSimulClient(server.url)
        with client.listen("talk") as listener, client.open(options=OPTIONS, room="talk") as stream:
            stream.put("a dog runs over the meadow.")
            stream.end_sentence()
            stream.put(TEXT.removeprefix("a dog runs over the meadow."))
            stream.flush()
            stream.end()
            words = list(stream)
            assert pairs(words) == pairs(listener) == alone(parts, TEXT)
            assert stream.reason
            assert stream.started.unit == "word"
            assert stream.now_ms > 0
            assert stream.source_words == len(TEXT.split())
            assert stream.reconnects == 0
            assert listener.state.state == "ended"
        began = time.monotonic()
        with contextlib.suppress(KeyboardInterrupt), client.open() as stream:
            stream.put("a dog")
            raise KeyboardInterrupt
        assert time.monotonic() - began < LIMIT_S
        with client.open() as stream:
            stream.cancel()
            assert list(stream) == []


class TestCommand:
    def call(self, text, monkeypatch, capsys, tmp_path, *arguments):
        path = tmp_path / "stdin"
        path.write_text(text, encoding="utf-8")
        with path.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            status = cli.main(["client", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    def test_lines_in_lines_out(self, parts, monkeypatch, capsys, tmp_path):
        lines = ["a dog runs. two children", "", "watch him", "a green dog."]
        with in_thread({"one": parts}, tokens=[TOKEN]) as server:
            (tmp_path / "token").write_text(f"{TOKEN}\n")
            flags = [server.url, "--token-file", str(tmp_path / "token"), "--policy", "wait-2"]
            text = "\n".join(lines) + "\n"
            status, out, _ = self.call(text, monkeypatch, capsys, tmp_path, *flags)
            expected = [" ".join(word for word, _ in alone(parts, line, "wait-2", **FREE)) for line in lines]
            assert (status, out.split("\n")) == (0, [*expected, ""])
            monkeypatch.setenv("TRANSFORMERS_SIMUL_TOKEN", TOKEN)
            status, out, err = self.call("a dog", monkeypatch, capsys, tmp_path, server.url, "--json", "--room", "talk")
            messages = [json.loads(line) for line in out.splitlines()]
            assert [m["text"] for m in messages if m["type"] == "word"] == [w for w, _ in alone(parts, "a dog", **FREE)]
            assert messages[-1]["type"] == "sentence_end"
            # Over, and still kept for who comes late.
            listens = [server.url, "--listen", "talk", "--target-lang", "de"]
            status, out, err = self.call("", monkeypatch, capsys, tmp_path, *listens)
            assert (status, out) == (0, " ".join(w for w, _ in alone(parts, "a dog", **FREE)) + "\n")
            assert "room talk: ended" in err
            status, out, _ = self.call("a dog", monkeypatch, capsys, tmp_path, server.url, "--show-delays")
            assert out.splitlines()[0].split("\t")[0] == "1"

    def test_what_is_wrong_is_said_in_a_line(self, parts, monkeypatch, capsys, tmp_path):
        with in_thread({"one": parts}, tokens=[TOKEN]) as server:
            for arguments, message in (
                ([server.url], "error: unauthorized: This server asks for a token"),
                (["http://127.0.0.1:9"], "error: no connection to ws://127.0.0.1:9: "),
                (["nowhere"], "error: url must be an address"),
                ([server.url, "--token-file", "/none"], "error: token-file must be a file that can be read"),
                ([server.url, "--listen", "x", "--policy", "wait-1"], "error: listen takes no policy"),
                ([server.url, "--listen", "x", "--add-punctuation"], "error: listen takes no add-punctuation"),
                ([server.url, "--target-lang", "de", "--target-lang", "fr"], "error: target-lang may be given once"),
            ):
                status, out, err = self.call("a dog", monkeypatch, capsys, tmp_path, *arguments)
                assert (status, out) == (1, ""), arguments
                assert err.startswith(message), err
                assert err.count("\n") == 1


@pytest.mark.parametrize("missing", ["tenacity", "anyio"])
def test_without_its_extra_the_client_names_it(monkeypatch, missing):
    ours = "transformers_simul.serving.client"
    for name in [each for each in sys.modules if each == ours or each.startswith(f"{ours}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"need {missing}: pip install 'transformers_simul\[client\]'"):
        importlib.import_module(ours)
