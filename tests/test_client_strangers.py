# SPDX-License-Identifier: Apache-2.0
"""Clients of a server that breaks the protocol, or falls silent: an error in a line, in bounded time and memory."""

import asyncio
import contextlib
import io
import sys

import pytest
from websockets.asyncio.server import serve

from serving import run
from transformers_simul import PlainSimulClient, SimulClient, cli
from transformers_simul.cli.client import _feed
from transformers_simul.cli.keyboard import Terminal
from transformers_simul.serving.client import ConnectionLost, connection, incoming
from transformers_simul.serving.messages import Ended, Error, Limits, Notice, SentenceEnd, Started, WordMessage

ENDED = Ended(reason="max_tokens", tracks=[])


def started(**limits):
    given = {"words_per_second": 50.0, "burst_words": 1000, "waiting_words": 1000, "idle_s": 60.0}
    return Started(
        stream="a",
        models={"de": "m"},
        source_lang="en",
        target_langs=["de"],
        unit="word",
        policy="wait-1",
        limits=Limits(message_bytes=65_536, total_s=600.0, **given | limits),
    )


def word(index):
    return WordMessage(target_lang="de", index=index, text="x", delay=0, elapsed_ms=0.0)


@contextlib.asynccontextmanager
async def stranger(converse, **options):
    """A client of a server that does as it likes once the first message has come."""

    async def answer(socket):
        await socket.recv()
        await converse(socket)

    async with serve(answer, "127.0.0.1", 0) as server:
        client = SimulClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", **options)
        client.url = client._line.urls[0]
        yield client


def saying(*messages):
    """Says this, and then nothing."""

    async def converse(socket):
        for each in messages:
            await socket.send(each if isinstance(each, str | bytes) else each.model_dump_json(exclude_none=True))
        await socket.wait_closed()

    return converse


def test_who_takes_lines_and_says_nothing_is_given_up(monkeypatch):
    """After a connection that was good: the time that a line takes to fail does not make it a good one."""
    monkeypatch.setattr(connection, "GOOD_S", 0.1)

    async def cut(socket):
        await socket.send(started().model_dump_json())
        await socket.close(1011)

    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async def main():
        hole = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with stranger(cut, give_up_s=0.5) as client, client.open() as stream:
            client._line.urls = [f"ws://127.0.0.1:{hole.sockets[0].getsockname()[1]}"]
            monkeypatch.setitem(connection._OPTIONS, "open_timeout", 0.2)
            with pytest.raises(ConnectionLost, match=r"tried for 0.5 s: timed out"):
                await anext(stream.messages())
        hole.close()

    run(main())


def test_who_does_not_answer_the_first_message_is_given_up(monkeypatch):
    monkeypatch.setattr(connection, "ANSWER_S", 0.2)

    async def main():
        async with stranger(saying()) as client:
            for opened in (client.open(), client.listen("talk")):
                with pytest.raises(ConnectionLost, match=r"did not answer the first message for 0.2 s"):
                    async with opened:
                        raise AssertionError

    run(main())


def test_who_gets_a_word_of_each_connection_pauses_longer_each_time(monkeypatch):
    monkeypatch.setattr(connection, "GOOD_S", 1e9)
    pauses, count = [], 0
    monkeypatch.setattr(connection, "backoff_s", lambda number: pauses.append(number) or 0.0)

    async def a_word(socket):
        nonlocal count
        await socket.send(started().model_dump_json())
        await socket.send(word(count).model_dump_json())
        count += 1
        await socket.close(1011)

    async def main():
        async with stranger(a_word) as client, client.open() as stream:
            words = stream.messages()
            for index in range(6):
                assert (await anext(words)).index == index

    run(main())
    assert pauses[:5] == [1, 2, 3, 4, 5]


def test_pauses_grow_to_a_bound():
    for number in (1, 2, 5, 10, 5000):
        drawn = [connection.backoff_s(number) for _ in range(300)]
        most = min(10.0, 0.5 * 2 ** min(number - 1, 10))
        assert 0 <= min(drawn) < 0.2 * most < 0.8 * most < max(drawn) <= most


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("[]", "no message of the protocol"),
        ("{", "no message of the protocol"),
        ("3", "no message of the protocol"),
        ("[" * 100_000, "no message of the protocol"),
        (b"\xff\xfe", "no message of the protocol"),
        ('{"type": "word"}', r"no message of the protocol: word.target_lang: Field required"),
        (word(0).model_copy(update={"target_lang": "zz"}), r"a word of 'zz', and agreed to write \['de'\]"),
        (word(3), "sent word 3 of 'de' after -1"),
        (
            SentenceEnd(target_lang="de", sentences=1, source_words=500, target_words=3),
            "after 500 source words; it was sent 0",
        ),
        (SentenceEnd(target_lang="de", sentences=1, source_words=-1, target_words=3), "after -1 source words"),
        (started(idle_s=1e-9).model_copy(update={"type": "later"}), None),
    ],
    ids=range(11),
)
def test_what_breaks_the_protocol_is_an_error_in_a_line(said, message):
    async def main():
        async with stranger(saying(started(), said, ENDED)) as client, client.open() as stream:
            if message is None:
                # Of a newer server: passed over.
                assert [each async for each in stream.messages()] == []
                return
            with pytest.raises(ValueError, match=message) as error:
                await anext(stream.messages())
            assert "\n" not in str(error.value)

    run(main())


def test_who_asks_for_less_than_no_context_is_no_server():
    async def main():
        negative = started().model_copy(update={"kept_sentences": -1})
        async with stranger(saying(negative)) as client:
            with pytest.raises(ValueError, match="kept_sentences: Input should be greater than or equal to 0"):
                async with client.open():
                    pass

    run(main())


