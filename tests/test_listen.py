# SPDX-License-Identifier: Apache-2.0
"""Speech in, translation out: a language of tones, a few lines that recognise it, a tiny model that translates."""

import contextlib
import io
import json
import logging
import queue
import signal
import sys
import threading
import types

import numpy
import pytest

from helpers import make_model, make_processor
from speech_helpers import RATE, Loudness, ToneTranscriber, say, tone, write
from transformers_simul import StreamEngine, WaitKPolicy, cli
from transformers_simul.cli import listen as listen_command
from transformers_simul.evaluation import SpeechInstance, read_instances
from transformers_simul.speech import listening, microphone, transcribers, voice
from transformers_simul.speech.agreement import LocalAgreementRecogniser
from transformers_simul.speech.listening import Listener, ReplayClock, WallClock
from transformers_simul.speech.microphone import microphone_blocks
from transformers_simul.speech.record import SpeechRecord
from transformers_simul.speech.writing import SentenceWriter


class Speaks(ToneTranscriber):
    """With a full stop after every fifth number."""

    punctuates = True

    def transcribe(self, samples, before):
        words = super().transcribe(samples, before)
        return [word._replace(text=word.text + "." * (word.text.endswith(("0", "5")))) for word in words]


def blocks_of(audio, block_s=0.5):
    size = round(block_s * RATE)
    return [audio[at : at + size] for at in range(0, len(audio), size)]


def listener_of(model, processor, policy=None, **options):
    heard = LocalAgreementRecogniser(Speaks(), Loudness())
    return Listener(model, processor, heard, policy or WaitKPolicy(2), max_new_tokens=12, **options)


def test_the_translation_is_that_of_the_recognised_text(model, processor):
    listener = listener_of(model, processor)
    events = list(listener.listen(blocks_of(say([*range(12)], 1.0))))
    source = [word.text for event in events for word in event.source if word.text]
    target = [word for event in events for word in event.target]
    assert source == [f"w{number}" + "." * (number % 5 == 0) for number in range(12)]
    with StreamEngine(model, processor, max_streams=1) as engine:
        stream = engine.open(WaitKPolicy(2), sentences=True, max_sentence_words=60, max_new_tokens=12)
        stream.source.put(" ".join(source))
        stream.source.end()
        expected = [(word.text, word.delay) for word in stream]
    assert [(word.text, word.delay) for word in target if word.text] == expected
    # Written before the speaker has ended, never before the words were heard, and in order.
    assert target[0].heard_s < 4
    for word in target:
        assert word.spoken_s <= word.heard_s <= word.elapsed_s
    times = [word.elapsed_s for word in target]
    assert times == sorted(times)
    # An empty text is the end of a sentence.
    assert [word.delay for word in target if not word.text] == [1, 6, 11, 12]


def test_audio_that_was_not_heard_changes_nothing_that_was_written(model, processor):
    some, other = say([*range(10)]), say([*range(10), *range(50, 60)])
    half = blocks_of(say([*range(10)]))
    written = []
    for audio in (some, other):
        listener = listener_of(model, processor)
        written.append(
            [word.text for block in blocks_of(audio)[: len(half) - 1] for word in listener.hear(block).target]
        )
        listener.close()
    assert written[0] == written[1] != []


def test_words_without_punctuation_are_written_as_sentences(model, processor):
    heard = LocalAgreementRecogniser(ToneTranscriber(), Loudness())
    listener = Listener(model, processor, heard, WaitKPolicy(1), writer=SentenceWriter(), max_new_tokens=3)
    events = list(listener.listen(blocks_of(numpy.concatenate([say([1, 2], 1.0), say([3], 1.0)]))))
    assert [word.text for event in events for word in event.source if word.text] == ["W1", "w2.", "W3."]


@pytest.mark.parametrize("unit", ["char", "token"])
def test_units(unit):
    processor = make_processor(unit=unit)
    model = make_model(processor)
    if unit == "token":
        with pytest.raises(ValueError, match="must count words or characters"):
            listener_of(model, processor)
        return
    events = list(listener_of(model, processor).listen(blocks_of(say([1, 2, 3], 1.0))))
    assert events[-1].heard_s == pytest.approx(2.2)


def test_what_breaks_in_the_model_is_raised(model, processor, monkeypatch):
    listener = listener_of(model, processor)

    def broken(*args, **kwargs):
        raise RuntimeError("no more")

    monkeypatch.setattr("transformers_simul.streaming.engine_rows.decode_step", broken)
    with pytest.raises(RuntimeError, match="no more"):
        list(listener.listen(blocks_of(say([*range(10)], 1.0))))


