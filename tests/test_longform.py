# SPDX-License-Identifier: Apache-2.0
"""Scores of long recordings equal those of OmniSTEval and simulstream, on logs that tests/omnisteval/record.py made."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from transformers_simul import cli
from transformers_simul.evaluation import SpeechInstance, read_instances, write_instances
from transformers_simul.evaluation.longform import longform_line, mwer_segmenter, resegment, soft_segmenter
from transformers_simul.evaluation.plots import plot_curves
from transformers_simul.evaluation.report import markdown_table, report_line
from transformers_simul.speech.dataset import read_segments
from transformers_simul.text_files import read_lines

pytest.importorskip("omnisteval")
pytest.importorskip("mweralign")
HERE = Path(__file__).parent / "omnisteval"
# Their programs print four digits after the point.
PRINTED = 1e-4


def talks(seed):
    """A log of several recordings, their segments, references, and what others say of them."""
    path = HERE / f"talks{seed}"
    return (
        read_instances(path.with_suffix(".log")), read_segments(path.with_suffix(".yaml")),
        read_lines(path.with_suffix(".de")), json.loads(path.with_suffix(".json").read_text()),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lang", [None, "de"])
def test_recordings_score_as_omnisteval_prints_them(seed, lang):
    log, segments, references, theirs = talks(seed)
    theirs = theirs["longform, de" if lang else "longform"]
    line = longform_line("talks", log, segments, references, 10, ("BLEU", "chrF"), lang=lang)
    assert line.latency["LongYAAL"] == pytest.approx(theirs["LongYAAL (CU)"], abs=PRINTED)
    assert line.latency["LongYAAL_CA"] == pytest.approx(theirs["LongYAAL (CA)"], abs=PRINTED)
    for score in line.quality:
        assert score.score == pytest.approx(theirs[score.name], abs=PRINTED)
    assert line.sentences == len(references)
    assert (line.source_unit, line.lagging) == ("ms", "StreamLAAL")


@pytest.mark.parametrize("seed", range(3))
def test_streams_score_as_simulstream_says(seed):
    log, segments, references, theirs = talks(seed)
    line = longform_line("talks", log, segments, references, 10)
    for name, value in theirs["simulstream"].items():
        assert line.latency[name] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_whole_recordings_score_as_omnisteval_prints_them(seed):
    log, _, _, theirs = talks(seed)
    line = report_line("talks", log, 10, ("BLEU", "chrF"))
    for name in ("AL", "LAAL", "AP", "DAL", "YAAL"):
        for suffix, theirs_suffix in (("", "CU"), ("_CA", "CA")):
            ours = line.latency[name + suffix]
            assert ours == pytest.approx(theirs["shortform"][f"{name} ({theirs_suffix})"], abs=PRINTED), name + suffix
    for score in line.quality:
        assert score.score == pytest.approx(theirs["shortform"][score.name], abs=PRINTED)


def test_the_segmenter_prints_nothing(capfd):
    """Not even from C++; and standard error is as it was."""
    assert mwer_segmenter(["ein Hund", "zwei Kinder"], ["ein", "zwei", "Kinder"]) == [0, 1, 1]
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == "after\n"


def test_every_word_keeps_its_time_and_order():
    log, segments, references, _ = talks(0)
    first = [(each, text) for each, text in zip(segments, references, strict=True) if each["wav"] == "talk0.wav"]
    for segmenter in (mwer_segmenter, soft_segmenter(), soft_segmenter("de")):
        cut = resegment(log[0], [each for each, _ in first], [text for _, text in first], segmenter)
        words = [word for each in cut for word in each.prediction.split()]
        times = [
            time + 1000 * segment["offset"]
            for each, (segment, _) in zip(cut, first, strict=True)
            for time in each.delays
        ]
        if segmenter is mwer_segmenter:
            assert words == log[0].prediction.split()
            assert times == pytest.approx(log[0].delays)
        # SoftSegmenter may leave a word out.
        pairs = list(zip(log[0].prediction.split(), log[0].delays, strict=True))
        for word, time in zip(words, times, strict=True):
            while pairs and not (pairs[0][0] == word and pairs[0][1] == pytest.approx(time)):
                pairs.pop(0)
            assert pairs.pop(0)[0] == word
    segment = {"wav": "a.wav", "offset": 0.0, "duration": 1.0}
    empty = SpeechInstance(0, "", [], [], 0, "a", "a.wav", 1000.0)
    assert resegment(empty, [segment], ["a"], mwer_segmenter)[0].delays == []


def test_a_translation_that_is_late_by_a_second_lags_a_second_more():
    log, segments, references, _ = talks(1)
    later = [
        replace(each, delays=[time + 1000 for time in each.delays], elapsed=[time + 1000 for time in each.elapsed])
        for each in log
    ]
    one, other = (longform_line("", each, segments, references, 10).latency for each in (log, later))
    # Words that now come after the end of their recording no longer count for LongYAAL; so only the other one is exact.
    assert other["StreamLAAL"] > one["StreamLAAL"] + 500
    assert other["LongYAAL"] > one["LongYAAL"]


def test_score_and_table_and_plot(tmp_path, capsys):
    flags = ["--segments", str(HERE / "talks0.yaml"), "--references", str(HERE / "talks0.de"), "--bootstrap", "10"]
    assert cli.main(["score", str(HERE / "talks0.log"), *flags, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert {"BLEU", "chrF++", "LongYAAL", "LongYAAL_CA", "StreamLAAL", "StreamLAAL_CA"} <= set(scores)
    assert cli.main(["score", str(HERE / "talks0.log"), *flags, "--lang", "de"]) == 0
    out = capsys.readouterr().out
    assert "segmenters:soft(de), mwer" in out
    # A pipe, as a shell's <(...) makes, can be read once.
    reader, writer = os.pipe()
    os.write(writer, (HERE / "talks0.de").read_bytes())
    os.close(writer)
    try:
        assert cli.main(["score", str(HERE / "talks0.log"), *flags[:3], f"/dev/fd/{reader}", *flags[4:], "--json"]) == 0
    finally:
        os.close(reader)
    assert json.loads(capsys.readouterr().out) == scores
    lines = [longform_line(f"k = {seed}", *talks(0)[:3], 10) for seed in range(2)]
    table = markdown_table(lines)
    assert "| policy | BLEU | chrF++ | StreamLAAL | LongYAAL |" in table
    assert "lagging in ms" in table
    pytest.importorskip("matplotlib")
    plot_curves(tmp_path / "curve.png", {"talks": lines})
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_folders_of_logs_are_plotted_and_put_on_cards(tmp_path, capsys, model, processor):
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for seed, k in ((0, 1), (0, 3)):
        (folder / "logs" / f"k={k}").mkdir(parents=True)
        write_instances(folder / "logs" / f"k={k}" / "instances.log", talks(seed)[0])
    flags = ["--segments", str(HERE / "talks0.yaml"), "--references", str(HERE / "talks0.de")]
    assert cli.main(["card", str(folder), *flags]) == 0
    card = (folder / "README.md").read_text()
    assert "StreamLAAL (ms)" in card
    assert "| policy | BLEU | chrF++ | StreamLAAL | LongYAAL |" in card
    pytest.importorskip("matplotlib")
    output = tmp_path / "curve.svg"
    assert cli.main(["plot", str(folder / "logs"), *flags, "--output", str(output)]) == 0
    assert output.is_file()
    for wrong, message in ((flags[:2], "segments need references"), (flags[2:], "references must stand beside --seg")):
        assert cli.main(["plot", str(folder / "logs"), *wrong]) == 1
        assert message in capsys.readouterr().err


def test_a_plot_does_not_mix_lagging_of_different_kinds(tmp_path):
    log, segments, references, _ = talks(0)
    long, short = longform_line("long", log, segments, references, 10), report_line("short", log, 10)
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="lagging"):
        plot_curves(tmp_path / "curve.png", {"one": [long], "other": [short]})


def test_what_does_not_fit_is_named(tmp_path, capsys):
    log, segments, references, _ = talks(0)
    with pytest.raises(ValueError, match=r"references must hold one line per segment, \d+, got 2"):
        longform_line("", log, segments, references[:2])
    with pytest.raises(ValueError, match=r"must be of the same recordings, .*not in both: \['talk3'\]"):
        longform_line("", log[:3], segments, references)
    with pytest.raises(ValueError, match="must be of the same recordings, each in one run"):
        longform_line("", log, [segments[-1], *segments[:-1]], references)
    with pytest.raises(ValueError, match="instances must be of speech, each with a recording of its own"):
        longform_line("", [log[0], log[0]], segments, references)
    with pytest.raises(ValueError, match="must count words"):
        longform_line("", [replace(log[0], prediction="a"), *log[1:]], segments, references)
    path = tmp_path / "instances.log"
    write_instances(path, log)
    flags = ["score", str(path), "--segments", str(HERE / "talks0.yaml")]
    assert cli.main(flags) == 1
    assert "segments need references, one for each" in capsys.readouterr().err
    assert cli.main([*flags, "--references", str(HERE / "talks0.de"), "--words-per-second", "2"]) == 1
    assert "segments must not stand beside words-per-second" in capsys.readouterr().err
