# SPDX-License-Identifier: Apache-2.0
"""Two replicas of Ray Serve on this machine: one is killed under load, a new version comes, one becomes two; a room.

    pip install 'transformers_simul[ray]'
    python benchmarks/serving_ray.py MODEL SOURCE_FILE                              # some minutes
    python benchmarks/serving_ray.py MODEL SOURCE_FILE --clients 6 --words 20

Every client speaks live, pauses in the middle until the disturbance is over, and resumes by itself. Its words are
compared with those of an undisturbed run.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import torch

import serving_common as common
import serving_ray_server as cluster
from serving_chaos import check, shown, undisturbed
from transformers_simul import ServerError, SimulClient

# Words a second of those who speak, seconds that a replica gives its streams, and that a client waits for one.
_RATE, _DRAIN_S, _WAIT_S = 3.0, 2.0, 1200.0


class Told(NamedTuple):
    """What the clients got.

    Attributes:
        wrong (`int`): clients whose words differ from the undisturbed ones.
        resumed (`int`): connections that were resumed.
        reasons (`Counter[str]`): why they were lost.
    """

    wrong: int
    resumed: int
    reasons: Counter[str]

    def __str__(self) -> str:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"{self.resumed} connections resumed ({why or 'none was lost'})"


class Trials:
    """What the trials share.

    Args:
        args (`argparse.Namespace`): of the command.
        url (`str`): of the proxy.
    """

    def __init__(self, args: argparse.Namespace, url: str):
        self.args, self.url = args, url
        self.texts = common.texts(args.file, args.clients, args.words)
        self.expected: list[list[tuple[str, int]]] = []

    def deploy(self, **args: object) -> None:
        """The application of two replicas, or with other arguments."""
        given = {"replicas": 2, "max_streams": self.args.clients, "rooms": 0, "drain_s": _DRAIN_S, "policy": "wait-3"}
        cluster.deploy(self.args.model, **given | args)

    async def speak(self, disturb: Callable[[], Awaitable[object]]) -> Told:
        """All clients speak; in the middle of it something happens, and they go on when it is over."""
        reasons: Counter[str] = Counter()

        def lost(error: Exception) -> None:
            reasons[error.code if isinstance(error, ServerError) else "broken off"] += 1

        goes_on = asyncio.Event()
        work = [
            asyncio.create_task(
                self._speak_around(SimulClient(self.url, on_lost=lost, give_up_s=_WAIT_S), text, goes_on)
            )
            for text in self.texts
        ]
        await asyncio.sleep(self.args.words / 2 / _RATE)
        await disturb()
        goes_on.set()
        done = await asyncio.gather(*work)
        wrong = sum(words != right for (words, _), right in zip(done, self.expected, strict=True))
        return Told(wrong, sum(resumed for _, resumed in done), reasons)

    async def _speak_around(self, client: SimulClient, text: str, goes_on: asyncio.Event) -> tuple[list[Any], int]:
        """The words of a text with a pause in the middle, and connections that were resumed."""
        words = text.split()

        async def feed(stream: Any) -> None:
            for number, word in enumerate(words):
                if number == len(words) // 2:
                    await goes_on.wait()
                await asyncio.sleep(1 / _RATE)
                await stream.put(f"{word} ")
            await stream.end()

        async with client.open(policy=self.args.policy, wait_s=_WAIT_S) as stream:
            feeding = asyncio.create_task(feed(stream))
            got = shown([word async for word in stream])
            await feeding
            return got, stream.reconnects

    async def undisturbed(self) -> str:
        """What each text's translation is; and that both replicas are at work."""
        self.expected = await undisturbed(self.url, self.texts, self.args.policy)
        words, before = sum(map(len, self.expected)), cluster.cpu_s()
        told = await self.speak(lambda: asyncio.sleep(0))
        after = cluster.cpu_s()
        check(not told.wrong and not told.resumed, f"the words of {told.wrong} clients differ; {told}")
        # Ray's nodes hear of it every few seconds.
        for _ in range(60):
            counted = await asyncio.to_thread(cluster.figure, "simul_words_total")
            if sum(counted) == 2 * words:
                break
            await asyncio.sleep(1)
        check(sum(counted) == 2 * words and len(counted) == 2, f"Ray's metrics have {counted}, not {2 * words} words")
        replicas, proxy = ((b - a) / words * 1000 for a, b in zip(before, after, strict=True))
        return (
            f"{len(self.texts)} clients, {words} words; live the same as at once; processor time of a word "
            f"{replicas:.1f} ms in the replicas and {proxy:.1f} ms in Ray's proxy; Ray's metrics count them all"
        )

    async def one_is_killed(self) -> str:
        """A replica's process ends without a word."""
        before = {process.pid for process in cluster.replicas()}
        victim = cluster.replicas()[0]

        async def kill() -> None:
            victim.kill()

        told = await self.speak(kill)
        check(not told.wrong and told.resumed > 0, f"the words of {told.wrong} clients differ; {told}")
        await asyncio.to_thread(cluster.another, before)
        await asyncio.to_thread(cluster.settled, "simul", 2, self.url)
        after = {process.pid for process in cluster.replicas()}
        check(len(after - before) == 1, f"replicas were {before}, and are {after}")
        return f"{told}; the words of all {len(self.texts)} clients are the same; Ray started another replica"

    async def a_new_version(self) -> str:
        """Other replicas come, and those that run end, after a while for their streams."""
        before = {process.pid for process in cluster.replicas()}

        async def upgrade() -> None:
            await asyncio.to_thread(self.deploy, idle_s=90)
            await asyncio.to_thread(cluster.settled, "simul", 2, self.url)

        told = await self.speak(upgrade)
        after = {process.pid for process in cluster.replicas()}
        check(not told.wrong and not before & after, f"the words of {told.wrong} clients differ; {told}")
        # As many as the clients at least: who goes on at a replica of the old version moves again.
        check(set(told.reasons) == {"draining"}, f"streams were cut: {told}")
        check(told.resumed >= len(self.texts), f"streams did not move: {told}")
        return f"{told}; the words of all {len(self.texts)} clients are the same; both replicas are others"

    async def one_comes(self) -> str:
        """One replica is too little for all who speak: Ray starts another one, and those that wait get a place."""
        half = max(1, len(self.texts) // 2)
        # Anew: Ray waits ten minutes before it takes a replica away.
        await asyncio.to_thread(cluster.remove, "simul")
        await asyncio.to_thread(self.deploy, replicas=1, max_replicas=2, max_streams=half)
        await asyncio.to_thread(cluster.settled, "simul", 1, self.url)
        begun_s, took_s = time.monotonic(), 0.0

        async def wait() -> None:
            nonlocal took_s
            await asyncio.to_thread(cluster.settled, "simul", 2, self.url)
            took_s = time.monotonic() - begun_s

        told = await self.speak(wait)
        check(not told.wrong, f"the words of {told.wrong} clients differ; {told}")
        return f"{len(self.texts)} clients, {half} places: 2 replicas after {took_s:.0f} s; all words are the same"

    async def a_room(self) -> str:
        """A room is refused where there are several replicas, and kept by an application of one."""
        try:
            async with SimulClient(self.url).open(room="talk"):
                raise AssertionError("a room was opened where there are several replicas")
        except ServerError as error:
            check(error.code == "forbidden", f"a room was refused with {error.code}")
        await asyncio.to_thread(
            cluster.deploy, self.args.model, "rooms", "/rooms", replicas=1, drain_s=_DRAIN_S, max_streams=4
        )
        client = SimulClient(self.url + "/rooms")

        async def listen() -> list[tuple[str, int]]:
            async with client.listen("talk") as room:
                return shown([word async for word in room])

        listeners = [asyncio.create_task(listen()) for _ in range(8)]
        async with client.open(room="talk", policy=self.args.policy) as stream:
            await stream.put(self.texts[0])
            await stream.end()
            said = shown([word async for word in stream])
        heard = await asyncio.gather(*listeners)
        check(said == self.expected[0] and all(each == said for each in heard), "what was heard is not what was said")
        return f"refused by several replicas; of one, {len(heard)} listeners heard all {len(said)} words"


def main() -> int:
    """Run the trials; returns 1 if one failed."""
    parser = common.parser(__doc__)
    parser.add_argument("--clients", type=int, default=32, help="at once (32)")
    parser.add_argument("--words", type=int, default=60, help="that each client says (60)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with cluster.cluster() as url:
        trials = Trials(args, url)
        trials.deploy()
        cluster.settled("simul", 2, url)
        named = {
            "undisturbed": trials.undisturbed,
            "one of two replicas is killed": trials.one_is_killed,
            "a room": trials.a_room,
            "a new version is deployed": trials.a_new_version,
            "one replica becomes two": trials.one_comes,
        }
        return common.report((name, trial()) for name, trial in named.items())


if __name__ == "__main__":
    sys.exit(main())