def test_messages_that_nobody_reads_are_bounded(monkeypatch):
    monkeypatch.setattr(incoming, "MOST_UNREAD", 5)

    async def main():
        async with stranger(saying(started(), *map(word, range(9)))) as client, client.open() as stream:
            while not stream._is_over:
                await asyncio.sleep(0.01)
            messages = stream.messages()
            assert [(await anext(messages)).index for _ in range(5)] == [*range(5)]
            with pytest.raises(BufferError, match="messages must be read as they come: 5 wait"):
                await anext(messages)

    run(main())


def test_who_hears_much_and_says_nothing_pings():
    """What the server counts as silence is the client's own, however much comes."""

    async def chatters(socket):
        await socket.send(started(idle_s=0.3).model_dump_json())
        heard = asyncio.create_task(socket.recv())
        while not heard.done():
            await socket.send(Notice(code="draining", message="").model_dump_json(exclude_none=True))
            await asyncio.wait([heard], timeout=0.01)
        assert '"ping"' in heard.result()
        await socket.send(ENDED.model_dump_json())

    async def main():
        async with stranger(chatters) as client, client.open() as stream:
            assert {message.type async for message in stream.messages()} == {"warning"}

    run(main())


def test_who_is_held_by_the_pace_pings():
    said = []

    async def slow(socket):
        await socket.send(started(idle_s=0.3, words_per_second=1.0, burst_words=1).model_dump_json())
        while sum('"source"' in each for each in said) < 4:
            said.append(await socket.recv())
        await socket.send(ENDED.model_dump_json())

    async def main():
        async with stranger(slow) as client, client.open() as stream:
            # Pieces of a character: a word is complete with the white space.
            await stream.put("a b ")
            assert [message async for message in stream.messages()] == []

    run(main())
    assert any('"ping"' in each for each in said[: len(said) - 1])


def test_what_is_put_into_a_stream_that_the_server_has_ended_is_dropped():
    async def main():
        async with stranger(saying(started(), ENDED)) as client, client.open() as stream:
            assert [message async for message in stream.messages()] == []
            assert stream.reason == "max_tokens"
            for _ in range(3):
                await stream.put("word " * 1000)
            assert not stream._outbox

    run(main())


def test_who_asks_a_failed_stream_again_is_told_again():
    async def main():
        async with stranger(saying(started(), "{")) as client:
            await asyncio.to_thread(ask_twice, client.url)

    def ask_twice(url):
        with PlainSimulClient(url).open() as stream:
            for _ in range(2):
                with pytest.raises(ValueError, match="no message of the protocol"):
                    list(stream)

    run(main())


def test_what_is_still_read_once_the_stream_is_over_ends_without_a_traceback(monkeypatch, tmp_path):
    """Standard input is read in a thread of its own, which may come to its next word after the end."""
    (tmp_path / "stdin").write_text("a dog\n")
    failures = []

    async def main():
        async with stranger(saying(started(), ENDED)) as client:
            with (tmp_path / "stdin").open() as stdin:
                monkeypatch.setattr(sys, "stdin", stdin)
                await asyncio.to_thread(feed_late, client.url)

    def feed_late(url):
        with PlainSimulClient(url).open() as stream:
            list(stream)
        _feed(stream, None, None, failures)

    run(main())
    assert [type(error) for error in failures] == [RuntimeError]


ESCAPES = "\x1b]0;title\x07\x9b2Jx\r"


@pytest.mark.parametrize("flags", [[], ["--show-delays"], ["--json"]])
def test_a_terminal_gets_no_control_characters_of_a_server(flags, monkeypatch, capsys, tmp_path):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", screen)
    (tmp_path / "stdin").write_text("a dog\n")
    said = word(0).model_copy(update={"text": ESCAPES})
    warning = Notice(code="draining", message=ESCAPES)

    async def main():
        async with stranger(
            saying(started(), said, warning, Error(code="internal", message=ESCAPES, remedy="", action="fix"))
        ) as client:
            with (tmp_path / "stdin").open() as stdin:
                monkeypatch.setattr(sys, "stdin", stdin)
                return await asyncio.to_thread(cli.main, ["client", client.url, *flags])

    assert run(main()) == 1
    out, err = screen.getvalue(), capsys.readouterr().err
    assert "x" in out
    assert "2Jx" in err
    assert not {char for char in out + err if not char.isprintable()} - {"\n", "\t"}


def test_a_log_gets_no_control_characters_of_a_server(caplog):
    """Nor does who is told that no server could be reached."""

    async def close(socket):
        await socket.send(started().model_dump_json(exclude_none=True))
        await socket.close(1011, ESCAPES)

    async def listened(client):
        async with client.open() as stream:
            return [each async for each in stream]

    async def main():
        async with stranger(close, give_up_s=0.0) as client:
            with pytest.raises(ConnectionLost) as lost:
                await listened(client)
            return str(lost.value)

    with caplog.at_level("INFO", logger=connection.__name__):
        told = run(main())
    for text in (told, *caplog.messages):
        assert "title" in text
        assert text.isprintable()
    assert caplog.messages


def test_the_last_line_of_a_terminal_is_its_own():
    screen = io.StringIO()
    Terminal(screen).write(f"ein {ESCAPES}Hund\n")
    plain, own = io.StringIO(), "ein \ufffd]0;title\ufffd\ufffd2Jx\ufffdHund\n"
    Terminal(plain).write(own)
    assert screen.getvalue() == plain.getvalue()
    assert own in screen.getvalue()
