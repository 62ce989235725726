# SPDX-License-Identifier: Apache-2.0
"""The command that does on purpose what may go wrong: every trial at its smallest, and that it finds what is broken."""

import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def chaos(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import chaos

    return chaos


def test_every_trial_at_its_smallest(tmp_path):
    """In a process of its own: it forks."""
    command = [sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--size", "smallest"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.count("| 0 |") == 9, done.stdout


def test_a_defect_is_found_and_found_again(chaos, monkeypatch, capsys):
    from transformers_simul import SourceStream

    monkeypatch.setattr(SourceStream, "end_sentence", lambda stream: None)
    assert chaos.main(["--only", "sources", "--cases", "300"]) == 1
    again = capsys.readouterr().out.rpartition("again: python benchmarks/chaos.py ")[2].split()
    assert again[-2:] == ["--cases", "1"]
    assert chaos.main(again) == 1
    monkeypatch.undo()
    assert chaos.main(again) == 0


def trial_of(case):
    from trials.trial import Trial

    @contextlib.contextmanager
    def prepare():
        yield case

    return Trial("made", "", prepare, {}, {}, case_s=0.2)


def test_what_hangs_dies_or_is_interrupted_is_said(chaos):
    from trials.trial import in_child, run_trial

    def hang(draw: random.Random):
        while True:
            pass

    verdict = run_trial(trial_of(hang), seed=7, cases=2, limit_s=60)
    assert (verdict.cases, verdict.failures, verdict.first_seed) == (2, 2, 7)
    assert "did not end within 0.2 s" in verdict.first_problem

    def leave(draw: random.Random):
        raise SystemExit("planted")

    assert run_trial(trial_of(leave), 0, 1, 60).failures == 1

    def interrupt(draw: random.Random):
        raise KeyboardInterrupt

    verdict = run_trial(trial_of(interrupt), 0, 5, 60)
    assert (verdict.cases, verdict.interrupted) == (0, True)
    assert "of 5, interrupted" in chaos.table([verdict])
    assert run_trial(trial_of(lambda draw: None), 0, 5, limit_s=0).cases == 0

    with pytest.raises(AssertionError, match="ended by signal 9"):
        in_child(lambda: os.kill(os.getpid(), 9)).check_plain()
    with pytest.raises(AssertionError, match="a traceback that ends in 'ZeroDivisionError"):
        in_child(lambda: 1 // 0).check_plain()
    with pytest.raises(AssertionError, match="did not end in time"):
        in_child(lambda: hang(random.Random(0)), limit_s=0.1).check_plain()
    assert in_child(lambda: print(input()), stdin=b"text\n") == (0, "text\n")
