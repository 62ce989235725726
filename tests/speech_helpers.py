# SPDX-License-Identifier: Apache-2.0
"""What the tests of speech need: tones for speech, a program that stands in for espeak-ng, recognisers that know what they
hear."""

import os
import stat
import sys

import numpy
import soundfile

RATE = 16_000
ESPEAK = """#!{python}
import math, struct, sys, wave
text = sys.stdin.read()
if "fails" in text:
    sys.exit("no such voice")
with wave.open(sys.argv[sys.argv.index("-w") + 1], "wb") as file:
    file.setnchannels(1), file.setsampwidth(2), file.setframerate(22050)
    count = 2205 * len(text.split())
    file.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(i / 9))) for i in range(count)))
"""


def tone(seconds, frequency=440.0, rate=RATE, level=0.5):
    return (level * numpy.sin(2 * numpy.pi * frequency * numpy.arange(round(seconds * rate)) / rate)).astype("float32")


def stand_in_for_espeak(folder, monkeypatch):
    """A tenth of a second of tone for each word."""
    program = folder.absolute() / "bin" / "espeak-ng"
    program.parent.mkdir()
    program.write_text(ESPEAK.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def write(path, samples, rate=RATE, **options):
    soundfile.write(str(path), samples, rate, **options)
    return path


class Loudness:
    """Voice activity: whatever is loud."""

    def probability(self, frame):
        return float(numpy.abs(frame).max() > 0.05)

    def reset(self):
        pass


# A language of tones: word n is 0.3 s at 300 + 20 n Hz, and 0.1 s of silence.
WORD_S, GAP_S = 0.3, 0.1


def say(numbers, pause_s=0.0):
    """The words as audio, each with its gap, and a pause."""
    pieces = [
        numpy.concatenate([tone(WORD_S, 300 + 20 * n), numpy.zeros(round(GAP_S * RATE), "float32")]) for n in numbers
    ]
    return numpy.concatenate([*pieces, numpy.zeros(round(pause_s * RATE), "float32")])


class ToneTranscriber:
    """Understands it, but errs on a word that the audio cuts off, and now and then on how a sentence ends."""

    punctuates = False

    def __init__(self):
        self.longest_s, self.calls, self.before = 0.0, 0, []

    def transcribe(self, samples, before):
        from transformers_simul.speech.recogniser import SpokenWord

        self.longest_s, self.calls = max(self.longest_s, len(samples) / RATE), self.calls + 1
        self.before.append(before)
        loud = numpy.abs(samples) > 0.01
        # Zero crossings are no gaps.
        steps = [loud[at : at + 80].any() for at in range(0, len(loud), 80)]
        words, begin = [], None
        for index, is_loud in enumerate([*steps, False]):
            if is_loud and begin is None:
                begin = index
            elif not is_loud and begin is not None:
                piece = samples[begin * 80 : index * 80]
                if len(piece) > 0.05 * RATE:
                    spectrum = numpy.abs(numpy.fft.rfft(piece * numpy.hanning(len(piece)), 1 << 15))
                    number = round((spectrum.argmax() * RATE / (1 << 15) - 300) / 20)
                    is_cut = len(piece) < 0.28 * RATE
                    words.append(SpokenWord(f"w{number}" + ("?" if is_cut else ""), begin / 200, index / 200))
                begin = None
        return words
