# SPDX-License-Identifier: Apache-2.0
"""Latency: literal cases, properties, and SimulEval 1.1.4's own figures for the same logs."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformers_simul import FixedChunkPolicy, OfflinePolicy, WaitKPolicy
from transformers_simul.evaluation import (
    LATENCY,
    Instance,
    average_lagging,
    average_proportion,
    average_token_delay,
    computation_aware,
    differentiable_average_lagging,
    length_adaptive_average_lagging,
    read_instances,
)
from transformers_simul.evaluation.latency import running_lagging, work
from transformers_simul.evaluation.report import markdown_table, report_line
from transformers_simul.evaluation.units import target_units

RECORDED = Path(__file__).parent / "simuleval"


@pytest.mark.parametrize("name", ["random", "agent"])
def test_figures_equal_simuleval(name):
    """Recorded by tests/simuleval/record.sh with SimulEval's own scorers."""
    ours = report_line(name, read_instances(RECORDED / f"{name}.log"), metrics=()).latency
    theirs = json.loads((RECORDED / f"{name}.json").read_text())
    assert set(ours) == set(theirs) == set(LATENCY)
    for metric, value in theirs.items():
        assert ours[metric] == pytest.approx(value, abs=1e-9), metric


def test_figures_of_speech_equal_simuleval():
    """The same of a log in milliseconds, with computing and without; SimulEval has no YAAL."""
    ours = report_line("speech", read_instances(RECORDED / "speech.log"), metrics=()).latency
    theirs = json.loads((RECORDED / "speech.json").read_text())
    assert {*ours} - {*theirs} == {"YAAL", "YAAL_CA"}
    for metric, value in theirs.items():
        assert ours[metric] == pytest.approx(value, abs=1e-6), metric


@pytest.mark.parametrize("k", [1, 3, 5, 9])
@pytest.mark.parametrize("length", [10, 25])
def test_wait_k_on_equal_lengths_lags_k(k, length):
    delays = WaitKPolicy(k).delays(length, length)[:-1]
    for metric in (average_lagging, length_adaptive_average_lagging, differentiable_average_lagging):
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
    # Reading all, then writing: AP 1; wait-1: (n + 1) / 2n (Cho and Esipova 2016, section 4).
    assert average_proportion([5] * 5, 5, 5) == 1
    assert average_proportion([1, 2, 3, 4, 5], 5, 5) == pytest.approx(6 / 10)
    # A burst at the end costs DAL its pace: 1, then 4, 5, 6 against 0, 1, 2, 3.
    assert differentiable_average_lagging([1, 4, 4, 4], 4, 4) == pytest.approx((1 + 3 + 3 + 3) / 4)
    # Kano et al. 2022: offline, three words each: ends at 4, 5, 6, for words 1, 2, 3.
    assert average_token_delay([3, 3, 3], 3, 3) == pytest.approx(3)
    # Read 2, write 2: ends at 3, 4 and 5, 6, for words 1, 2 and 3, 4.
    assert average_token_delay([2, 2, 4, 4], 4, 4) == pytest.approx(2)
    # Long early chunk: its surplus is forgotten in the next; words 5 and 6 are asked of source word 2, capped.
    assert average_token_delay([1, 1, 1, 2, 2], 2, 5) == pytest.approx(
        ((2 - 1) + (3 - 1) + (4 - 1) + (5 - 2) + (6 - 2)) / 5
    )


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.randoms(use_true_random=False))
def test_bounds(source, target, reference, draw):
    delays = sorted(draw.randint(1, source) for _ in range(target))
    scores = {name: metric(delays, source, reference) for name, metric in LATENCY.items()}
    assert scores["AL"] <= scores["LAAL"] + 1e-9
    assert scores["LAAL"] <= source
    assert 0 < scores["AP"] <= max(1, target / reference)
    assert 1 / target - 1e-9 <= scores["DAL"] <= source + 1e-9
    assert 1 - 1e-9 <= scores["ATD"] <= source + target
    for policy in (OfflinePolicy(), FixedChunkPolicy(2, 2)):
        g = policy.delays(source, target)[:-1]
        assert length_adaptive_average_lagging(g, source, reference) <= source


@given(st.integers(2, 20), st.integers(1, 20), st.integers(1, 20), st.randoms(use_true_random=False))
def test_reading_more_before_a_word_lowers_no_ap_and_no_dal(source, target, reference, draw):
    delays = sorted(draw.randint(1, source) for _ in range(target))
    later = list(delays)
    index = draw.randrange(target)
    later[index] = min(source, delays[index] + 1)
    later[index:] = [max(delay, later[index]) for delay in delays[index:]]
    for metric in (average_proportion, differentiable_average_lagging):
        assert metric(later, source, reference) >= metric(delays, source, reference) - 1e-9


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 6), st.integers(1, 6))
def test_wait_k_lags_no_less_with_a_larger_k(source, target, k, more):
    early, late = (WaitKPolicy(each).delays(source, target)[:-1] for each in (k, k + more))
    for name in ("AP", "DAL"):
        assert LATENCY[name](early, source, target) <= LATENCY[name](late, source, target) + 1e-9
    if target >= source:
        assert LATENCY["LAAL"](early, source, target) <= LATENCY["LAAL"](late, source, target) + 1e-9


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.1, 20), st.randoms(use_true_random=False))
def test_computation_aware_replay_against_a_clock(source, target, rate, draw):
    """The oracle ticks through seconds: it waits for the source word, then works."""
    delays = sorted(draw.randint(1, source) for _ in range(target))
    costs = [draw.uniform(0, 500) for _ in range(target)]
    elapsed, clock, expected = [], 0.0, []
    for delay, cost in zip(delays, costs, strict=True):
        elapsed.append((elapsed[-1] if elapsed else 0.0) + cost)
        arrives = delay / rate
        clock = arrives if arrives > clock else clock
        clock += cost / 1000
        expected.append(clock * rate)
    aware = computation_aware(delays, elapsed, rate)
    assert aware == pytest.approx(expected)
    assert all(time >= delay - 1e-9 for time, delay in zip(aware, delays, strict=True))
    assert computation_aware(delays, [0.0] * target, rate) == delays
    plain = average_token_delay(delays, source, target)
    assert average_token_delay(delays, source, target, work=work(elapsed, rate, target)) >= plain


