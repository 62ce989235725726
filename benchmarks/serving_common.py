# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of the server share: a server in a process of its own, texts, clients that speak."""

import asyncio
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from transformers_simul import SimulClient
from transformers_simul.cli.flags import CommandParser
from transformers_simul.serving.messages import WordMessage
from transformers_simul.text_files import read_lines

# Seconds that a server may take to start, and to end; several of Ray on a machine that is busy.
_START_S, _END_S, _RAY_S = 180.0, 60.0, 1200.0


class Process:
    """A server: its address and its process."""

    def __init__(
        self,
        command: list[str],
        start_s: float = _START_S,
        end_s: float = _END_S,
        environment: Mapping[str, str] | None = None,
    ):
        self._start_s, self._end_s = start_s, end_s
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - the process writes to it
        self._popen = subprocess.Popen(command, stderr=self._log, env={**os.environ, **(environment or {})})
        self.process = psutil.Process(self._popen.pid)
        self.url = self._wait()

    def _wait(self) -> str:
        end_s = time.monotonic() + self._start_s
        while time.monotonic() < end_s and self._popen.poll() is None:
            self._log.seek(0)
            if found := re.search(r"at (http://\S+);", self._log.read()):
                return found[1]
            time.sleep(0.05)
        self.kill()
        self._log.seek(0)
        raise RuntimeError(f"the server did not start: {self._log.read()[-2000:]}")

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time that it has used, and its processes."""
        return sum(sum(each.cpu_times()[:2]) for each in [self.process, *self.process.children(recursive=True)])

    def kill(self) -> None:
        """End it at once, as if its machine were lost."""
        self._popen.kill()
        self._popen.wait()

    def end(self) -> None:
        """End it as an operator does."""
        self._popen.terminate()
        try:
            self._popen.wait(self._end_s)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def server(
    model: str, *flags: str, replicas: int = 0, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """`transformers-simul serve`, or replicas of it in Ray Serve, until the block is left."""
    command = [sys.executable, "-m", "transformers_simul.cli", "serve", model, "--port", "0", *flags]
    if replicas:
        command[1:4] = [str(Path(__file__).with_name("serving_ray_server.py"))]
        command += ["--replicas", str(replicas)]
    times = (_RAY_S, _RAY_S) if replicas else (_START_S, _END_S)
    process = Process(command, *times, environment)
    try:
        yield process
    finally:
        process.end()


def active_streams(url: str) -> int:
    """Places of a server that are taken."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=30) as answer:
        return sum(model["active_streams"] for model in json.load(answer)["models"])


async def places(url: str) -> int:
    """Places that are taken; waits for up to ten seconds for those that are about to be given free."""
    taken = 0
    for _ in range(100):
        # Several: behind Ray Serve, each answer is of one replica, drawn anew.
        taken = max([await asyncio.to_thread(active_streams, url) for _ in range(8)])
        if not taken:
            break
        await asyncio.sleep(0.1)
    return taken


def metric(url: str, name: str) -> float:
    """A figure of a server without labels, as Prometheus gets it."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


class Relay:
    """A line to a server whose connections can be cut.

    Args:
        url (`str`): of the server.
    """

    def __init__(self, url: str):
        host, port = url.removeprefix("http://").split(":")
        self._target = (host, int(port))
        # Pieces, in both directions.
        self._carried = 0
        self._lines: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for line in self._lines:
            self._cut(line)

    async def cut_at_random(self, draw: random.Random, every_s: float) -> None:
        """Cut a third of the connections again and again, each in the middle of whatever it carries; on a slow machine
        less often, or nobody would get a word between two cuts."""
        due = 0
        while True:
            await asyncio.sleep(draw.uniform(0, 2 * every_s))
            if self._carried < due:
                continue
            due = self._carried + 3 * len(self._lines)
            for line in draw.sample(self._lines, len(self._lines) // 3):
                self._cut(line)

    def _cut(self, line: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        for writer in line:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection(*self._target)
        line = (writer, there)
        self._lines.append(line)
        tasks = [asyncio.create_task(self._pump(*pair)) for pair in ((reader, there), (back, writer))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self._lines.remove(line)
        self._cut(line)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                self._carried += 1
                writer.write(data)
                await writer.drain()


def texts(file: str, count: int, words: int) -> list[str]:
    """Texts of so many words, of a file's sentences, each from another place on."""
    lines = [line for line in read_lines(file) if line.strip()]
    made = []
    for number in range(count):
        start = number * len(lines) // count
        endless = itertools.chain.from_iterable(line.split() for line in itertools.cycle(lines[start:] + lines[:start]))
        made.append(" ".join(itertools.islice(endless, words)))
    return made


class Spoken(NamedTuple):
    """What a client got.

    Attributes:
        words (`list[WordMessage]`): of the translation.
        lags_ms (`list[float]`): of each word, the time since the source word was sent that it needed.
        reconnects (`int`): connections that were resumed.
    """

    words: list[WordMessage]
    lags_ms: list[float]
    reconnects: int


async def speak(
    client: SimulClient,
    text: str,
    policy: str,
    words_per_second: float | None,
    delay_s: float = 0.0,
    wait_s: float = 0.0,
) -> Spoken:
    """Say a text, word by word or at once, after a while, waiting so long for a place."""
    await asyncio.sleep(delay_s)
    words: list[WordMessage] = []
    lags_ms: list[float] = []
    async with client.open(policy=policy, wait_s=wait_s) as stream:
        feeding = asyncio.create_task(_feed(stream, text, words_per_second))
        async for word in stream:
            words.append(word)
            if word.source_at_ms is not None:
                lags_ms.append(stream.now_ms - word.source_at_ms)
        await feeding
        return Spoken(words, lags_ms, stream.reconnects)


async def _feed(stream, text: str, words_per_second: float | None) -> None:
    if words_per_second is None:
        await stream.put(text)
    else:
        begun_s = time.monotonic()
        for number, word in enumerate(text.split()):
            await asyncio.sleep(begun_s + number / words_per_second - time.monotonic())
            await stream.put(f"{word} ")
    await stream.end()


def parser(description: str | None) -> CommandParser:
    """A benchmark's arguments, as far as all of them have the same."""
    parser = CommandParser(description=description)
    parser.add_argument("model", help="a trained folder")
    parser.add_argument("file", help="sentences of its source language, one in a line")
    parser.add_argument("--policy", default="wait-3")
    return parser


def report(trials: Iterable[tuple[str, Coroutine[Any, Any, str]]]) -> int:
    """Run trials one after the other, and print the outcome of each; returns 1 if one failed."""
    failures = 0
    print("| trial | outcome |\n|---|---|")
    for name, trial in trials:
        try:
            outcome = asyncio.run(trial)
        except Exception as error:
            failures += 1
            outcome = f"FAILED: {type(error).__name__}: {error}"
        print(f"| {name} | {outcome} |", flush=True)
    return int(failures > 0)
