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
