# SPDX-License-Identifier: Apache-2.0
"""A server under clients that die, lines that are cut and servers that are killed: what is lost, changes or leaks.

    python benchmarks/serving_chaos.py MODEL SOURCE_FILE              # some minutes
    python benchmarks/serving_chaos.py MODEL SOURCE_FILE --clients 8 --reconnects 10 --sessions 50 --words 12

Four trials: half of the clients die at random moments without a goodbye; lines are cut at random until so many
connections were resumed; one of two servers is killed; many sessions come and go, half of them given up in the middle.
"""

import argparse
import asyncio
import random
import sys
import time

import torch
from websockets.asyncio.client import connect

import serving_common as common
from transformers_simul import SimulClient
from transformers_simul.serving.messages import Start, WordMessage

# Words a second of those who speak: quick, so that a trial is short and still live.
_RATE = 12.0


def shown(words: list[WordMessage]) -> list[tuple[str, int]]:
    """What must not change."""
    return [(word.text, word.delay) for word in words]


async def undisturbed(url: str, texts: list[str], policy: str) -> list[list[tuple[str, int]]]:
    """What each text's translation is."""
    done = await asyncio.gather(*(common.speak(SimulClient(url), text, policy, None) for text in texts))
    return [shown(each.words) for each in done]


async def die(url: str, text: str, policy: str, after_s: float) -> None:
    """A client that is gone from one moment to the next, perhaps in the middle of a message."""
    async with connect(url.replace("http", "ws") + "/v1/stream") as socket:
        await socket.send(Start(policy=policy).model_dump_json(exclude_none=True))
        end_s = time.monotonic() + after_s
        for word in text.split():
            if time.monotonic() > end_s:
                break
            await socket.send('{"type": "source", "text": "%s "}' % word.replace('"', "").replace("\\", ""))  # noqa: UP031
            await asyncio.sleep(1 / _RATE)
        socket.transport.abort()


async def half_dies(args: argparse.Namespace, texts: list[str], draw: random.Random) -> str:
    with common.server(args.model, "--max-streams", str(len(texts)), replicas=args.replicas) as process:
        expected = await undisturbed(process.url, texts, args.policy)
        work, survivors = [], []
        for number, text in enumerate(texts):
            if number % 2:
                work.append(die(process.url, text, args.policy, draw.uniform(0, args.words / _RATE)))
            else:
                work.append(common.speak(SimulClient(process.url), text, args.policy, _RATE))
                survivors.append(number)
        done = await asyncio.gather(*work)
        wrong = sum(shown(done[number].words) != expected[number] for number in survivors)
        held = await common.places(process.url)
    check(not wrong and not held, f"{wrong} survivors' words differ, {held} places are held")
    died = len(texts) - len(survivors)
    return f"{died} clients died; the words of {len(survivors)} survivors are the same; 0 places held"


async def lines_are_cut(args: argparse.Namespace, texts: list[str], draw: random.Random) -> str:
    resumed = rounds = 0
    with common.server(args.model, "--max-streams", str(2 * len(texts)), replicas=args.replicas) as process:
        expected = await undisturbed(process.url, texts, args.policy)
        async with common.Relay(process.url) as relay:
            while resumed < args.reconnects:
                clients = [SimulClient(relay.url) for _ in texts]
                cutting = asyncio.create_task(relay.cut_at_random(draw, every_s=0.3))
                done = await asyncio.gather(
                    *(
                        # Lines are cut also before the server has agreed.
                        common.speak(each, text, args.policy, _RATE, wait_s=60)
                        for each, text in zip(clients, texts, strict=True)
                    )
                )
                cutting.cancel()
                wrong = sum(shown(each.words) != right for each, right in zip(done, expected, strict=True))
                check(not wrong, f"the words of {wrong} resumed clients differ")
                rounds += 1
                resumed += sum(each.reconnects for each in done)
        held = await common.places(process.url)
    check(not held, f"{held} places are held")
    clients = rounds * len(texts)
    return f"{resumed} connections lost and resumed by {clients} clients; all words are the same; 0 places held"


