# SPDX-License-Identifier: Apache-2.0
"""How long clients of a server wait for a word, by the number of streams; and what the network costs.

    python benchmarks/serving_load.py MODEL SOURCE_FILE                                   # about ten minutes
    python benchmarks/serving_load.py MODEL SOURCE_FILE --streams 1 4 --seconds 5 --rounds 1   # half a minute

The server is a process of its own on this machine, or with `--replicas` several behind Ray Serve; all clients share
another. Each says other sentences of the file, live, at three words a second. Time is measured at the client, from the
moment a source word is sent that a target word needed (its delay) to the moment the target word is there. At overload
half as many clients more come than there are places. Then texts that are there at once are translated by the server and
by an engine without it, in turns.
"""

import argparse
import asyncio
import statistics
import time

import psutil
import torch

import serving_common as common
from transformers_simul import ConnectionLost, ServerError, SimulClient, StreamEngine
from transformers_simul.cli.loading import load

_RATE = 3.0


async def live(url: str, texts: list[str], policy: str) -> tuple[list[float], int]:
    """Every text by a client of its own, beginning within a second of each other; all lags, and who was refused."""
    work = (
        common.speak(SimulClient(url), text, policy, _RATE, delay_s=number / len(texts))
        for number, text in enumerate(texts)
    )
    lags_ms: list[float] = []
    refused = 0
    for result in await asyncio.gather(*work, return_exceptions=True):
        # Ray Serve lets them wait for a place, before the protocol's first message.
        if isinstance(result, ConnectionLost) or (isinstance(result, ServerError) and result.code == "full"):
            refused += 1
        elif isinstance(result, BaseException):
            raise result
        else:
            lags_ms += result.lags_ms
    return lags_ms, refused


def percentiles(lags_ms: list[float]) -> list[float]:
    """The median, the 95th and the 99th."""
    cuts = statistics.quantiles(lags_ms, n=100, method="inclusive")
    return [cuts[49], cuts[94], cuts[98]]


def print_live(args: argparse.Namespace) -> None:
    """The table of waiting times."""
    words = round(args.seconds * _RATE)
    print("| clients | refused | words | p50 (ms) | p95 (ms) | p99 (ms) |\n|---|---|---|---|---|---|")
    for streams in [*args.streams, None]:
        # The last: with places for half as many again too few.
        places = max(args.streams)
        clients = places + places // 2 if streams is None else streams
        each = -(-places // max(1, args.replicas))
        with common.server(args.model, "--max-streams", str(each), replicas=args.replicas) as process:
            asyncio.run(live(process.url, common.texts(args.file, 1, 10), args.policy))
            lags_ms, refused = asyncio.run(live(process.url, common.texts(args.file, clients, words), args.policy))
        name = f"{clients} (overload)" if streams is None else f"{clients}"
        figures = " | ".join(f"{value:.0f}" for value in percentiles(lags_ms))
        print(f"| {name} | {refused} | {len(lags_ms)} | {figures} |", flush=True)


async def over_network(url: str, texts: list[str], policy: str) -> int:
    """All texts at once; the number of words."""
    done = await asyncio.gather(*(common.speak(SimulClient(url), text, policy, None) for text in texts))
    return sum(len(each.words) for each in done)


def bare(engine: StreamEngine, texts: list[str], policy: str) -> int:
    """The same without a server."""
    streams = []
    for text in texts:
        streams.append(engine.open(policy, sentences=True, max_sentence_words=60))
        streams[-1].source.put(text)
        streams[-1].source.end()
    return sum(len(list(stream.words)) for stream in streams)


def print_share(args: argparse.Namespace) -> None:
    """Words a second and processor time of a word, with and without the network; in turns."""
    streams = min(16, max(args.streams))
    texts = common.texts(args.file, streams, args.words)
    own = psutil.Process()
    figures: dict[str, list[tuple[float, float]]] = {"engine": [], "server": []}
    counts = set()
    with (
        common.server(args.model, "--max-streams", str(streams), replicas=args.replicas) as process,
        StreamEngine(*load(args.model, decoding_weights="auto"), max_streams=streams, max_tokens=512) as engine,
    ):
        for _ in range(args.rounds + 1):
            begun_s, before = time.perf_counter(), sum(own.cpu_times()[:2])
            counts.add(bare(engine, texts, args.policy))
            figures["engine"].append((time.perf_counter() - begun_s, sum(own.cpu_times()[:2]) - before))
            begun_s, before = time.perf_counter(), process.cpu_s
            counts.add(asyncio.run(over_network(process.url, texts, args.policy)))
            figures["server"].append((time.perf_counter() - begun_s, process.cpu_s - before))
    (words,) = counts
    print(f"\n{streams} texts of {args.words} words, {words} words written; medians of {args.rounds} turns\n")
    print("| | words a second | processor time of a word (ms) |\n|---|---|---|")
    # The first turn warms both up.
    medians = {
        name: [statistics.median(each) for each in zip(*turns[1:], strict=True)] for name, turns in figures.items()
    }
    for name, (wall_s, cpu_s) in medians.items():
        print(f"| {name} | {words / wall_s:.0f} | {cpu_s / words * 1000:.2f} |")
    wall, cpu = (1 - a / b for a, b in zip(medians["engine"], medians["server"], strict=True))
    print(f"\nThe server's share: {wall:.1%} of the time, {cpu:.1%} of its processor time")


def main() -> None:
    """Both tables."""
    parser = common.parser(__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 16, 32, 64], help="numbers of clients")
    parser.add_argument("--seconds", type=float, default=30.0, help="that each client speaks (30)")
    parser.add_argument("--words", type=int, default=120, help="of each text for the network's share (120)")
    parser.add_argument("--rounds", type=int, default=5, help="turns for the network's share (5)")
    parser.add_argument("--replicas", type=int, default=0, help="that Ray Serve shares the places among (0: no Ray)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    load_before = psutil.getloadavg()[0]
    print_live(args)
    print_share(args)
    print(
        f"\n{psutil.cpu_count()} processors; load average {load_before:.1f} before, {psutil.getloadavg()[0]:.1f} after"
    )


if __name__ == "__main__":
    main()