def test_memory_does_not_grow_with_the_stream(model, processor):
    listener, record = listener_of(model, processor), SpeechRecord(keeps_words=False)
    sizes = []
    for turn in range(12):
        for block in blocks_of(say([(turn * 7 + n) % 100 for n in range(10)], 1.0)):
            record.add(listener.hear(block))
        sizes.append(len(listener._spoken) + len(listener._stream.source._sentence_ends) + len(record.words))
    assert max(sizes) < 40
    assert "source words" in record.summary(listener.heard_s)
    listener.close()


def test_clocks(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(listening.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(listening.time, "monotonic", lambda: now[0])
    replay = ReplayClock()
    replay.hear(1.0)
    now[0] += 0.25
    assert replay.now_s() == 1.25
    # Work on the second block waits for the first, or for the audio.
    now[0] += 3.0
    replay.hear(2.0)
    assert replay.now_s() == 4.25
    replay.hear(9.0)
    now[0] += 0.5
    assert replay.now_s() == 9.5
    wall = WallClock()
    wall.hear(0.5)
    now[0] += 2.0
    wall.hear(1.0)
    assert wall.now_s() == 2.5
    # A pipe that brings a recording faster than it was said: no word is there before it was heard.
    now[0] += 1.0
    wall.hear(60.0)
    assert wall.now_s() == 60.0
    now[0] += 1.0
    assert wall.now_s() == 61.0


@pytest.fixture
def at_hand(tmp_path, monkeypatch, model, processor):
    """A folder with a model, and a recogniser of tones under the name of the pinned one."""
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("model")
    processor.save_pretrained("model")
    monkeypatch.setattr(transcribers, "make_transcriber", lambda name, language: Speaks())
    monkeypatch.setattr(voice, "SileroVoice", Loudness)
    write("talk.wav", say([*range(12)], 1.0))
    return tmp_path


def run(capsys, *arguments):
    status = cli.main(["listen", "model", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_recording(at_hand, capsys):
    status, out, err = run(capsys, "--audio", "talk.wav", "--log", "instances.log", "--srt", "a.srt", "--vtt", "a.vtt")
    assert status == 0
    assert "5.8 s of audio, 12 source words" in err
    assert " s of work for each second; " in err
    (log,) = read_instances("instances.log")
    assert isinstance(log, SpeechInstance)
    assert log.source == "talk.wav"
    assert log.source_length == pytest.approx(5800)
    assert out.split() == log.prediction.split()
    assert all(delay <= time for delay, time in zip(log.delays, log.elapsed, strict=True))
    srt, webvtt = pytest.importorskip("srt"), pytest.importorskip("webvtt")
    cues = list(srt.parse((at_hand / "a.srt").read_text()))
    # Words that are longer than a line are cut.
    assert "".join("".join(cue.content for cue in cues).split()) == "".join(out.split())
    assert [cue.index for cue in cues] == [*range(1, len(cues) + 1)]
    assert len(webvtt.read("a.vtt")) == len(cues) > 0
    assert cli.main(["score", "instances.log", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["LAAL_CA"] >= scores["LAAL"] > 0
    status, out, _ = run(capsys, "--audio", "talk.wav", "--json")
    words = [json.loads(line) for line in out.splitlines()]
    assert {"text", "delay", "spoken_s", "heard_s", "elapsed_s"} == set(words[0])
    status, out, _ = run(capsys, "--audio", "talk.wav", "--show-source")
    assert out.splitlines()[0].split()[1:] == [">", "w0.", "w1"]


def test_raw_samples_on_standard_input(at_hand, capsys, monkeypatch):
    data = (say([*range(6)], 1.0) * 32767).astype("<i2").tobytes()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    status, out, err = run(capsys, "--audio", "-", "--show-source")
    assert status == 0
    assert [word for line in out.splitlines() if ">" in line for word in line.split()[2:]] == [
        "w0.", "w1", "w2", "w3", "w4", "w5.",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"RIFFxxxxWAVE")))
    status, _, err = run(capsys, "--audio", "-")
    assert (status, "begins as a WAV file" in err) == (1, True)


def test_standard_input_that_is_no_audio(at_hand, capsys, monkeypatch):
    class Terminal(io.BytesIO):
        def isatty(self):
            return True

    for file, message in ((io.BytesIO(), "ended before the first"), (Terminal(), "from a program, not a terminal")):
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=file))
        status, _, err = run(capsys, "--audio", "-")
        assert (status, message in err) == (1, True), err


def test_raw_samples_of_another_format_are_asked_about(at_hand, capsys, monkeypatch):
    def heard(data, *flags):
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
        return run(capsys, "--audio", "-", *flags)

    quiet = (0.001 * say([*range(6)], 1.0) * 32767).astype("<i2").tobytes()
    status, _, err = heard(quiet, "--pcm-channels", "2")
    assert status == 0
    assert "no speech was heard in it. Are its samples s16le, 16000 a second, channels: 2? --pcm-format" in err
    status, _, err = heard(numpy.full(9000, numpy.nan, "<f4").tobytes(), "--pcm-format", "f32le")
    assert (status, "some are NaN or infinite: are they f32le, as pcm_format says?" in err) == (1, True)


def test_the_recogniser_is_scored_against_a_transcript(at_hand, capsys, monkeypatch):
    (at_hand / "talk.en").write_text("W0 w1 w2 w3, w4 w5.\nw6 w7 w8 w9 w10 eleven\n")
    (at_hand / "none.en").write_text("-- !\n")
    status, _, err = run(capsys, "--audio", "talk.wav", "--transcript", "talk.en")
    assert status == 0
    assert "word error rate 8.3%: WordErrors(words=12, substitutions=1, deletions=0, insertions=0)" in err
    # What cannot be compared shows before an hour of audio is heard.
    monkeypatch.setattr(Listener, "hear", lambda *_: pytest.fail("it was heard"))
    status, _, err = run(capsys, "--audio", "talk.wav", "--transcript", "none.en")
    assert (status, "transcript must hold words" in err) == (1, True)
    monkeypatch.setitem(sys.modules, "jiwer", None)
    status, _, err = run(capsys, "--audio", "talk.wav", "--transcript", "talk.en")
    assert (status, "word errors need the package jiwer" in err) == (1, True)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_warnings_do_not_stand_within_a_translation(processor, capsys, monkeypatch, is_terminal):
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: is_terminal, raising=False)
    args = types.SimpleNamespace(audio="a.wav", log=None, srt=None, vtt=None, json=False, show_source=False)
    with contextlib.ExitStack() as stack:
        session = listen_command.Output(args, "", "", processor, stack)
        for text in ("Ein", "Hund", "", "Zwei"):
            word = listening.TranslatedWord(text, 1, 0.5, 1.0, 1.5)
            session.show(listening.Event(1.0, [], [word]))
            if text == "Ein":
                logging.getLogger("transformers_simul.speech.audio").warning("too loud")
        session.end(1.0, 0.5)
    said = capsys.readouterr()
    assert said.out == ("Ein\nHund\nZwei\n" if is_terminal else "Ein Hund\nZwei\n")
    assert said.err.splitlines() == ["warning: too loud", "1.0 s of audio: no speech was heard in it."]
    assert not logging.getLogger("transformers_simul.speech").handlers


def test_a_recording_at_its_own_pace_is_heard_as_a_microphone_would(monkeypatch):
    now, slept = [0.0], []
    monkeypatch.setattr(listen_command.time, "monotonic", lambda: now[0])

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(listen_command.time, "sleep", sleep)
    sizes = []
    for block in listen_command.paced(iter(blocks_of(numpy.zeros(5 * RATE, "float32")))):
        sizes.append(len(block) / RATE)
        assert now[0] >= sum(sizes)
        # The third is slow: what was said meanwhile comes as one.
        now[0] += 1.7 if len(sizes) == 3 else 0.1
    assert sizes == [0.5, 0.5, 0.5, 1.5, 0.5, 0.5, 0.5, 0.5]
    assert max(slept) <= 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.wav", "missing.wav: No such file"),
        ("text.wav", "must be a WAV, FLAC"),
        ("empty.wav", "at least one sample"),
        ("nothing.wav", "at least one sample, but is an empty file"),
    ],
)
def test_audio_that_is_none_is_refused_before_anything_is_loaded(at_hand, capsys, name, message, monkeypatch):
    (at_hand / "text.wav").write_text("text")
    write("empty.wav", tone(0))
    (at_hand / "nothing.wav").touch()
    monkeypatch.setattr(transcribers, "make_transcriber", lambda *_: pytest.fail("it was loaded"))
    status, _, err = run(capsys, "--audio", name)
    assert (status, message in err) == (1, True), err


