# SPDX-License-Identifier: Apache-2.0
"""A trial: one kind of case, drawn from a seed, run many times within a time limit."""

import contextlib
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Case = Callable[[random.Random], None]


class Trial(NamedTuple):
    """What is tried.

    Attributes:
        name (`str`): of the command line.
        promise (`str`): what each case checks.
        prepare (`Callable`): a context manager that gives the case: a function of a random generator that raises where
            the promise is broken.
        cases (`Mapping[str, int]`): how many, by size.
        limit_s (`Mapping[str, float]`): seconds for all cases, by size.
        case_s (`float`): seconds within which one case must end.
    """

    name: str
    promise: str
    prepare: Callable[[], contextlib.AbstractContextManager[Case]]
    cases: Mapping[str, int]
    limit_s: Mapping[str, float]
    case_s: float = 60.0


@dataclass
class Verdict:
    """What came out. `cases` are those that ran of the `asked`."""

    name: str
    asked: int
    cases: int = 0
    failures: int = 0
    seconds: float = 0.0
    first_seed: int | None = None
    first_problem: str = ""
    interrupted: bool = False


class Planted(BaseException):
    """Marks what a case raises on purpose, so that a real Ctrl-C is told from a planted one."""


class _Hangs(BaseException):
    """A case did not end in time."""


def run_trial(trial: Trial, seed: int, cases: int, limit_s: float, step: Callable[[], object] = int) -> Verdict:
    """Run cases with the seeds `seed`, `seed + 1` and so on; Ctrl-C ends it and is noted."""
    verdict, started = Verdict(trial.name, cases), time.monotonic()

    def hang(*_):
        raise _Hangs(f"the case did not end within {trial.case_s:g} s")

    before = signal.signal(signal.SIGALRM, hang)
    try:
        with trial.prepare() as case:
            for number in range(cases):
                if time.monotonic() - started > limit_s:
                    break
                signal.setitimer(signal.ITIMER_REAL, trial.case_s)
                try:
                    case(random.Random(seed + number))
                except BaseException as error:
                    if type(error) is KeyboardInterrupt:
                        raise
                    _note(verdict, seed + number, error)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                verdict.cases += 1
                step()
    except KeyboardInterrupt:
        verdict.interrupted = True
    finally:
        signal.signal(signal.SIGALRM, before)
        verdict.seconds = time.monotonic() - started
    return verdict


def _note(verdict: Verdict, seed: int, error: BaseException) -> None:
    verdict.failures += 1
    if verdict.first_seed is None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        verdict.first_seed, verdict.first_problem = seed, f"{type(error).__name__} at {where}: {error}"[:2000]


class Outcome(NamedTuple):
    """How a process ended: `status` is negative for a signal, None where it was stopped for its time."""

    status: int | None
    output: str

    def check_plain(self) -> None:
        """It ended by itself, with one error line or none, and without a traceback."""
        assert self.status is not None, f"did not end in time: {self.output[-500:]}"
        assert self.status >= 0, f"ended by signal {-self.status}: {self.output[-500:]}"
        if "Traceback" in self.output:
            last = self.output.strip().rsplit("\n", 1)[-1]
            raise AssertionError(f"a traceback that ends in {last!r}: {self.output[-1500:]}")


def in_child(
    work: Callable[[], int | None],
    stdin: bytes = b"",
    limit_s: float = 60.0,
    memory_bytes: int | None = None,
    kill_after_s: float | None = None,
) -> Outcome:
    """Run `work` in a forked process, with everything imported here already there; its status is what it returns.

    Args:
        work: called there.
        stdin: what is piped in.
        limit_s: then it is killed, and the status is None.
        memory_bytes: address space beyond what it has.
        kill_after_s: SIGKILL after so long; the status is -9, or what it was if it ended before.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        child = os.fork()
        if not child:
            _be_child(work, given.fileno(), output.fileno(), memory_bytes)
        status = _wait(child, kill_after_s if kill_after_s is not None else limit_s)
        if status is None:
            os.kill(child, signal.SIGKILL)
            killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            status = None if kill_after_s is None else killed
        output.seek(0)
        return Outcome(status, output.read().decode("utf-8", "replace"))


def _wait(child: int, seconds: float) -> int | None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def _be_child(work: Callable[[], int | None], stdin: int, output: int, memory_bytes: int | None) -> None:
    """Never returns."""
    status = 70
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for source, target in ((stdin, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
        if memory_bytes is not None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes,) * 2)
        status = work() or 0
    except SystemExit as end:
        # As the interpreter does it: a text is printed, and the status is 1.
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
