# SPDX-License-Identifier: Apache-2.0
"""benchmarks/by_corpus.py: a line for each corpus, and a system's lead where it has one."""

import runpy
import sys
from pathlib import Path

import pytest

from test_by_length import instance
from transformers_simul.evaluation import write_instances

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(monkeypatch, capsys, *arguments):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["by_corpus.py", *map(str, arguments)])
    runpy.run_path(str(FOLDER / "by_corpus.py"), run_name="by_corpus")["main"]()
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def corpora(tmp_path):
    for corpus, is_right in (("home", True), ("away", False)):
        for system, right in (("ours", True), ("theirs", is_right)):
            log = [instance(index, 6, right) for index in range(4)]
            write_instances(tmp_path / corpus / system / "k=3" / "instances.log", log)
    return [f"{name}={tmp_path / name}" for name in ("home", "away")]


def test_a_lead_that_shows_elsewhere_only(corpora, monkeypatch, capsys):
    head, _, *rows = run(monkeypatch, capsys, 3, *corpora, "--against", "ours")
    assert head == "| corpus | sentences | ours, BLEU | minus theirs |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [cell[:2] for cell in cells] == [["home", "4"], ["away", "4"]]
    assert [cell[3].split()[0] for cell in cells] == ["+0.0", "+100.0"]


def test_a_corpus_without_these_systems(corpora, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, 3, *corpora)
    assert "--against must be one of ['ours', 'theirs'], which home has, got 'SM-norec-mod'" in capsys.readouterr().err
    write_instances(tmp_path / "third" / "ours" / "k=3" / "instances.log", [instance(0, 6, True)])
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, 3, *corpora, f"third={tmp_path / 'third'}", "--against", "ours")
    assert "every corpus must have the same systems, but third has ['ours']" in capsys.readouterr().err
