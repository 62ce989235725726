# SPDX-License-Identifier: Apache-2.0
"""Whatever a client sends: no crash, no hang, no answer 500, nothing held afterwards. And a real process' end.

`SIMUL_FUZZ_EXAMPLES=16000 pytest -s tests/test_hostile.py` sends 115,923 messages over WebSockets, and says how many.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from serving import LIMIT_S, in_thread, run, running, say, taught, tiny, until
from test_serving import TEXT, alone
from transformers_simul import PlainSimulClient, ServerError
from transformers_simul.serving.messages import (
    CLIENT_MESSAGES,
    LISTENER_MESSAGES,
    SERVER_MESSAGES,
    TranslateRequest,
    WordMessage,
    what_is_wrong,
)

EXAMPLES = int(os.environ.get("SIMUL_FUZZ_EXAMPLES", "60"))
# Nothing is reproduced from files.
quietly = settings(max_examples=EXAMPLES, database=None, suppress_health_check=[*HealthCheck], derandomize=True)

# Values that fields may have, on both sides of their bounds, and what no field has.
NAMES = st.sampled_from(
    "type version token model source_lang target_langs policy sentences max_sentence_words options resume room text at_ms "
    "id tracks source_words target_words committed context context_sentences delay ids max_new_tokens do_sample "
    "temperature top_k top_p seed after __class__ zzz".split()
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 7, 4096, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, 10**400, 0.0, -0.0, 1e308, 0.5]),
    st.sampled_from(
        "start source end_sentence end cancel ping listen word wait-1 wait-99 full hold-3 agree-9 de en".split()
    ),
    st.text(max_size=20),
    st.sampled_from(["\x00", "\u202e", "a" * 300, "../../x", "{}", "%s", "\ud7ff", "🐕‍🦺 ", " \n", "A dog. "]),
)
VALUES = st.recursive(
    LEAVES,
    lambda more: st.lists(more, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), more, max_size=4),
    max_leaves=8,
)
# Messages as they should be, for the most part; so that what follows reaches further in.
TEXTS = st.one_of(st.sampled_from(["a dog ", "runs over the mea", "dow. ", "two children"]), st.text("ab. \n\u00a0"))
SOURCES = st.builds(lambda text: {"type": "source", "text": text}, TEXTS)
SIGNS = st.sampled_from([{"type": "end_sentence"}, {"type": "ping"}, {"type": "ping", "id": 3}])
ENDS = st.sampled_from([{"type": "end"}, {"type": "cancel"}])
RIGHT = st.one_of(SOURCES, SIGNS, ENDS)
STARTS = st.builds(
    lambda policy, sentences, context, rest: {
        "type": "start",
        "policy": policy,
        "sentences": sentences,
        "context_sentences": context,
        "options": {"max_new_tokens": 4},
        **rest,
    },
    st.sampled_from(["wait-1", "wait-3", "full", "hold-1"]),
    st.booleans(),
    st.sampled_from([None, None, None, 0, 1, 2, 3]),
    st.one_of(
        st.just({}),
        st.dictionaries(NAMES, VALUES, max_size=1),
        st.builds(
            lambda tracks, words: {"resume": {"source_words": words, "tracks": tracks}}, VALUES, st.integers(-1, 5)
        ),
        st.builds(
            lambda *counts: {
                "resume": {
                    "source_words": counts[0],
                    "tracks": [
                        {
                            "source_words": counts[1],
                            "target_words": counts[2],
                            "sentences": counts[3],
                            "committed": [{"text": "a", "delay": counts[4], "ids": [counts[5]]}] * counts[6],
                            "context": {"source_words": counts[7], "words": [{"text": "a", "delay": counts[8]}] * 2}
                            if counts[7] < 4
                            else None,
                        }
                    ],
                }
            },
            *[st.integers(0, 4)] * 5,
            st.sampled_from([0, 1, 5, 299, 300, 10**6, 2**53]),
            st.integers(0, 3),
            *[st.integers(0, 4)] * 2,
        ),
    ),
)
BROKEN = st.dictionaries(NAMES, VALUES, max_size=5)


def encoded(message):
    return json.dumps(message) if isinstance(message, dict) else message


ANY = st.one_of(RIGHT, BROKEN, STARTS, st.text(max_size=40), st.binary(max_size=40)).map(encoded)
# Some go on to the end; others are broken by what they say, or after it.
CONVERSATIONS = st.tuples(
    st.one_of(st.just({"type": "start", "options": {"max_new_tokens": 4}}), STARTS, STARTS, BROKEN).map(encoded),
    st.one_of(
        st.lists(st.one_of(SOURCES, SOURCES, SIGNS).map(encoded), max_size=30),
        st.lists(st.one_of(RIGHT.map(encoded), ANY), max_size=30),
    ),
    st.sampled_from([['{"type": "end"}'], ['{"type": "end"}', "no json"]]),
)


@pytest.fixture(scope="module")
def server():
    # It waits for its clients as they wait for it: none is slow on purpose.
    patient = dict.fromkeys(("start_s", "send_s", "idle_s", "ping_s"), LIMIT_S)
    model, processor = tiny()
    model.generation_config.context_sentences = 2
    with in_thread({"one": (model, processor)}, max_streams=16, **patient) as server:
        yield server


@pytest.fixture(scope="module")
def http(server):
    """A new connection for each request: none is closed for its age just as it is used again."""
    with httpx.Client(timeout=LIMIT_S, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        yield client


def idle(server):
    """Waits until nothing is held any more."""
    end = time.monotonic() + LIMIT_S
    while server.service.sessions or any(served.engine.active_streams for served in server.service.served):
        assert time.monotonic() < end, "places are held"
        time.sleep(0.01)


@settings(quietly, max_examples=5 * EXAMPLES)
@given(st.one_of(ANY, st.binary(max_size=200)))
def test_any_message_is_read_or_refused_in_a_short_line(counts, message):
    counts["messages parsed"] += 1
    for adapter in (CLIENT_MESSAGES, LISTENER_MESSAGES):
        read, wrong = None, ""
        try:
            read = adapter.validate_json(message)
        except ValidationError as error:
            wrong = what_is_wrong(error)
        # What was read can be written, and is then the same.
        assert read is None or adapter.validate_json(read.model_dump_json(exclude_none=True)) == read
        assert bool(wrong) == (read is None)
        assert len(wrong) < 1000


@quietly
@given(CONVERSATIONS)
def test_any_conversation_is_answered_by_the_protocol(server, counts, conversation):
    first, others, last = conversation
    messages = [first, *others, *last]
    received = []
    with connect(server.ws + "/v1/stream", open_timeout=LIMIT_S, ping_timeout=LIMIT_S) as socket:
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                socket.send(message)
                counts["WebSocket messages sent"] += 1
        with contextlib.suppress(ConnectionClosed):
            while True:
                received.append(SERVER_MESSAGES.validate_json(socket.recv(timeout=LIMIT_S)))
        assert socket.close_code in (1000, 1008, 1012, 1013)
    counts["conversations"] += 1
    counts["words received"] += sum(message.type == "word" for message in received)
    counts[f"ended with {getattr(received[-1], 'code', 'end')}"] += 1
    assert received[-1].type in ("end", "error")
    for message in received:
        if message.type == "error":
            assert message.code != "internal", message
            assert message.remedy
    assert [message.index for message in received if message.type == "word"] == sorted(
        message.index for message in received if message.type == "word"
    )
    idle(server)


@quietly
@given(st.one_of(BROKEN, st.fixed_dictionaries({"text": st.text(max_size=30)}, optional={"policy": VALUES, "options": VALUES, "stream": st.booleans(), "sentences": st.booleans()}), VALUES, st.binary(max_size=60)), st.sampled_from(["application/json", "text/plain", "", "multipart/form-data; boundary=x"]))  # fmt: skip
def test_any_request_is_answered_and_not_with_500(server, http, counts, body, kind):
    content = body if isinstance(body, bytes) else json.dumps(body)
    headers = {"Content-Type": kind} if kind else {}
    answer = http.post(f"{server.url}/v1/translate", content=content, headers=headers)
    counts[f"requests answered {answer.status_code}"] += 1
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert answer.json()["error"]["code"]
    elif answer.headers["content-type"].startswith("application/json"):
        TranslateRequest.model_validate_json(content)
    idle(server)


@quietly
@given(
    st.sampled_from(["GET", "POST", "DELETE", "OPTIONS", "TRACE"]),
    st.sampled_from(["/v1/rooms/", "/captions/", "/v1/", "/"]),
    st.text(max_size=12),
)
def test_any_path_is_answered(server, http, counts, method, prefix, rest):
    path = prefix + urllib.parse.quote(rest, safe="/?&=.%;", errors="replace")
    answer = http.request(method, server.url + path)
    counts[f"paths answered {answer.status_code}"] += 1
    assert answer.status_code < 500, (path, answer.text)


@quietly
@given(st.binary(min_size=1, max_size=300), st.booleans())
def test_any_bytes_close_their_connection_alone(server, http, counts, sent, as_request):
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        if as_request
        else b""
    )
    with socket.create_connection((host, int(port)), timeout=LIMIT_S) as line:
        line.sendall(head + sent + b"\r\n\r\n")
        line.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := line.recv(65536):
                received += data
    counts["connections with random bytes"] += 1
    assert b" 500 " not in received.split(b"\r\n")[0]
    assert http.get(f"{server.url}/healthz").text == "ok\n"


def test_nothing_of_all_this_was_an_error_inside(server, caplog):
    """The same conversations, with an eye on the log."""
    with caplog.at_level(logging.WARNING):
        for first in (
            '{"type": "start", "resume": {"tracks": [{"committed": [{"text": "a", "delay": 9, "ids": [299]}]}]}}',
            "{",
        ):
            with (
                connect(server.ws + "/v1/stream", open_timeout=LIMIT_S, ping_timeout=LIMIT_S) as socket,
                contextlib.suppress(ConnectionClosed),
            ):
                socket.send(first)
                socket.send('{"type": "source", "text": "a dog. "}')
                socket.send('{"type": "end"}')
                while True:
                    assert '"internal"' not in socket.recv(timeout=LIMIT_S)
    idle(server)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_listener_who_does_not_read_is_dropped_and_the_others_hear_all():
    count = 4000

    async def main():
        async with running({"one": tiny()}, send_s=1.0) as server:
            host, port = server.url.removeprefix("http://").split(":")
            # It takes almost nothing into its own buffers.
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.to_thread(line.connect, (host, int(port)))
            slow = server.connect("/v1/rooms/talk/listen", sock=line, max_queue=1, ping_interval=None)
            async with slow as deaf, server.connect("/v1/rooms/talk/listen") as quick, server.connect() as speaker:
                await say(speaker, {"type": "start", "room": "talk"})
                await until(speaker, "started")
                for each in (deaf, quick):
                    await say(each, {"type": "listen"})
                await until(quick, "room")
                room = server.service.rooms.find("talk")
                while len(room.listeners) < 2:
                    await asyncio.sleep(0.01)
                heard = asyncio.create_task(hear(quick, count))
                for index in range(count):
                    room.publish(WordMessage(target_lang="de", index=index, text="x" * 2000, delay=1, elapsed_ms=0))
                    if index % 20 == 0:
                        await asyncio.sleep(0)
                        while room_waits(room, quick_only=True):
                            await asyncio.sleep(0.001)
                assert await heard == [*range(count)]
                while len(room.listeners) > 1:
                    await asyncio.sleep(0.01)
                # Nobody else has noticed: the speaker still speaks.
                await say(speaker, {"type": "ping", "id": 5})
                assert (await until(speaker, "pong"))[-1]["id"] == 5
                deaf.transport.abort()
            await server.idle()

    async def hear(listener, count):
        indices = []
        while len(indices) < count:
            message = json.loads(await listener.recv())
            if message["type"] == "word":
                indices.append(message["index"])
        return indices

    def room_waits(room, quick_only):
        """Whether the one who reads best is still behind."""
        return min((len(listener._waiting) for listener in room.listeners), default=0) > 200

    run(main())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "model"
    model, processor = taught()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@contextlib.contextmanager
def process(folder, *flags):
    """A server as an operator starts it, and its address."""
    program = [
        sys.executable,
        "-m",
        "transformers_simul.cli",
        "serve",
        str(folder),
        "--port",
        "0",
        "--policy",
        "wait-1",
    ]
    with subprocess.Popen([*program, *flags], stderr=subprocess.PIPE, text=True) as started:
        url = None
        while url is None:
            line = started.stderr.readline()
            assert line, "it ended"
            url = line.split(" at ")[1].split(";")[0] if line.startswith("serving ") else None
        # What it says later must not fill the pipe.
        said = []
        reader = threading.Thread(target=lambda: said.extend(started.stderr))
        reader.start()
        try:
            yield started, url, said
        finally:
            started.kill()
            reader.join()


@pytest.mark.slow
def test_sigterm_ends_a_real_process_and_its_clients_go_on_elsewhere(folder):
    expected = alone(taught(), TEXT, max_new_tokens=None)
    with (
        process(folder, "--drain-s", "2") as (started, url, said),
        in_thread({"one": taught()}) as other,
        PlainSimulClient(url, other.url).open(policy="wait-1") as stream,
    ):
        stream.put(TEXT[:40])
        stream.flush()
        words = [next(iter(stream))]
        started.send_signal(signal.SIGTERM)
        while httpx.get(f"{url}/readyz", timeout=LIMIT_S).status_code != 503:
            time.sleep(0.01)
        with pytest.raises(ServerError, match="draining"):
            PlainSimulClient(url).open().__enter__()
        assert started.wait(LIMIT_S) == 0
        stream.put(TEXT[40:])
        stream.end()
        words += stream
        assert stream.reconnects == 1
    assert [(word.text, word.delay) for word in words] == expected
    assert any("waiting for 1 streams to end" in line for line in said)
    assert not any("Traceback" in line for line in said)


@pytest.mark.slow
def test_sigterm_ends_an_idle_process_at_once(folder):
    with process(folder, "--drain-s", "600") as (started, url, said):
        assert httpx.get(f"{url}/readyz", timeout=LIMIT_S).status_code == 200
        started.send_signal(signal.SIGTERM)
        assert started.wait(LIMIT_S) == 0
    assert said == []
