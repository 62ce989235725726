# SPDX-License-Identifier: Apache-2.0
"""What the tests of serving share: a server in this process, on a free port, and a plain client of its protocol."""

import asyncio
import contextlib
import functools
import json
import random
import threading
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from helpers import make_model, make_processor, teach
from transformers_simul.serving.app import build_app
from transformers_simul.serving.messages import Limits, Started
from transformers_simul.serving.metrics import Metrics
from transformers_simul.serving.models import serve_models
from transformers_simul.serving.server import make_server
from transformers_simul.serving.service import Service
from transformers_simul.serving.settings import Settings
from transformers_simul.serving.tokens import Tokens

# Far more than anything here takes, on a machine that is busy with other work too: what hangs fails.
LIMIT_S = 300.0


def tiny(**kwargs):
    """A tiny random model, which writes more than it would by itself, and its processor."""
    processor = make_processor(**{"source_lang": "en"} | kwargs)
    model = make_model(processor)
    model.generation_config.sequence_bias = [[[0], -2.0]]
    return model, processor


@functools.cache
def taught():
    """A tiny model that has learnt to copy a little: it writes several words of a sentence, as a random one does not."""
    processor = make_processor(source_lang="en")
    return teach(make_model(processor), processor, random.Random(0), steps=60), processor


def taken(unit="word", target_langs=("de",), kept_sentences=0, **limits):
    """What a server says that has taken a stream."""
    settings = Settings()
    bounds = {name: getattr(settings, name) for name in Limits.model_fields} | limits
    return Started(
        stream="1", models={}, source_lang="en", target_langs=list(target_langs), unit=unit, policy="wait-1",
        kept_sentences=kept_sentences, limits=Limits(**bounds),
    )  # fmt: skip


class Running:
    """A server that runs: `url` and `ws` are its addresses."""

    def __init__(self, server, service):
        self.server, self.service, self.url = server, service, server.url
        self.ws = server.url.replace("http", "ws")

    def connect(self, path="/v1/stream", **options):
        return connect(self.ws + path, max_size=None, **options)

    async def idle(self):
        """Wait until nothing runs any more."""
        while self.service.sessions or any(served.engine.active_streams for served in self.service.served):
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(
    models, tokens=(), max_streams=8, max_tokens=256, origins=(), host_names=(), segmenters=None, **settings
):
    """A server with these models, until the block is left."""
    metrics = Metrics()
    served = serve_models(models, metrics, max_streams, max_tokens)
    service = Service(served, Settings(**{"policy": "wait-1"} | settings), Tokens(tokens), metrics, segmenters or {})
    app = build_app(service, origins, None if tokens else host_names)
    listens = asyncio.Event()
    server = make_server(app, service, port=0, on_start=lambda url: listens.set())
    work = asyncio.create_task(server.serve())
    try:
        await asyncio.wait_for(listens.wait(), LIMIT_S)
        yield Running(server, service)
    finally:
        server.should_exit = True
        await asyncio.wait_for(work, LIMIT_S)


def run(main):
    return asyncio.run(asyncio.wait_for(main, LIMIT_S))


async def say(socket, *messages: Any):
    for message in messages:
        await socket.send(json.dumps(message))


async def rest(socket):
    """Everything to the end of the connection."""
    messages = []
    with contextlib.suppress(ConnectionClosedError):
        async for text in socket:
            messages.append(json.loads(text))
    return messages


async def until(socket, kind):
    """Messages up to the first of a kind."""
    messages = []
    while not messages or messages[-1]["type"] != kind:
        messages.append(json.loads(await socket.recv()))
    return messages


def start(**kwargs):
    return {"type": "start", "options": {"max_new_tokens": 12}, **kwargs}


def source(text, **kwargs):
    return {"type": "source", "text": text, **kwargs}


END = {"type": "end"}


def words(messages):
    return [message for message in messages if message["type"] == "word"]


async def translate(server, text, **kwargs):
    """A whole text over a stream of its own."""
    async with server.connect() as socket:
        await say(socket, start(**kwargs), source(text), END)
        return await rest(socket)


@contextlib.contextmanager
def in_thread(models, **kwargs):
    """A server beside a test that has no event loop, until the block is left, however long that takes."""
    ready, over, box = threading.Event(), threading.Event(), []

    async def main():
        async with running(models, **kwargs) as server:
            box.append(server)
            ready.set()
            await asyncio.to_thread(over.wait)
            await asyncio.wait_for(server.idle(), LIMIT_S)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(LIMIT_S)
        yield box[0]
    finally:
        over.set()
        thread.join(LIMIT_S)


class Relay:
    """A line to a server that can be cut, and laid to another server."""

    def __init__(self, server=None):
        self.target = server
        # Connections that were made, and those that are open.
        self.count, self._writers = 0, set()

    async def __aenter__(self):
        self._listens = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listens.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error):
        self._listens.close()
        self.cut()

    def cut(self):
        """Every connection breaks off, in the middle of whatever it carries."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _carry(self, reader, writer):
        self.count += 1
        if self.target is None:
            writer.transport.abort()
            return
        host, port = self.target.url.removeprefix("http://").split(":")
        back, there = await asyncio.open_connection(host, int(port))
        self._writers |= {writer, there}
        await asyncio.wait(
            [asyncio.create_task(self._pump(reader, there)), asyncio.create_task(self._pump(back, writer))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for each in (writer, there):
            self._writers.discard(each)
            each.transport.abort()

    async def _pump(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
