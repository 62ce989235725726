# SPDX-License-Identifier: Apache-2.0
import random

import pytest

from transformers_simul import WaitKPolicy
from transformers_simul.evaluation import (
    Instance,
    paired_difference,
    quality,
    read_instances,
    write_instances,
)
from transformers_simul.evaluation.plots import plot_curves
from transformers_simul.evaluation.report import difference, markdown_table, report_line


def instance(index, prediction, reference="a b c d", delays=None, source="w x y z"):
    words = prediction.split()
    delays = delays or WaitKPolicy(1).delays(4, len(words))[:-1]
    return Instance(index, prediction, delays, [1.0] * len(words), len(words), reference, source, 4)


def test_quality_intervals_hold_the_score_and_shrink():
    draw = random.Random(0)
    references = [" ".join(draw.choice("abcdefgh") for _ in range(12)) for _ in range(200)]
    predictions = [" ".join(w if draw.random() < 0.7 else "x" for w in r.split()) for r in references]
    wide, narrow = quality(predictions[:20], references[:20], 300), quality(predictions, references, 300)
    for few, many in zip(wide, narrow, strict=True):
        assert many.low < many.score < many.high
        assert many.high - many.low < few.high - few.low
        assert "version:" in many.signature
    assert quality(references, references, 10)[0].score == pytest.approx(100)


def test_paired_difference_is_sharper_than_two_intervals():
    draw = random.Random(1)
    references = [" ".join(draw.choice("abcdefgh") for _ in range(12)) for _ in range(200)]
    worse = [" ".join(w if draw.random() < 0.6 else "x" for w in r.split()) for r in references]
    better = [" ".join(r if p == "x" and draw.random() < 0.3 else p for p, r in zip(w.split(), ref.split(), strict=True))
              for w, ref in zip(worse, references, strict=True)]  # fmt: skip
    difference, low, high = paired_difference(better, worse, references, 300)
    assert low < difference < high
    assert low > 0
    assert paired_difference(worse, worse, references, 50) == (0, 0, 0)
    with pytest.raises(ValueError, match="equally many"):
        quality(["a"], ["a", "b"])


def test_instances_log_round_trips_and_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "instances.log"
    instances = [instance(0, "ä\u2028 b"), instance(1, "c")]
    write_instances(path, instances[:1])
    before = path.read_text(encoding="utf-8")

    def full_disk(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_instances(path, instances)
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == before
    assert [each.name for each in path.parent.iterdir()] == ["instances.log"]
    write_instances(path, instances)
    assert read_instances(path) == instances
    path.write_text('{"index": 0}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1 of .* must be an instance"):
        read_instances(path)


def test_report_table_and_curve(tmp_path):
    logs = {
        "k = 1": [instance(0, "a b x d"), instance(1, "")],
        "k = 7": [instance(0, "a b c d"), instance(1, "a b c d")],
    }
    lines = [report_line(name, log, 20) for name, log in logs.items()]
    assert lines[0].empty == 1
    assert lines[0].latency["LAAL"] == pytest.approx(1)
    table = markdown_table(lines)
    assert "| k = 7 | 100.0 (100.0 to 100.0) |" in table
    assert "without 1 empty outputs" in table
    assert "nrefs:1" in table
    assert difference(logs["k = 7"], logs["k = 1"]).startswith("+")
    with pytest.raises(ValueError, match="must hold the same sentences"):
        difference(logs["k = 7"], logs["k = 1"][:1])
    plot_curves(tmp_path / "curve.png", {"one": lines, "two": lines}, "en-de")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="no written word"):
        report_line("k = 1", [instance(0, "")])
