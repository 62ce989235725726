# SPDX-License-Identifier: Apache-2.0
"""Subtitles: what viewers can ask of them, on random words; the formats, by other libraries; the command."""

import io
import json
import subprocess
import sys

import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from transformers_simul.cli import main
from transformers_simul.evaluation import Instance, write_instances
from transformers_simul.evaluation.timeline import timed_words
from transformers_simul.streaming.subtitles import Cue, Subtitles, write_cues

SENTENCE = "Ein Hund rennt über die Wiese, während zwei Kinder ihm zusehen. Ja."
WORD = st.text("ab日é,.", min_size=1, max_size=30)


def width(text):
    """Columns; the alphabet of the tests has one wide character."""
    return len(text) + text.count("日")


@settings(max_examples=150)
@given(
    st.lists(st.tuples(WORD, st.sampled_from([0.0, 0.1, 0.4, 3.0]), st.booleans()), max_size=40),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_cues_can_be_read_and_never_change(words, max_lines, live):
    subtitles = Subtitles(line_length=20, max_lines=max_lines, reading_speed=15, live=live)
    now, times, shown = 0.0, [], []
    for text, gap, waits in words:
        now += gap
        if waits:
            shown += [(now, cue) for cue in subtitles.wait_until(now)]
        times += [now] * len(text)
        shown += [(now, cue) for cue in subtitles.put(text, now)]
    shown += [(now, cue) for cue in subtitles.end()]
    cues = [cue for _, cue in shown]
    # Every character once, in order; long words may have been cut.
    assert "".join(line for cue in cues for line in cue.lines).replace(" ", "") == "".join(word[0] for word in words)
    before, first = 0.0, 0
    for finished, cue in shown:
        assert 1 <= len(cue.lines) <= max_lines
        assert all(0 < width(line) <= 20 for line in cue.lines)
        assert cue.start_s >= before
        assert cue.end_s - cue.start_s >= max(1.0, sum(map(width, cue.lines)) / 15) - 1e-9
        last = first + len("".join(cue.lines).replace(" ", ""))
        # No word before it was written; live, none before the cue was whole.
        assert cue.start_s >= times[last - 1 if live else first]
        assert cue.end_s >= times[last - 1]
        # No word waits longer for its cue than was said.
        assert times[last - 1] - times[first] <= 6.0
        assert finished >= times[last - 1]
        before, first = cue.end_s, last


def test_cues_end_with_sentences_clauses_pauses_and_time():
    def cues(text, gap=0.1, **rules):
        subtitles = Subtitles(**rules)
        found = [cue for at, word in enumerate(text.split()) for cue in subtitles.put(word, at * gap)]
        return [" / ".join(cue.lines) for cue in found + subtitles.end()]

    # A sentence that is read at once does not end its cue; a clause's end does in a full one.
    assert cues("Ja. Nein. " + SENTENCE) == [
        "Ja. Nein. Ein Hund rennt über die Wiese, / während zwei Kinder ihm zusehen.", "Ja.",
    ]  # fmt: skip
    assert cues(SENTENCE, line_length=30) == [
        "Ein Hund rennt über die Wiese,", "während zwei / Kinder ihm zusehen.", "Ja.",
    ]  # fmt: skip
    assert cues("Ein Hund rennt", gap=2.0) == ["Ein", "Hund", "rennt"]
    assert cues("Ein Hund rennt schnell", gap=1.0, max_s=2.0) == ["Ein Hund", "rennt schnell"]
    subtitles = Subtitles()
    assert subtitles.put("Ein Hund rennt schnell", 0.0, is_last=True) == [
        Cue(0.0, 22 / 17, ("Ein Hund rennt schnell",))
    ]
    assert subtitles.deadline_s is None
    subtitles.put("Er", 1.0)
    assert subtitles.deadline_s == 3.0
    assert subtitles.wait_until(2.9) == []
    assert subtitles.wait_until(3.1) == [Cue(22 / 17, 22 / 17 + 1, ("Er",))]


def test_characters_have_no_spaces_between_them():
    subtitles = Subtitles(line_length=8, reading_speed=6, joiner="")
    found = [cue for unit in "他说 我走了。好" for cue in subtitles.put(unit, 0.0)] + subtitles.end()
    assert [cue.lines for cue in found] == [("他说", "我走了。"), ("好",)]
    # Neither a mark nor a part of a Latin word begins a line.
    for text, columns, lines in [("我走了走。好啊啊", 10, ("我走了走。", "好啊啊")), ("他OK说", 5, ("他", "OK说"))]:
        subtitles = Subtitles(line_length=columns, joiner="")
        found = [cue for unit in text for cue in subtitles.put(unit, 0.0)] + subtitles.end()
        assert [cue.lines for cue in found] == [lines]


def test_other_libraries_read_what_was_written():
    cues = [Cue(0.5, 3661.25, ("Q & A: <b> -->", "x < y")), Cue(3661.25, 3662.0004, ("„Ja“ – 日本",))]
    parsed = list(srt.parse("".join(write_cues(cues, "srt"))))
    assert [(each.index, each.start.total_seconds(), each.end.total_seconds()) for each in parsed] == [
        (1, 0.5, 3661.25),
        (2, 3661.25, 3662.0),
    ]
    assert [each.content for each in parsed] == ["Q & A: <b> -->\nx < y", "„Ja“ – 日本"]
    captions = webvtt.from_buffer(io.StringIO("".join(write_cues(cues, "vtt"))))
    assert [(each.start, each.end) for each in captions] == [
        ("00:00:00.500", "01:01:01.250"),
        ("01:01:01.250", "01:01:02.000"),
    ]
    assert captions[0].raw_text == "Q &amp; A: &lt;b&gt; --&gt;\nx &lt; y"


def test_wrong_rules_times_and_formats_are_refused():
    wrong = {"line_length": 1, "max_lines": 3, "reading_speed": 0.0, "min_s": -1.0, "max_s": float("inf"),
             "pause_s": float("nan")}  # fmt: skip
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name} must be"):
            Subtitles(**{name: value})
    subtitles = Subtitles()
    subtitles.put("Ja", 2.0)
    for time in (1.9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="time_s must not go backwards"):
            subtitles.put("Nein", time)
    with pytest.raises(ValueError, match="format must be one of"):
        write_cues([], "ass")


