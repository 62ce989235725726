# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/translate` under clients that vanish, are slow, send too much, or may not ask: each is refused or cut off alone,
and holds nothing afterwards. By sockets, since an HTTP client would not do such things."""

import asyncio
import contextlib
import json
import socket

import pytest

from serving import LIMIT_S, run, running, say, start, tiny, translate, until

# It goes on for long: nobody who vanishes is let go because the translation has ended.
LONG = {"text": "a dog runs over " * 100, "sentences": False, "options": {"max_new_tokens": 3000}, "stream": True}
ROOMY = {"max_tokens": 4000, "sentence_words": 1000}
TOKEN, LISTENS = "0123456789abcdef", "who-may-listen-only"


@pytest.fixture(scope="module")
def parts():
    return tiny()


def request(body, *headers, length=None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = ["POST /v1/translate HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(data) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + data


async def dial(server):
    host, port = server.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def deaf(server):
    """A line whose end fetches nothing."""
    host, port = server.url.removeprefix("http://").split(":")
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.setblocking(False)
    await asyncio.get_running_loop().sock_connect(line, (host, int(port)))
    return line


async def answer(server, sent):
    """The status and all that follows, to the end of the connection."""
    reader, writer = await dial(server)
    writer.write(sent)
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    status, rest = await told(reader)
    writer.close()
    return status, rest


async def told(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    rest = b""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            rest += data
            if b"connection: close" not in head.lower() and b'"error"' in rest:
                break
    return int(head.split()[1]), rest


def code_of(rest):
    """Of a body that may come in chunks."""
    return json.loads(rest[rest.index(b"{") : rest.rindex(b"}") + 1])["error"]["code"]


async def begun(server):
    """The stream that a request opens."""
    while not server.service.sessions:
        await asyncio.sleep(0.01)
    (session,) = server.service.running
    return session.tracks[0].stream


class TestWhoVanishes:
    @pytest.mark.parametrize("how", ["before the answer", "in the middle", "after the headers alone"])
    def test_gives_its_place_free(self, parts, how):
        async def main():
            async with running({"one": parts}, max_streams=1, **ROOMY) as server:
                for goes in (lambda writer: writer.transport.abort(), lambda writer: writer.close()):
                    reader, writer = await dial(server)
                    if how == "after the headers alone":
                        writer.write(request(LONG, length=10_000)[:-50])
                        await writer.drain()
                        while not server.server.server_state.connections:
                            await asyncio.sleep(0.01)
                    else:
                        writer.write(request(LONG))
                        stream = await begun(server)
                        if how == "in the middle":
                            await reader.readuntil(b"event: started")
                    goes(writer)
                    await server.idle()
                    # Given up, and not at its end by now.
                    assert how == "after the headers alone" or stream.stop_reason == "cancelled"
                # The only place is there for the next.
                assert (await translate(server, "a dog"))[-1]["type"] == "end"

        run(main())

    def test_a_listener_who_is_gone_before_the_first_subtitle_is_forgotten(self, parts):
        """Whose task is given up in its first message, before the generator of subtitles has begun."""
        waiting = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"", "more_body": False}]
        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1"}
        scope |= {"method": "GET", "scheme": "http", "root_path": "", "headers": [(b"host", b"127.0.0.1")]}

        async def receive():
            return waiting.pop()

        async def send(message):
            sent.append(message["type"])
            await asyncio.sleep(0)

        async def main():
            async with running({"one": parts}) as server, server.connect() as speaker:
                await say(speaker, start(room="talk"))
                (lang,) = (await until(speaker, "started"))[-1]["target_langs"]
                where = {"path": f"/v1/rooms/talk/{lang}.vtt", "query_string": b"live=true"}
                await server.server.config.app(scope | where, receive, send)
                assert sent == ["http.response.start"]
                assert not server.service.rooms.listeners

        sent = []
        run(main())

    def test_who_stops_reading_is_cut_off_and_others_are_answered(self, parts, monkeypatch):
        """Its socket takes nothing any more: the server waits for it `send_s`, and no longer."""
        from transformers_simul.serving import translate as module

        padded = module.format_sse_event
        monkeypatch.setattr(
            module, "format_sse_event", lambda **event: padded(**event) + b":" + b"x" * 2_000_000 + b"\n\n"
        )

        async def main():
            async with running({"one": parts}, send_s=0.3, **ROOMY) as server:
                line = await deaf(server)
                await asyncio.get_running_loop().sock_sendall(line, request(LONG))
                stream = await begun(server)
                assert (await answer(server, request({"text": "a dog"}, "Connection: close")))[0] == 200
                await server.idle()
                assert stream.stop_reason == "cancelled"
                line.close()

        run(main())

    def test_who_leaves_a_little_unfetched_is_cut_off_too(self, parts):
        """Less than asyncio would hold a writer up for: the connection could not even be closed."""

        async def main():
            async with running({"one": parts}, send_s=0.3) as server:
                line, state = await deaf(server), server.server.server_state
                asked = left = 0
                while not left:
                    await asyncio.get_running_loop().sock_sendall(
                        line, b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
                    )
                    asked += 1
                    while not left and (state.total_requests < asked or state.tasks):
                        await asyncio.sleep(0.001)
                        left = sum(each.transport.get_write_buffer_size() for each in state.connections)
                assert left < 65_536
                while state.connections:
                    await asyncio.sleep(0.01)
                line.close()

        run(main())


class TestWhoIsSlow:
    @pytest.mark.parametrize("part", ["headers", "body"])
    def test_byte_by_byte_is_given_up_in_time_all_the_same(self, parts, part):
        whole = request(
            {"text": "a dog"}, "X-Long: " + "a" * 2000 if part == "headers" else "X-Short: a", length=60_000
        )
        sent = whole[:40] if part == "headers" else whole

        async def main():
            async with running({"one": parts}, start_s=0.3) as server:
                reader, writer = await dial(server)
                writer.write(sent)
                dripping = asyncio.create_task(drip(writer, whole[40:] if part == "headers" else b"a" * 60_000))
                # Each byte came in time, and the whole does not; without that bound it would go on for ten minutes.
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                assert not dripping.done() or dripping.exception() is not None
                dripping.cancel()
                await asyncio.gather(dripping, return_exceptions=True)
                assert not server.service.sessions
                assert (await answer(server, request({"text": "a dog"}, "Connection: close")))[0] == 200

        async def drip(writer, data):
            for byte in data:
                await asyncio.sleep(0.01)
                writer.write(bytes([byte]))
                await writer.drain()
            await asyncio.sleep(LIMIT_S)

        run(main())


class TestWhoSendsTooMuch:
    def test_is_refused_before_anything_is_done_with_it(self, parts):
        async def main():
            async with running({"one": parts}) as server:
                limit = server.service.settings.message_bytes
                status, rest = await answer(server, request(b'{"text": "' + b"a" * limit + b'"}', "Connection: close"))
                assert (status, code_of(rest)) == (413, "message_too_big")
                # One that never ends: some of it is taken, and the connection is closed.
                chunk = b"ffff\r\n" + b"a" * 0xFFFF + b"\r\n"
                reader, writer = await dial(server)
                writer.write(request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
                sent = 0
                with contextlib.suppress(ConnectionError):
                    while sent < 100 * limit and not reader.at_eof():
                        writer.write(chunk)
                        sent += len(chunk)
                        await asyncio.wait_for(writer.drain(), LIMIT_S)
                        await asyncio.sleep(0)
                assert sent < 100 * limit
                writer.close()
                # Headers too, as soon as they are longer than 16 KiB.
                status, _ = await answer(server, request({"text": "a"}, "X-Long: " + "a" * 100_000)[:40_000])
                assert status == 400
                assert not server.service.sessions

        run(main())


class TestWhoMayNotAsk:
    @pytest.mark.parametrize("stream", [False, True])
    def test_tokens(self, parts, stream):
        async def main():
            async with running({"one": parts}, tokens=[TOKEN, f"{LISTENS} listen"]) as server:
                body = {"text": "a dog", "stream": stream}
                for headers, status, code in (
                    ([], 401, "unauthorized"),
                    (["Authorization: Bearer wrong"], 401, "unauthorized"),
                    ([f"Authorization: Basic {TOKEN}"], 401, "unauthorized"),
                    ([f"Authorization: Bearer {TOKEN}x"], 401, "unauthorized"),
                    ([f"Authorization: Bearer {LISTENS}"], 403, "forbidden"),
                ):
                    got = await answer(server, request(body, "Connection: close", *headers))
                    assert (got[0], code_of(got[1])) == (status, code), headers
                # Not in the address, which logs keep.
                asked = request(body, "Connection: close").replace(
                    b"/v1/translate", f"/v1/translate?token={TOKEN}".encode()
                )
                assert (await answer(server, asked))[0] == 401
                assert not server.service.held
                right = await answer(server, request(body, "Connection: close", f"Authorization: Bearer {TOKEN}"))
                assert right[0] == 200
                assert (b"event: end" in right[1]) == stream

        run(main())

    @pytest.mark.parametrize("stream", [False, True])
    def test_origins(self, parts, stream):
        async def main():
            async with running({"one": parts}, origins=["https://captions.example"]) as server:
                body = {"text": "a dog", "stream": stream}
                for origin in ("https://evil.example", "null", "https://captions.example.evil.example"):
                    got = await answer(server, request(body, "Connection: close", f"Origin: {origin}"))
                    assert (got[0], code_of(got[1])) == (403, "forbidden"), origin
                    # What a browser asks before it sends JSON to another origin.
                    asked = request(
                        b"", "Connection: close", f"Origin: {origin}", "Access-Control-Request-Method: POST"
                    )
                    status, _ = await answer(server, asked.replace(b"POST /v1", b"OPTIONS /v1"))
                    assert status == 403
                assert 'simul_opened_streams_total{model="one"}' not in server.service.metrics.text().decode()
                got = await answer(server, request(body, "Connection: close", "Origin: https://captions.example"))
                assert got[0] == 200

        run(main())
