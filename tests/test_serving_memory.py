# SPDX-License-Identifier: Apache-2.0
"""Sessions leave no object behind, however they end."""

import asyncio
import collections
import gc

from serving import END, rest, run, running, say, source, start, tiny
from transformers_simul import SimulClient

TEXT = "a dog runs over the meadow. two"


async def finished(server):
    async with server.connect() as socket:
        await say(socket, start(room="talk"), source(TEXT), END)
        await rest(socket)


async def broken_off(server):
    async with server.connect() as socket:
        await say(socket, start(), source(TEXT))
        await socket.recv()
        socket.transport.abort()


async def refused(server):
    async with server.connect() as socket:
        await say(socket, start(policy="nonsense"))
        await rest(socket)


async def left_early(server):
    async with SimulClient(server.url).open(options={"max_new_tokens": 12}) as stream:
        await stream.put(TEXT)
        async for _ in stream:
            break


def ours():
    """Objects of this package, and of what it starts, by class."""
    gc.collect()
    kinds = collections.Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    parts = ("transformers_simul.", "uvicorn.protocols.", "websockets.", "_asyncio.", "asyncio.streams", "torch.Tensor")
    return {kind: count for kind, count in kinds.items() if kind.startswith(parts)}


def test_sessions_leave_no_objects():
    async def main():
        async with running({"one": tiny()}) as server:

            async def wave():
                for session in (finished, broken_off, refused, left_early):
                    await session(server)
                await server.idle()
                # Connections are closed by then, on both sides.
                while server.server.server_state.connections or len(asyncio.all_tasks()) > before:
                    await asyncio.sleep(0.01)

            before = len(asyncio.all_tasks())
            await wave()
            await wave()
            first = ours()
            for _ in range(5):
                await wave()
            last = ours()
            assert {kind: count for kind, count in last.items() if count > first.get(kind, 0)} == {}
            assert not server.service.held
            assert not server.service.sessions

    run(main())