async def server_is_killed(args: argparse.Namespace, texts: list[str], draw: random.Random) -> str:
    flags = ("--max-streams", str(len(texts)))
    with common.server(args.model, *flags) as first, common.server(args.model, *flags) as second:
        expected = await undisturbed(second.url, texts, args.policy)
        client = [SimulClient(first.url, second.url) for _ in texts]
        work = [
            asyncio.create_task(common.speak(each, text, args.policy, _RATE))
            for each, text in zip(client, texts, strict=True)
        ]
        await asyncio.sleep(draw.uniform(0.3, 0.7) * args.words / _RATE)
        # On a slow machine few have begun by then.
        while (running := common.active_streams(first.url)) < len(texts) // 2 and not all(each.done() for each in work):
            await asyncio.sleep(0.1)
        first.kill()
        done = await asyncio.gather(*work)
        wrong = sum(shown(each.words) != right for each, right in zip(done, expected, strict=True))
        held = await common.places(second.url)
    check(not wrong and not held, f"the words of {wrong} clients differ, {held} places are held")
    check(running > 0, "no stream ran when the server was killed")
    return f"killed with {running} streams; all {len(texts)} clients went on at the other; all words are the same"


async def sessions_come_and_go(args: argparse.Namespace, texts: list[str], draw: random.Random) -> str:
    # Few of oneDNN's kernels are kept: all of them are a bound that is reached late (kernel_memory.py), and no leak.
    few = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(args.kernels)}
    with common.server(args.model, "--max-streams", str(len(texts)), environment=few) as process:

        async def wave() -> None:
            async def one(text: str) -> None:
                if draw.random() < 0.5:
                    await common.speak(SimulClient(process.url), text, args.policy, None)
                else:
                    await die(process.url, text, args.policy, draw.uniform(0, 0.3))

            await asyncio.gather(*(one(" ".join(text.split()[:6])) for text in texts))

        for _ in range(2):
            await wave()
        held = [await settled(process)]
        waves = -(-args.sessions // (4 * len(texts)))
        for _ in range(4):
            for _ in range(waves):
                await wave()
            held.append(await settled(process))
    before, after = held[0], held[-1]
    kinds = ("files", "sockets", "tasks", "threads")
    check(not after["places"] and all(after[kind] <= before[kind] for kind in kinds), f"before {before}, after {after}")
    memory = ", ".join(f"{each['MiB']:.0f}" for each in held)
    check(after["MiB"] - held[-2]["MiB"] < 24, f"memory still grows: {memory} MiB")
    same = ", ".join(f"{before[kind]:.0f} {kind} before and {after[kind]:.0f} after" for kind in kinds)
    return f"{4 * waves * len(texts)} sessions; {same}; memory by quarters {memory} MiB; 0 places held"


async def settled(process: common.Process) -> dict[str, float]:
    """What the server holds once all sessions are over."""
    await common.places(process.url)
    # Connections that are kept for a next request are closed by then.
    await asyncio.sleep(6)
    own = process.process
    return {
        "files": own.num_fds(),
        "sockets": len(own.net_connections()),
        "tasks": common.metric(process.url, "simul_tasks"),
        "threads": own.num_threads(),
        "MiB": own.memory_info().rss / 2**20,
        "places": await common.places(process.url),
    }


def check(is_right: bool, what: str) -> None:
    """Raises an `AssertionError`, also where Python is told to pass over assertions."""
    if not is_right:
        raise AssertionError(what)


TRIALS = {
    "half of the clients die": half_dies,
    "lines are cut": lines_are_cut,
    "one of two servers is killed": server_is_killed,
    "sessions come and go": sessions_come_and_go,
}


def main() -> int:
    """Run the trials; returns 1 if one failed."""
    parser = common.parser(__doc__)
    parser.add_argument("--clients", type=int, default=64, help="at once (64)")
    parser.add_argument("--reconnects", type=int, default=200, help="connections to lose (200)")
    parser.add_argument("--sessions", type=int, default=2000, help="to come and go (2000)")
    parser.add_argument("--words", type=int, default=40, help="that each client says (40)")
    parser.add_argument(
        "--kernels", type=int, default=64, help="of oneDNN that the last trial's server keeps (64; it has 1024 itself)"
    )
    parser.add_argument("--trials", nargs="+", choices=TRIALS, help="to run (all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--replicas",
        type=int,
        default=0,
        help="behind Ray Serve, which serving_ray.py kills; the first two trials alone (0: no Ray)",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    texts = common.texts(args.file, args.clients, args.words)
    names = args.trials or list(TRIALS)[: 2 if args.replicas else None]
    return common.report((name, TRIALS[name](args, texts, random.Random(args.seed))) for name in names)


if __name__ == "__main__":
    sys.exit(main())
