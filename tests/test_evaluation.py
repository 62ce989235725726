import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformers_simul import FixedChunkPolicy, OfflinePolicy, WaitKPolicy
from transformers_simul.evaluation import (
    Instance,
    average_lagging,
    length_adaptive_average_lagging,
    paired_difference,
    quality,
    read_instances,
    write_instances,
)
from transformers_simul.evaluation.report import difference_note, markdown_table, report_line
from transformers_simul.plots import plot_curves

METRICS = [average_lagging, length_adaptive_average_lagging]


def instance(index, prediction, reference="a b c d", delays=None, source="w x y z"):
    words = prediction.split()
    delays = delays or WaitKPolicy(1).delays(4, len(words))[:-1]
    return Instance(index, prediction, delays, [1.0] * len(words), len(words), reference, source, 4)


@pytest.mark.parametrize("k", [1, 3, 5, 9])
@pytest.mark.parametrize("length", [10, 25])
def test_wait_k_on_equal_lengths_lags_k(k, length):
    delays = WaitKPolicy(k).delays(length, length)[:-1]
    for metric in METRICS:
        assert metric(delays, length, length) == pytest.approx(k)


def test_literal_cases():
    # Offline lags by the whole source; the first delay already is the source's length.
    assert average_lagging([4, 4, 4], 4, 3) == 4
    # gamma = 2/4: d - 2 i = 1, 0, -1, up to the first full delay.
    assert average_lagging([1, 2, 3, 4], 4, 2) == pytest.approx((1 + 0 - 1 - 2) / 4)
    # Too long an output: LAAL divides by the prediction's length and earns nothing by it.
    assert length_adaptive_average_lagging([1, 2, 3, 4], 4, 2) == pytest.approx(1)
    assert average_lagging([1, 1, 1, 1, 4], 4, 4) == pytest.approx((1 + 0 - 1 - 2 + 0) / 5)
    # A first delay beyond the source is the score itself.
    assert average_lagging([7, 8], 4, 2) == 7


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.randoms(use_true_random=False))
def test_properties(source, target, reference, draw):
    delays = sorted(draw.randint(1, source) for _ in range(target))
    al, laal = (metric(delays, source, reference) for metric in METRICS)
    assert al <= laal + 1e-9
    assert laal <= source
    for policy in (OfflinePolicy(), FixedChunkPolicy(2, 2)):
        g = policy.delays(source, target)[:-1]
        assert length_adaptive_average_lagging(g, source, reference) <= source
    # Waiting longer from the start never lags less.
    early, late = (WaitKPolicy(k).delays(source, target)[:-1] for k in (1, 4))
    if target >= source:
        assert length_adaptive_average_lagging(early, source, reference) <= length_adaptive_average_lagging(
            late, source, reference
        )


@pytest.mark.parametrize("arguments", [([], 4, 4), ([1], 0, 4), ([1], 4, 0)])
def test_bad_latency_arguments(arguments):
    with pytest.raises(ValueError, match="delays must hold at least one"):
        average_lagging(*arguments)


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
    with pytest.raises(ValueError, match="as many"):
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
    assert lines[0].laal == pytest.approx(1)
    table = markdown_table(lines)
    assert "| k = 7 | 100.0 (100.0 to 100.0) |" in table
    assert "without 1 empty outputs" in table
    assert "nrefs:1" in table
    assert "BLEU at k = 7 minus k = 1: +" in difference_note(logs, "k = 7", "k = 1")
    plot_curves(tmp_path / "curve.png", {"one": lines, "two": lines}, "en-de")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="no written word"):
        report_line("k = 1", [instance(0, "")])
