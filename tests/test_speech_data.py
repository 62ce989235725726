# SPDX-License-Identifier: Apache-2.0
"""Synthetic speech and folders as MuST-C has them; a program that makes tones stands in for espeak-ng."""

import sys

import numpy
import pytest

from speech_helpers import RATE, stand_in_for_espeak
from transformers_simul.corpora.files import Pair
from transformers_simul.speech import synthesis
from transformers_simul.speech.audio import read_audio
from transformers_simul.speech.dataset import read_segments, read_utterances
from transformers_simul.speech.synthesis import Manner, draw_manner, speak, synthesise

PAIRS = [Pair("a dog runs", "ein Hund rennt"), Pair("it stops", "er hält"), Pair('quotes: "no"\nand more', "Ende")]


def test_recordings_and_texts_are_what_the_reader_reads(tmp_path, monkeypatch):
    stand_in_for_espeak(tmp_path, monkeypatch)
    written = synthesise(PAIRS, tmp_path / "data", per_recording=2)
    utterances = read_utterances(tmp_path / "data", "train")
    assert [each.source for each in utterances] == ["a dog runs", "it stops", 'quotes: "no" and more']
    assert [each.target for each in utterances] == ["ein Hund rennt", "er hält", "Ende"]
    assert [each.audio for each in utterances] == [each.audio for each in written]
    assert len({each.audio for each in utterances}) == 2
    assert utterances[0].speaker == utterances[1].speaker != ""
    for each in utterances:
        # A tenth of a second of tone a word: it is where the text says.
        assert each.duration_s == pytest.approx(0.1 * len(each.source.split()), abs=0.01)
        whole = read_audio(each.audio)
        part = read_audio(each.audio, each.offset_s, each.duration_s)
        begin = round(each.offset_s * RATE)
        before = whole[begin - 1600 : begin]
        assert numpy.sqrt((part**2).mean()) > 1.5 * numpy.sqrt((before**2).mean())


def test_the_same_seed_speaks_the_same(tmp_path, monkeypatch):
    stand_in_for_espeak(tmp_path, monkeypatch)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthesise(PAIRS, tmp_path / name, seed=seed, noisy=1.0)
    files = [[path.read_bytes() for path in sorted((tmp_path / name).rglob("*.flac"))] for name in "abc"]
    assert files[0] == files[1] != files[2]
    manners = {draw_manner(0, index) for index in range(40)}
    assert len({each.voice for each in manners}) > 20
    assert 10 < sum(each.snr_db is None for each in manners) < 30


def test_what_cannot_be_spoken_leaves_nothing(tmp_path, monkeypatch):
    stand_in_for_espeak(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="espeak-ng could not speak 'this fails'.*no such voice"):
        synthesise([*PAIRS, Pair("this fails", "")], tmp_path / "data")
    assert not (tmp_path / "data" / "data" / "train").exists()
    with pytest.raises(ValueError, match="per_recording must be at least 1"):
        synthesise(PAIRS, tmp_path / "data", per_recording=0)
    synthesise(PAIRS, tmp_path / "data")
    with pytest.raises(ValueError, match="must not hold 'train' yet"):
        synthesise(PAIRS, tmp_path / "data")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="apt-get install espeak-ng"):
        speak("a", Manner("en", 150, 50, None))


def test_the_program(tmp_path, monkeypatch, capsys):
    stand_in_for_espeak(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    for language in ("en", "de"):
        (tmp_path / f"train.{language}").write_text("a b\nc d\ne f\n")
    monkeypatch.setattr(sys, "argv", ["synthesis", "train.en", "train.de", "out", "--limit", "2", "--split", "dev"])
    synthesis.main()
    assert "2 sentences" in capsys.readouterr().out
    assert len(read_utterances("out", "dev")) == 2


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("{", "must be YAML"),
        ("a: 1", "must be a list of segments"),
        ("- 1", "segment 1 .* must have wav, offset and duration"),
        ("- {wav: ../../x.wav, offset: 0, duration: 1}", "wav of segment 1 .* must be a file's name"),
        ("- {wav: x.wav, offset: -1, duration: 1}", "offset of segment 1 .* must be seconds"),
        ("- {wav: x.wav, offset: 0}", "duration of segment 1 .* must be seconds"),
        ("- !!python/object/apply:os.system ['false']", "must be YAML"),
    ],
)
def test_segments_that_are_none(tmp_path, yaml, message):
    (tmp_path / "a.yaml").write_text(yaml)
    with pytest.raises(ValueError, match=message):
        read_segments(tmp_path / "a.yaml")


def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="folder must hold data/train/txt/train.yaml"):
        read_utterances(tmp_path, "train")
    text = tmp_path / "en-de" / "data" / "train" / "txt"
    text.mkdir(parents=True)
    (text / "train.yaml").write_text("- {duration: 1.5, offset: 2, rW: 3, uW: 0, speaker_id: spk.1, wav: ted_1.wav}\n")
    (text / "train.en").write_text("a\n")
    (text / "train.de").write_text("a\nb\n")
    with pytest.raises(ValueError, match="train.de must have a line for each of the 1 segments, got 2"):
        read_utterances(tmp_path, "train")
    (text / "train.de").write_text(" \n")
    with pytest.raises(ValueError, match="train.de must have text in every line, but line 1 is empty"):
        read_utterances(tmp_path, "train")
    (text / "train.de").write_text("b\n")
    assert read_utterances(tmp_path, "train")[0][1:] == (2, 1.5, "a", "b", "spk.1")
