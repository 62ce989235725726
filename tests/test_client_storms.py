# SPDX-License-Identifier: Apache-2.0
"""Clients that were cut off or refused together do not come back in one wave, nor without a pause."""

import types

import pytest
from websockets.asyncio.server import serve

from serving import run
from transformers_simul import SimulClient
from transformers_simul.serving.client import ServerError, connection
from transformers_simul.serving.client.connection import Line
from transformers_simul.serving.messages import Error, RoomState


def test_whom_a_server_refused_together_comes_back_apart():
    line = Line(["http://127.0.0.1:1"], None, 1.0, None)
    error = ServerError(Error(code="full", message="", remedy="", action="retry", retry_after_s=5.0))
    outcome = types.SimpleNamespace(exception=lambda: error)
    pauses = [line._pause(types.SimpleNamespace(attempt_number=1, outcome=outcome)) for _ in range(200)]
    assert min(pauses) >= 5.0
    assert len(set(pauses)) > 190


def test_a_room_that_is_cut_off_after_its_state_is_not_asked_without_a_pause(monkeypatch):
    """A proxy or a server that fails after the first message: the listener waits longer each time."""
    pauses, count = [], 0
    monkeypatch.setattr(connection, "backoff_s", lambda number: pauses.append(number) or 0.0)
    # However long a connection lasts here, it is a brief one.
    monkeypatch.setattr(connection, "GOOD_S", 1e9)
    gone = Error(code="not_found", message="", remedy="", action="fix")

    async def cut(socket):
        nonlocal count
        count += 1
        await socket.recv()
        state = RoomState(room="talk", state="live", source_lang="en", target_langs=["de"])
        await socket.send((state if count < 7 else gone).model_dump_json())
        await socket.close(1011)

    async def main():
        async with serve(cut, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = SimulClient(f"http://127.0.0.1:{port}")
            async with client.listen("talk") as listener:
                with pytest.raises(ServerError, match="not_found"):
                    await anext(aiter(listener))

    run(main())
    # A pause before each connection but the first.
    assert (count, pauses) == (7, [1, 1, 2, 3, 4, 5])
