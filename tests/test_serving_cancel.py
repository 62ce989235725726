# SPDX-License-Identifier: Apache-2.0
"""A cancellation that comes together with what is waited for is not lost: until Python 3.12 asyncio.wait_for loses it."""

import asyncio
import json

import pytest
from starlette.websockets import WebSocketState

from serving import run, tiny
from transformers_simul.serving.client.incoming import Incoming
from transformers_simul.serving.messages import LISTENER_MESSAGES, Listen, Start
from transformers_simul.serving.metrics import Metrics
from transformers_simul.serving.models import serve_models
from transformers_simul.serving.service import Service
from transformers_simul.serving.settings import Settings
from transformers_simul.serving.sockets import _finish, _first, listen, stream


class Socket:
    """What `_first` asks of a WebSocket; its message is put by the test."""

    def __init__(self):
        self.headers, self._messages = {}, asyncio.Queue()

    def put(self):
        self._messages.put_nowait({"type": "websocket.receive", "text": Listen().model_dump_json()})

    async def receive(self):
        return await self._messages.get()


class Held(Service):
    """A service whose one session ends when the test says so."""

    def free(self):
        self.running.clear()
        self._changed.set()


class Session:
    def say(self, message):
        pass

    def stop(self, failure):
        raise AssertionError("a drain that is cancelled ends nobody's stream")


@pytest.fixture(scope="module")
def served():
    return serve_models({"one": tiny()}, Metrics(), 1, 64)


def of_listener(service):
    listener = service.rooms.listen("talk", Listen())
    # The room's state, which is there from the start.
    listener._waiting.clear()
    return listener.next(30.0), listener.room.end


def of_first_message(service):
    socket = Socket()
    return _first(socket, service, LISTENER_MESSAGES, Listen), socket.put


def of_drain(service):
    service.running[Session()] = (None, None)
    return service.drain(30.0), service.free


@pytest.mark.parametrize("make", [of_listener, of_first_message, of_drain])
@pytest.mark.parametrize("turns", range(6))
def test_who_is_cancelled_as_the_value_arrives_is_cancelled(served, make, turns):
    """The value travels some turns of the event loop; in each of them the cancellation may come."""

    async def main():
        work, arrive = make(Held(served, Settings()))
        was_cancelled = []

        async def goes_on():
            try:
                await work
                # A cancellation that came after all that: here it must be found.
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                was_cancelled.append(True)
                raise

        task = asyncio.create_task(goes_on())
        for _ in range(5):
            await asyncio.sleep(0)
        arrive()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        task.cancel()
        assert done
        assert was_cancelled

    run(main())


def test_who_is_cancelled_while_it_closes_is_cancelled():
    """Tasks that are ended on the way out may take a while; the caller's own cancellation comes then."""

    async def slow():
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)

    async def close_incoming(task):
        incoming = Incoming(None, "", 0.0)
        incoming._work = task
        await incoming.close()

    async def main():
        for close in (close_incoming, lambda task: _finish([task])):
            inner = asyncio.create_task(slow())
            await asyncio.sleep(0)
            outer = asyncio.create_task(close(inner))
            await asyncio.sleep(0)
            outer.cancel()
            await asyncio.wait([outer], timeout=5)
            assert outer.cancelled()
            await asyncio.wait([inner], timeout=5)
            assert inner.cancelled()

    run(main())


class Slow(Socket):
    """Its messages take a moment to go out."""

    def __init__(self):
        super().__init__()
        self.application_state, self.sent, self.code = WebSocketState.CONNECTED, [], None

    async def accept(self):
        pass

    async def send_text(self, text):
        await asyncio.sleep(0.05)
        self.sent.append(json.loads(text))

    async def close(self, code):
        await asyncio.sleep(0.05)
        self.code = code


@pytest.mark.parametrize("serve", [stream, lambda socket, service: listen(socket, service, "talk")])
def test_a_drain_waits_until_each_client_was_told(serve):
    """What comes after it closes the sockets that are still open, without a reason."""

    async def main():
        service = Service(serve_models({"one": tiny()}, Metrics(), 1, 64))
        service.start()
        socket = Slow()
        first = Start() if serve is stream else Listen()
        socket._messages.put_nowait({"type": "websocket.receive", "text": first.model_dump_json()})
        answering = asyncio.create_task(serve(socket, service))
        while not socket.sent:
            await asyncio.sleep(0.01)
        draining = asyncio.create_task(service.drain(60.0))
        while not service.is_draining:
            await asyncio.sleep(0)
        # As if the time were up.
        service.stop_all()
        await draining
        assert (socket.sent[-1]["type"], socket.sent[-1]["code"], socket.code) == ("error", "draining", 1012)
        await answering
        await service.close()

    run(main())
