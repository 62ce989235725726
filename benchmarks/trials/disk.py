# SPDX-License-Identifier: Apache-2.0
"""A disk that is full in the middle: a plain error, nothing of before is lost, and with room again all is well."""

import contextlib
import random
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers import make_model, make_processor
from transformers_simul.cli import main

from .training import Training
from .trial import Case, Outcome, Trial, in_child


class Disk:
    """A folder with little room: a file system of its own where that may be mounted, else a limit on each file."""

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self.folder, self.kilobytes = folder, 0
        self.is_mounted = _mount(folder, "size=1m")

    def fill(self, kilobytes: int) -> None:
        self.kilobytes = kilobytes
        if self.is_mounted:
            assert _mount(self.folder, f"remount,size={kilobytes}k")

    def enlarge(self) -> None:
        self.fill(1 << 18)

    def run(self, work: Callable[[], int]) -> Outcome:
        def limited() -> int:
            if not self.is_mounted:
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.kilobytes << 10,) * 2)
            return work()

        return in_child(limited, limit_s=120)

    def close(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", self.folder], check=True)


def _mount(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "chaos", folder]
    return (
        shutil.which("mount") is not None and not subprocess.run(command, capture_output=True, check=False).returncode
    )


@contextlib.contextmanager
def prepare() -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        training = Training(root)
        processor = make_processor()
        make_model(processor).save_pretrained(root / "model")
        processor.save_pretrained(root / "model")
        source = root / "source.en"
        source.write_text("a dog runs over the meadow\n" * 40, encoding="utf-8")
        # Here too, so that no case needs to import anything.
        assert main(["translate", str(root / "model"), str(source), "--output", str(root / "target.de")]) == 0
        most = sum(file.stat().st_size for file in (root / "whole").rglob("*") if file.is_file()) >> 10

        def train(draw: random.Random, disk: Disk) -> None:
            disk.fill(draw.randint(1, 2 * most))
            folder = disk.folder / "training"
            outcome = disk.run(lambda: training.run(folder))
            _check(outcome)
            disk.enlarge()
            training.finish(folder)

        def translate(draw: random.Random, disk: Disk) -> None:
            target = disk.folder / "target.de"
            target.write_text("what was there before\n", encoding="utf-8")
            disk.fill(draw.choice((4, 8, 12)))
            flags = ["--output", str(target), *draw.choice(([], ["--json"]))]
            outcome = disk.run(lambda: main(["translate", str(root / "model"), str(source), *flags]))
            _check(outcome)
            written = target.read_text(encoding="utf-8")
            assert (written == "what was there before\n") == (outcome.status != 0), (outcome, written)
            left = [file.name for file in disk.folder.iterdir()]
            assert left == ["target.de"], left

        def case(draw: random.Random) -> None:
            disk = Disk(root / "disk")
            try:
                draw.choice((train, train, translate))(draw, disk)
            finally:
                disk.close()
                shutil.rmtree(disk.folder, ignore_errors=True)

        yield case


def _check(outcome: Outcome) -> None:
    outcome.check_plain()
    assert not outcome.status or "error:" in outcome.output, outcome


TRIAL = Trial(
    "disk",
    "where the disk is full, a plain error; what was there stays whole, and with room the same command goes on",
    prepare,
    {"smallest": 1, "small": 2, "full": 30},
    {"smallest": 60, "small": 20, "full": 400},
    case_s=300,
)