def test_silence_is_told_of(at_hand, capsys):
    write("silent.wav", numpy.zeros(2 * RATE, "float32"))
    status, out, err = run(capsys, "--audio", "silent.wav", "--log", "instances.log")
    assert (status, out) == (0, "")
    assert "2.0 s of audio: no speech was heard in it." in err
    assert read_instances("instances.log")[0].prediction == ""


def test_wrong_flags(at_hand, capsys):
    assert run(capsys, "--audio", "talk.wav", "--step", "0")[2].count("step_s must be above 0") == 1
    assert "references need a log" in run(capsys, "--audio", "talk.wav", "--references", "x")[2]
    assert "pcm_format must be one of" in run(capsys, "--audio", "-", "--pcm-format", "mp3")[2]
    assert "target_lang must be one of" in run(capsys, "--audio", "talk.wav", "--target-lang", "xx")[2]
    assert "log must be a file" in run(capsys, "--audio", "talk.wav", "--log", ".")[2]
    with pytest.raises(SystemExit):
        run(capsys)


class FakeSound(types.ModuleType):
    """PortAudio with one microphone, which gives what a test says."""

    class PortAudioError(Exception):
        pass

    def __init__(self, audio, ends=True):
        super().__init__("sounddevice")
        self.audio, self.ends = audio, ends

    def query_devices(self, device, kind):
        if device not in (None, "desk", "busy"):
            raise ValueError(f"No input device matching {device!r}")
        return {"default_samplerate": 48000.0}

    def InputStream(self, rate, blocksize, device, channels, dtype, callback, finished_callback):
        class Stream:
            def __enter__(stream):
                if device == "busy":
                    raise self.PortAudioError("Error starting stream: Device unavailable")

                def play():
                    audio = numpy.repeat(self.audio, 3)[:, None]
                    for at in range(0, len(audio), blocksize):
                        callback(audio[at : at + blocksize], blocksize, None, None)
                    if self.ends:
                        finished_callback()

                stream.thread = threading.Thread(target=play)
                stream.thread.start()

            def __exit__(stream, *error):
                stream.thread.join()

        self.stream = Stream()
        return self.stream


