# SPDX-License-Identifier: Apache-2.0
"""Trainings that are killed (SIGKILL), at random and while they write, and started again: they end with the weights of
one that nothing interrupted."""

import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .training import Training
from .trial import Case, Trial, in_child

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}


def on_writes(folder: Path, note: Callable[[], None]) -> None:
    """Have `note` called, in this process, just before whatever changes something in the folder."""

    def hook(event: str, details: tuple) -> None:
        if event == "open":
            writes = isinstance(details[1], str) and set(details[1]) & set("wax+")
            writes = writes or (isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR))
        else:
            writes = event in CHANGES
        if writes and str(details[0]).startswith(str(folder)):
            note()

    sys.addaudithook(hook)


def die_at(number: int, delay_s: float) -> Callable[[], None]:
    """Dies at the `number`th call, or so long after it: while weights are being written, which Python does not see."""
    seen = [0]

    def die() -> None:
        time.sleep(delay_s)
        os.kill(os.getpid(), signal.SIGKILL)

    def note() -> None:
        seen[0] += 1
        if seen[0] == number:
            threading.Thread(target=die).start() if delay_s else die()

    return note


@contextlib.contextmanager
def prepare() -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        training = Training(root)
        count, seconds = _writes(training, root)

        def case(draw: random.Random) -> None:
            folder = root / f"case-{draw.random()}"
            for _ in range(draw.choice((1, 1, 2))):
                if draw.random() < 0.25:
                    in_child(lambda: training.run(folder), kill_after_s=draw.uniform(0.1, 1.2) * seconds)
                    continue
                number, delay = draw.randint(1, count), draw.choice((0, 0, draw.uniform(0, 0.01)))

                def doomed(number: int = number, delay: float = delay) -> int:
                    on_writes(folder, die_at(number, delay))
                    return training.run(folder)

                outcome = in_child(doomed, limit_s=120)
                assert outcome.status in (-signal.SIGKILL, 0), outcome
            training.finish(folder)

        yield case


def _writes(training: Training, root: Path) -> tuple[int, float]:
    """How often an uninterrupted training changes its folder, and how long it takes."""
    started, path = time.monotonic(), root / "writes"

    def counted() -> int:
        seen = [0]
        on_writes(root / "counted", lambda: seen.__setitem__(0, seen[0] + 1))
        status = training.run(root / "counted")
        path.write_text(str(seen[0]))
        return status

    in_child(counted, limit_s=120)
    return int(path.read_text()), time.monotonic() - started


TRIAL = Trial(
    "kills",
    "a training killed at random or while it writes, and started again, ends with the uninterrupted one's weights",
    prepare,
    {"smallest": 1, "small": 2, "full": 50},
    {"smallest": 60, "small": 20, "full": 600},
    case_s=300,
)