LOG = [
    Instance(0, "ein Hund läuft", [1, 2, 3], [120.0, 240.0, 300.0], 3, "", "a dog runs there", 4),
    Instance(1, "", [], [], 0, "", "two", 1),
    Instance(2, "他们", [2, 2], [100.0, 150.0], 2, "", "two children", 2),
]


def test_words_of_a_log_stand_on_one_clock():
    found = [(word.text, round(word.time_s, 3), word.is_last) for word in timed_words(LOG[:1] * 2, 2.0)]
    assert found == [
        ("ein", 0.62, False), ("Hund", 1.12, False), ("läuft", 1.56, True),
        ("ein", 2.62, False), ("Hund", 3.12, False), ("läuft", 3.56, True),
    ]  # fmt: skip
    characters = list(timed_words(LOG[1:], 1.0))
    assert [(word.text, round(word.time_s, 2), word.joiner) for word in characters] == [
        ("他", 3.1, ""),
        ("们", 3.15, ""),
    ]
    pieces = Instance(7, "ein Hund", [1, 1, 1], [0.0] * 3, 3, "", "a dog", 2)
    with pytest.raises(ValueError, match="line 7 has 3 for 2 words and 8 characters"):
        list(timed_words([pieces], 1.0))


def test_a_log_becomes_a_file(tmp_path, capsys):
    write_instances(tmp_path / "instances.log", LOG[:1] * 2)
    log = str(tmp_path / "instances.log")
    assert main(["subtitles", log, "--words-per-second", "2"]) == 0
    shown = capsys.readouterr()
    assert [each.content for each in srt.parse(shown.out)] == ["ein Hund läuft ein Hund läuft"]
    assert "1 subtitles; the last goes 0.0 s after its word" in shown.err
    assert main(["subtitles", log, "--output", str(tmp_path / "a" / "talk.VTT"), "--live", "--min-seconds", "0.5"]) == 0
    first, second = webvtt.read(str(tmp_path / "a" / "talk.VTT"))
    # The third word's source is there after 3 / 2.5 seconds; its computing takes 60 ms.
    assert (first.text, first.start, second.text) == ("ein Hund läuft", "00:00:01.260", "ein Hund läuft")
    for flags, message in [
        (["--line-length", "1"], "line_length must be at least 2"),
        (["--words-per-second", "0"], "words_per_second must be positive"),
        (["--output", str(tmp_path)], "output must be a file"),
    ]:
        assert main(["subtitles", log, *flags]) == 1
        assert message in capsys.readouterr().err


def test_words_become_subtitles_while_they_are_written():
    """A cue comes out once it is whole, and the last words of all at the end."""
    program = [sys.executable, "-m", "transformers_simul.cli", "subtitles", "-", "--pause-seconds", "600"]
    lines = [json.dumps({"line": 1, "text": word, "delay": 1, "elapsed_ms": 0.0}) + "\n" for word in SENTENCE.split()]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*program, "--max-seconds", "600"], encoding="utf-8", **options) as process:
        process.stdin.write("".join(lines[:-1]))
        process.stdin.flush()
        first = [process.stdout.readline() for _ in range(5)]
        assert first[2:] == ["Ein Hund rennt über die Wiese,\n", "während zwei Kinder ihm zusehen.\n", "\n"]
        # Silence ends a cue too.
        rest, _ = process.communicate(lines[-1])
    assert "Ja." in rest
    assert process.returncode == 0
    with subprocess.Popen([*program[:-1], "0.1"], encoding="utf-8", **options) as process:
        process.stdin.write(lines[0])
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(3)][2] == "Ein\n"
        _, errors = process.communicate('{"words": 1}\n')
    assert process.returncode == 1
    assert "error: line 2 must be a word as `translate --json` writes it" in errors


def test_output_of_a_stream_is_refused(capsys):
    assert main(["subtitles", "-", "--output", "talk.srt"]) == 1
    assert "output needs a log" in capsys.readouterr().err


def test_the_missing_extra_names_itself(monkeypatch):
    monkeypatch.setitem(sys.modules, "srt", None)
    with pytest.raises(ImportError, match=r"pip install 'transformers_simul\[subtitles\]'"):
        write_cues([])
