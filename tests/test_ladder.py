# SPDX-License-Identifier: Apache-2.0
"""benchmarks/ladder.py: a lead that grows with the size of the model, and one that does not."""

import runpy
import sys
from pathlib import Path

import pytest

from test_by_length import instance
from transformers_simul.evaluation import write_instances

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(monkeypatch, capsys, *arguments):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["ladder.py", *map(str, arguments)])
    runpy.run_path(str(FOLDER / "ladder.py"), run_name="ladder")["main"]()
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]


@pytest.fixture
def sizes(tmp_path):
    """Ours is right always; of eight sentences, `kept` is right about six, four and two, the larger the fewer."""
    for name, right in (("5", 6), ("50", 4), ("500", 2)):
        for system, count in (("ours", 8), ("kept", right), ("anew", 8)):
            log = [instance(index, 6, index < count) for index in range(8)]
            write_instances(tmp_path / name / system / "k=3" / "instances.log", log)
    return [f"{name}:ours={tmp_path / name}" for name in ("50", "5", "500")]


def test_a_line_through_the_leads(sizes, tmp_path, monkeypatch, capsys):
    picture = tmp_path / "ladder.png"
    flags = ["--minus", "kept", "anew", "--k", "3"]
    head, _, *rows, last = run(monkeypatch, capsys, picture, *sizes, *flags)
    assert head == "| parameters | sentences | system | BLEU | minus kept | minus anew |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [cell[:3] for cell in cells] == [["5 M", "8", "ours"], ["50 M", "8", "ours"], ["500 M", "8", "ours"]]
    leads = [float(cell[4].split()[0]) for cell in cells]
    assert leads == sorted(leads)
    assert leads[0] > 10
    for cell in cells:
        low, high = (float(end) for end in cell[4].split("(")[1].rstrip(")").split(" to "))
        assert low < float(cell[4].split()[0]) < high
    assert {cell[5] for cell in cells} == {"+0.0 (+0.0 to +0.0)"}
    slope, none = [cell.strip() for cell in last.strip("|").split("|")][-2:]
    # Of three points at equal distances, the slope of least squares is half of what the ends differ.
    assert float(slope.split()[0]) == pytest.approx((leads[2] - leads[0]) / 2, abs=0.1)
    assert none == "+0.0 (+0.0 to +0.0)"
    assert picture.stat().st_size > 5000


def test_what_has_no_line(sizes, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, tmp_path / "a.png", sizes[0], "--k", 3)
    assert "sizes must be at least two" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, tmp_path / "a.png", *sizes, "--k", 3)
    assert "has no system causal-norec at k = 3, but ['anew', 'kept', 'ours']" in capsys.readouterr().err