def test_a_microphone_that_vanishes_is_told_of(at_hand, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSound(say([*range(6)], 1.0)))
    status, out, err = run(capsys, "--microphone", "--show-source", "--vtt", "a.vtt")
    assert status == 1
    assert "the microphone has vanished" in err
    # What was heard before is there.
    assert "w0." in out
    assert (at_hand / "a.vtt").read_text().startswith("WEBVTT")
    for device in ("kitchen", "busy"):
        status, _, err = run(capsys, "--microphone", device)
        assert (status, f"there must be a microphone {device}" in err) == (1, True)


def test_what_was_heard_before_a_failure_is_translated_to_its_end(at_hand, capsys, monkeypatch):
    """Within an utterance, and before its translation has caught up."""
    write("whole.wav", say([*range(5)]))
    _, expected, _ = run(capsys, "--audio", "whole.wav")
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSound(say([*range(5)])))
    status, out, err = run(capsys, "--microphone", "--log", "instances.log")
    assert (status, out) == (1, expected)
    assert out.strip()
    assert err.index("5 source words") < err.index("the microphone has vanished")
    assert read_instances("instances.log")[0].prediction.split() == out.split()
    samples = say([*range(5)]).astype("<f4")
    data = numpy.append(samples, numpy.full(9000, numpy.nan, "<f4")).tobytes()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    status, out, err = run(capsys, "--audio", "-", "--pcm-format", "f32le")
    assert (status, "some are NaN" in err) == (1, True)
    assert out.split()[:3] == expected.split()[:3]


def test_a_microphone_ends_by_interrupt_and_the_rest_is_translated(at_hand, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSound(say([*range(6)], 1.0), ends=False))
    monkeypatch.setattr(microphone, "GONE_S", 60.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    heard, interrupted = Listener.hear, []

    def hear(self, samples, is_last=False):
        event = heard(self, samples, is_last)
        if self.heard_s > 3.3 and not interrupted:
            interrupted.append(self.heard_s)
            signal.raise_signal(signal.SIGINT)
        return event

    monkeypatch.setattr(Listener, "hear", hear)
    status, _, err = run(capsys, "--microphone", "desk", "--log", "instances.log")
    assert status == 0
    assert "6 source words" in err
    assert read_instances("instances.log")[0].source == "microphone"
    # Put back as it was found, and by the test too: what starts tests in the background ignores Ctrl-C.
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_a_microphone_that_is_heard_too_slowly_loses_the_oldest(monkeypatch, caplog):
    sound = FakeSound(say([*range(100)]), ends=True)
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    monkeypatch.setattr(microphone, "MOST_WAITING_S", 3.0)
    heard = []

    def listen():
        for block in microphone_blocks(0.5):
            # Not before all of it has come.
            sound.stream.thread.join()
            heard.append(len(block))

    with pytest.raises(OSError, match="vanished"):
        listen()
    assert sum(heard) < 100 * 0.4 * RATE
    assert "audio is left out" in caplog.text


def test_audio_that_was_taken_while_it_was_late_ends_no_microphone(monkeypatch):
    class TakenMeanwhile(queue.Queue):
        is_first = True

        def put_nowait(self, item):
            if self.is_first:
                self.is_first = False
                raise queue.Full
            super().put_nowait(item)

    monkeypatch.setattr(queue, "Queue", TakenMeanwhile)
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSound(say([1, 2])))
    assert len(next(microphone_blocks())) > 0


def test_extras_that_are_missing_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ValueError, match=r"pip install 'transformers_simul\[speech\]'"):
        next(microphone_blocks())
