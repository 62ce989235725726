# SPDX-License-Identifier: Apache-2.0
"""benchmarks/by_length.py: every sentence stands in one band, and a system's lead shows in the band where it has one."""

import runpy
import sys
from pathlib import Path

import pytest

from transformers_simul.evaluation import Instance, write_instances

PROGRAM = str(Path(__file__).parents[1] / "benchmarks" / "by_length.py")


def instance(index, words, is_right):
    reference = " ".join(f"w{index}x{place}" for place in range(words))
    prediction = reference if is_right else " ".join(f"z{place}" for place in range(words))
    delays = [*range(1, words + 1)]
    return Instance(index, prediction, delays, [1.0] * words, words, reference, "a " * (words - 1) + "a", words)


@pytest.fixture
def logs(tmp_path):
    lengths = [5, 10, 11, 20, 25, 31, 40, 12]
    write_instances(tmp_path / "ours/k=3/instances.log", [instance(i, n, True) for i, n in enumerate(lengths)])
    # The other system fails from 21 words on.
    write_instances(tmp_path / "theirs/k=3/instances.log", [instance(i, n, n <= 20) for i, n in enumerate(lengths)])
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["by_length.py", *map(str, arguments)])
    runpy.run_path(PROGRAM, run_name="by_length")["main"]()
    return capsys.readouterr().out.splitlines()


def test_bands_and_leads(logs, monkeypatch, capsys):
    head, _, *rows = run(monkeypatch, capsys, logs, 3, "--against", "ours")
    assert head == "| source words | sentences | ours, BLEU | minus theirs |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [cell[:2] for cell in cells] == [
        ["1 to 10", "2"],
        ["11 to 20", "3"],
        ["21 to 30", "1"],
        ["31 and more", "2"],
    ]
    assert [cell[3].split()[0] for cell in cells] == ["+0.0", "+0.0", "+100.0", "+100.0"]


def test_an_empty_band_and_an_unknown_system(logs, monkeypatch, capsys):
    rows = run(monkeypatch, capsys, logs, 3, "--against", "ours", "--bands", 2, 50)
    assert rows[2] == "| 1 to 2 | 0 | | |"
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, logs, 3)
    assert "--against must be one of ['ours', 'theirs'], got 'SM-norec-mod'" in capsys.readouterr().err