@pytest.mark.parametrize("metric", LATENCY.values())
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 4, 4), "delays must hold at least one"),
        (([1], 0, 4), "delays must hold at least one"),
        (([1], 4, 0), "delays must hold at least one"),
        (([2, 1], 4, 4), "must not decrease"),
        (([1, float("nan")], 4, 4), "delays must be finite and not negative"),
        (([1, float("inf")], 4, 4), "delays must be finite and not negative"),
        (([-1, 2], 4, 4), "delays must be finite and not negative"),
        (([1], float("nan"), 4), "lengths be at least 1"),
        (([1], float("inf"), 4), "lengths be at least 1"),
    ],
)
def test_bad_latency_arguments(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(*arguments)


def test_bad_computation_aware_arguments():
    with pytest.raises(ValueError, match="words_per_second must be positive"):
        computation_aware([1], [1.0], 0)
    for rate in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="words_per_second must be positive"):
            computation_aware([1], [1.0], rate)
    for time in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must not decrease and must be finite"):
            computation_aware([1], [time], 1)
    with pytest.raises(ValueError, match="one time per delay"):
        computation_aware([1], [], 1)
    with pytest.raises(ValueError, match="must not decrease"):
        computation_aware([1, 2], [2.0, 1.0], 1)


class Letters:
    """Stands for a SentencePiece model: a piece per letter pair."""

    def encode(self, text, out_type):
        return [text[index : index + 2] for index in range(0, len(text), 2)]


def test_target_units():
    line = Instance(0, "abc de", [1, 3], [10.0, 30.0], 2, "abcd e f", "x y z", 3)
    assert target_units(line) == ([1, 3], [10.0, 30.0], 3)
    assert target_units(line, "char") == ([1, 1, 1, 3, 3], [10.0] * 3 + [30.0] * 2, 6)
    assert target_units(line, "spm", Letters()) == ([1, 1, 3], [10.0, 10.0, 30.0], 4)
    # Logs whose policy counted characters, with the spaces and without.
    spaced = Instance(0, "ab c", [1, 2, 2, 3], [1.0, 2.0, 3.0, 4.0], 4, "abc", "xyz", 3)
    assert target_units(spaced, "char") == ([1, 2, 3], [1.0, 2.0, 4.0], 3)
    unspaced = Instance(0, "abc", [1, 2, 3], [1.0, 2.0, 3.0], 3, "abc", "xyz", 3)
    assert target_units(unspaced, "char").delays == [1, 2, 3]
    with pytest.raises(ValueError, match="must count words"):
        target_units(unspaced, "word")
    with pytest.raises(ValueError, match="unit must be one of"):
        target_units(line, "byte")
    with pytest.raises(ValueError, match="spm_model must be given"):
        target_units(line, "spm")


def test_a_translation_that_stopped_short_shows_no_lagging():
    """The page once said "LAAL -110.2 words": 299 words read, 11 written."""
    delays = list(range(3, 14))
    assert length_adaptive_average_lagging(delays, 299, len(delays)) < -100
    assert running_lagging(delays, 299) is None
    assert running_lagging(delays, 13) == length_adaptive_average_lagging(delays, 13, 11) > 0
    assert running_lagging([], 3) is None


def test_sentences_that_stopped_short_are_counted():
    whole = Instance(0, "a b c d", [1, 2, 3, 4], [0.0] * 4, 4, "a b c d", "w x y z", 4)
    short = Instance(1, "a b", [1, 2], [0.0] * 2, 2, "a b", " ".join("x" * 40), 40)
    line = report_line("k = 1", [whole, short], 5)
    # SimulEval's figure stays, and what it means is said.
    assert line.latency["LAAL"] == pytest.approx((1 + (1 + 2 - 20) / 2) / 2)
    assert (line.short, line.empty) == (1, 0)
    assert line.remarks == ["1 of them ended so long before their source that their LAAL is negative"]
    assert "k = 1: 1 outputs ended so long before their source" in markdown_table([line])
    assert report_line("k = 1", [whole], 5).remarks == []
    with pytest.raises(ValueError, match="instance 7: delays must not decrease"):
        report_line("k = 1", [whole, Instance(7, "a b", [2, 1], [0.0] * 2, 2, "a", "x y", 2)], metrics=())
