# SPDX-License-Identifier: Apache-2.0
"""benchmarks/by_latency.py: systems that lag differently at the same k are compared where they lag alike."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from test_by_length import instance
from transformers_simul.evaluation import write_instances

PROGRAM = str(Path(__file__).parents[1] / "benchmarks" / "by_latency.py")
WORDS = 12


def write(folder, k, lag, right):
    """A log at k that lags by `lag` words, whose first `right` of 4 sentences are right."""
    delays = [min(lag + place, WORDS) for place in range(WORDS)]
    log = [replace(instance(index, WORDS, index < right), delays=delays) for index in range(4)]
    write_instances(folder / f"k={k}" / "instances.log", log)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["by_latency.py", *map(str, arguments)])
    runpy.run_path(PROGRAM, run_name="by_latency")["main"]()
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def logs(tmp_path):
    for k, lag, right in ((1, 1, 2), (3, 3, 4)):
        write(tmp_path / "ours", k, lag, right)
    # Told the same k, the other system lags two words more for the same quality.
    for k, lag, right in ((1, 3, 2), (3, 5, 4)):
        write(tmp_path / "theirs", k, lag, right)
    write_instances(tmp_path / "offline" / "full-source" / "instances.log", [instance(0, WORDS, True)])
    return tmp_path


def test_a_lead_at_equal_latency(logs, monkeypatch, capsys):
    head, _, row, _, note = run(monkeypatch, capsys, logs, "--against", "ours", "--laal", 2, 3, 4)
    assert head == "| ours, BLEU at LAAL | 2 | 3 | 4 |"
    name, *cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert name == "minus theirs"
    assert cells[0] == cells[2] == "none"
    assert cells[1].startswith("+50.0 ")
    assert note.startswith("4 sentences; straight lines between points")


def test_a_system_that_is_not_there(logs, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, logs)
    assert "--against must be one of ['ours', 'theirs'], got 'SM-norec-mod'" in capsys.readouterr().err
