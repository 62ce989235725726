# SPDX-License-Identifier: Apache-2.0
"""The speed of two revisions of this repository: one process each, that take turns on the same sentences, models and
forced targets, so that a machine whose speed drifts slows both alike.

    git worktree add ../before COMMIT
    python benchmarks/between_commits.py ../before . --rounds 9

Each folder's own `src` and `benchmarks/common.py` are used; everything else is this file's. Both sides must have the
same sentences, forced targets and weights, which is checked. How targets are forced is the folder's own: f71b020 does
it by a logits processor, later revisions by a row decoder that chooses. The processor is dearer, which makes
"before" slower at 64 streams.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

READY = "ready"


def sides() -> dict[str, Callable[[], object]]:
    """What is timed. Only what both revisions know may be used here."""
    import common
    from transformers_simul import OfflinePolicy, SimulMaskDataCollator, SourceStream, StreamEngine, WaitKPolicy

    processor, pairs, k_3 = common.processor(), common.sample(64), WaitKPolicy(3)
    training = common.model(512, 6).train()
    batches = [pairs[:16], pairs[16:32]]

    def known(policy, model=None):
        def side():
            for pair in pairs[:3]:
                decoder = common.forced_decoder([pair["forced"]])
                (model or common.model()).generate(**processor(source=pair["text"]), policy=policy, row_decoder=decoder)

        return side

    def live(**base):
        def side():
            for pair in pairs[:3]:
                source = SourceStream(pair["text"])
                source.end()
                decoder = common.forced_decoder([pair["forced"]], **base)
                common.model().generate(**processor(source=source), policy=k_3, row_decoder=decoder)

        return side

    def streams(width, layers, **base):
        def side():
            engine = StreamEngine(common.model(width, layers), processor, max_streams=64, max_tokens=256)
            for pair in pairs:
                stream = engine.open(k_3, row_decoder=common.forced_decoder([pair["forced"]], **base))
                stream.source.put(pair["text"])
                stream.source.end()
            while engine.active_streams:
                engine.step()

        return side

    def steps(policy, **options):
        def side():
            for batch in batches:
                training(**SimulMaskDataCollator(processor, policy, **options)(batch)).loss.backward()
                training.zero_grad()

        return side

    late = {"base": common.JustInTimeDecoder}
    return {
        "one stream, source known": known(k_3),
        "one stream, full source": known(OfflinePolicy()),
        "one stream, live, source waits": live(),
        "one stream, live, just in time": live(**late),
        "one stream, source known, 10 M weights": known(k_3, common.model(320, 6)),
        "64 streams": streams(1024, 6),
        "64 streams, just in time": streams(1024, 6, **late),
        "64 streams, 10 M weights": streams(320, 6),
        "training steps": steps(k_3, peek_rows=0),
        "training steps, peek rows": steps(k_3),
        "training steps, peek rows, packed": steps(k_3, packing=True, max_length=512),
    }


def fingerprints() -> list[str]:
    """Digests of what is translated and of weights, which both revisions must share."""
    import common

    sentences = [[pair["text"], pair["forced"]] for pair in common.sample(64)]
    weights = sorted(_digest(weight.detach().numpy().tobytes()) for weight in common.model(320, 6).parameters())
    return [_digest(json.dumps(each).encode()) for each in (sentences, weights)]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def answer() -> None:
    """A worker: for each name that comes in, the seconds of that side."""
    # This file may lie in another revision than the one that is timed, which is the current folder.
    sys.path[0] = "benchmarks"
    found = sides()
    print(READY, *fingerprints(), *found, sep="\t", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        found[line.strip()]()
        print(time.perf_counter() - started, flush=True)


class Worker:
    """A process that runs one revision."""

    def __init__(self, folder: Path):
        self.folder = folder
        source = str(folder.resolve() / "src")
        environment = os.environ | {"PYTHONPATH": source, "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )
        while not (line := self._line()).startswith(READY):
            pass
        _, self.sentences, self.weights, *self.names = line.strip().split("\t")

    def seconds(self, name: str) -> float:
        assert self.process.stdin is not None
        print(name, file=self.process.stdin, flush=True)
        return float(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker in {self.folder} must answer, but ended with {self.process.wait()}.")
        return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, nargs="?")
    parser.add_argument("after", type=Path, nargs="?", default=Path())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="time what has this in its name")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        answer()
        return
    if args.before is None:
        parser.error("before must be given: the folder of a revision")
    for folder in (args.before, args.after):
        if not (folder / "benchmarks" / "common.py").is_file():
            parser.error(f"before and after must be folders of revisions, but {folder} has no benchmarks/common.py")
    if args.rounds < 1:
        parser.error(f"rounds must be at least 1, got {args.rounds}")
    before, after = Worker(args.before), Worker(args.after)
    for what in ("sentences", "weights"):
        if getattr(before, what) != getattr(after, what):
            parser.error(f"{args.before} and {args.after} must time the same work, but their {what} differ")
    names = [name for name in after.names if args.only in name]
    if not names:
        parser.error(f"only must be part of a name, one of {after.names}, got {args.only!r}")
    print("| | before: ms | after: ms | after / before (quartiles of the rounds) |\n|---|---|---|---|")
    for name in tqdm(names, file=sys.stderr):
        for worker in (before, after):
            worker.seconds(name)
        pairs = []
        for index in range(args.rounds):
            # Who begins takes turns, too.
            order = (before, after) if index % 2 == 0 else (after, before)
            taken = {worker: worker.seconds(name) for worker in order}
            pairs.append((taken[before], taken[after]))
        ratios = [new / old for old, new in pairs]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        old, new = (1000 * statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"| {name} | {old:.0f} | {new:.0f} | {middle:.2f} ({low:.2f} to {high:.2f}) |", flush=True)


if __name__ == "__main__":
    main()
