# SPDX-License-Identifier: Apache-2.0
"""A server through hours of speech without a break: whether its memory stays where it is, and every word comes.

    python benchmarks/serving_hours.py MODEL SOURCE_FILE                          # some minutes
    python benchmarks/serving_hours.py MODEL SOURCE_FILE --hours 0.02 --speakers 2

An hour is 10,800 words, three a second. They are sent as fast as the server reads them, not live.
"""

import argparse
import asyncio
import contextlib
import sys

import torch

import serving_common as common
from transformers_simul import SimulClient

_HOUR_WORDS = 10_800
_PARTS = 8
# MiB by which a server may still grow in the last of these parts. oneDNN makes a kernel for each number of rows that it
# meets for the first time: memory grows towards a bound, and a leak does not.
_GROWTH_MIB = 8


class Talk:
    """One speaker: what was sent and what came back."""

    def __init__(self, text: str):
        self.words, self.read, self.written = text.split(), 0, 0

    async def run(self, client: SimulClient, policy: str) -> None:
        """Say all of it.

        Raises:
            RuntimeError: if the stream ended before its source, or was interrupted.
        """
        async with client.open(policy=policy) as stream:
            feeding = asyncio.create_task(self._feed(stream))
            async for word in stream:
                self.read, self.written = word.delay, self.written + 1
            await feeding
            ends = stream.reason, stream.source_words, stream.reconnects
        if ends != ("eos", len(self.words), 0):
            raise RuntimeError(f"a stream of {len(self.words)} words ended with {ends}")
        self.read = len(self.words)

    async def _feed(self, stream) -> None:
        for word in self.words:
            await stream.put(f"{word} ")
        await stream.end()


async def measure(args: argparse.Namespace) -> list[float]:
    """MiB of the server at the start, and whenever one more part of all talks has been read."""
    count = round(args.hours * _HOUR_WORDS)
    talks = [Talk(text) for text in common.texts(args.file, args.speakers, count)]
    # No faster than it reads: at most so many words wait unread in any case.
    flags = ("--max-streams", str(args.speakers), "--words-per-second", "100000")
    with common.server(args.model, *flags) as process:
        held = [process.process.memory_info().rss / 2**20]
        work = asyncio.gather(*(talk.run(SimulClient(process.url), args.policy) for talk in talks))
        try:
            for part in range(1, _PARTS + 1):
                while min(talk.read for talk in talks) * _PARTS < part * count and not work.done():
                    await asyncio.sleep(0.05)
                held.append(process.process.memory_info().rss / 2**20)
                print(f"| {part * count / _PARTS:,.0f} | {held[-1]:.0f} |", flush=True)
            await work
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        left = await common.places(process.url)
    written = sum(talk.written for talk in talks)
    print(
        f"\n{len(talks)} streams, {count * len(talks):,} source words, {written:,} words written; "
        f"{held[0]:.0f} MiB before the first word; {left} places held"
    )
    return held


def main() -> int:
    """Measure; returns 1 if the memory still grows."""
    parser = common.parser(__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="that each speaks (1)")
    parser.add_argument("--speakers", type=int, default=8, help="at once (8)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| words of each stream | MiB |\n|---|---|")
    held = asyncio.run(measure(args))
    grown = held[-1] - held[-2]
    if grown > _GROWTH_MIB:
        print(f"FAILED: the server still grew by {grown:.1f} MiB in the last part")
    return int(grown > _GROWTH_MIB)


if __name__ == "__main__":
    sys.exit(main())
