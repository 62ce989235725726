# SPDX-License-Identifier: Apache-2.0
"""Synthetic speech of parallel text by espeak-ng: several voices, speeds, pitches, noise, in a folder like MuST-C's.

`python -m transformers_simul.speech.synthesis train.en train.de FOLDER --split train`

What it shows: that streams, times and measures work, and how systems compare that were trained on it. What it does not
show: anything about real speech. A formant synthesiser pronounces a word nearly the same each time, without hesitations
or slips, and nobody else is in the room; so it is much easier for a model that was trained on it, and harder for one
that never heard it.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy

from ..corpora.files import Pair, read_pairs
from ..text_files import one_line
from .audio import RATE, read_audio, write_audio
from .dataset import Utterance, write_texts

# espeak-ng's accents of a language, where it has several; elsewhere the language's own code.
ACCENTS = {"en": ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029"), "fr": ("fr", "fr-be", "fr-ch")}
# Least and most signal-to-noise ratio of noisy sentences.
_SNR_DB = (5.0, 25.0)
VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8")
# Silence between the sentences of a recording, and before and after them, in seconds.
PAUSES_S, MARGIN_S = (0.4, 1.2), 0.2


class Manner(NamedTuple):
    """How a sentence is spoken.

    Attributes:
        voice (`str`): espeak-ng's, with its variant: `"en-us+f2"`.
        words_per_minute, pitch (`int`): espeak-ng's `-s` and `-p`.
        snr_db (`float`, *optional*): of white noise; none without.
    """

    voice: str
    words_per_minute: int
    pitch: int
    snr_db: float | None


def draw_manner(
    seed: int,
    index: int,
    language: str = "en",
    noisy: float = 0.5,
    voices: Sequence[str] = (),
) -> Manner:
    """Draw how the sentence of that number is spoken; the same for the same numbers.

    Args:
        seed, index (`int`): of the data, and of the sentence.
        language (`str`, *optional*): its code.
        noisy (`float`, *optional*): share of sentences with noise.
        voices (`Sequence[str]`, *optional*): espeak-ng's, to draw from; all accents and variants without.

    Example:

    ```python
    >>> from transformers_simul.speech.synthesis import draw_manner
    >>> draw_manner(seed=0, index=1) == draw_manner(seed=0, index=1) != draw_manner(seed=0, index=2)
    True

    ```
    """
    draw = random.Random(f"{seed} {index}")
    voice = (
        draw.choice(voices) if voices else f"{draw.choice(ACCENTS.get(language, (language,)))}+{draw.choice(VARIANTS)}"
    )
    manner = Manner(voice, draw.randint(120, 200), draw.randint(20, 80), None)
    return manner._replace(snr_db=draw.uniform(*_SNR_DB)) if draw.random() < noisy else manner


def speak(text: str, manner: Manner, seed: int = 0) -> numpy.ndarray:
    """Speak a text, and return samples at 16 kHz, `(samples,)`.

    Args:
        text (`str`): what to say.
        manner (`Manner`): how.
        seed (`int`, *optional*): of the noise.

    Raises:
        ValueError: without espeak-ng, for a voice that it does not have, or a text of which it says nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        options = ["-v", manner.voice, "-s", str(manner.words_per_minute), "-p", str(manner.pitch), "-w", str(path)]
        try:
            # On standard input no text can pass for a flag.
            done = subprocess.run(
                ["espeak-ng", *options, "--stdin"], input=text.encode(), capture_output=True, check=False
            )
        except FileNotFoundError as error:
            raise ValueError("speech is synthesised by espeak-ng: apt-get install espeak-ng.") from error
        if done.returncode or not path.is_file():
            said = done.stderr.decode(errors="replace").strip() or "no file"
            raise ValueError(f"espeak-ng could not speak {text[:40]!r} as {manner.voice!r}: {said}.")
        speech = read_audio(path)
    return speech if manner.snr_db is None else add_noise(speech, manner.snr_db, seed)


def add_noise(speech: numpy.ndarray, snr_db: float, seed: int) -> numpy.ndarray:
    """Add white noise to speech.

    Args:
        speech (`numpy.ndarray`): float32, `(samples,)`.
        snr_db (`float`): how much stronger the speech is.
        seed (`int`): of the noise.

    Example:

    ```python
    >>> import numpy
    >>> from transformers_simul.speech.synthesis import add_noise
    >>> tone = numpy.sin(numpy.arange(16000)).astype("float32") / 4
    >>> noise = add_noise(tone, snr_db=20, seed=0) - tone
    >>> round(float(10 * numpy.log10((tone**2).mean() / (noise**2).mean())))
    20

    ```
    """
    noise = numpy.random.default_rng(seed).standard_normal(len(speech), dtype=numpy.float32)
    strength = numpy.sqrt((speech**2).mean() / (noise**2).mean() / 10 ** (snr_db / 10))
    return (speech + noise * strength).clip(-1, 1).astype(numpy.float32)


def synthesise(
    pairs: Sequence[Pair],
    folder: str | Path,
    split: str = "train",
    source_lang: str = "en",
    target_lang: str = "de",
    seed: int = 0,
    per_recording: int = 1,
    noisy: float = 0.5,
    voices: Sequence[str] = (),
) -> list[Utterance]:
    """Speak the sources of parallel text, and write recordings and texts as [`read_utterances`] reads them.

    Args:
        pairs (`Sequence[Pair]`): source and target.
        folder (`str` or `Path`): to write; the split must not be there yet.
        split (`str`, *optional*): its name.
        source_lang, target_lang (`str`, *optional*): codes; the source's chooses the voices.
        seed (`int`, *optional*): of voices, speeds, pitches, pauses and noise.
        per_recording (`int`, *optional*): sentences of a recording, which one voice speaks, with pauses between them.
        noisy (`float`, *optional*): share of recordings with noise.
        voices (`Sequence[str]`, *optional*): espeak-ng's, such as `"en-us+f2"`; many without.

    Returns:
        `list[Utterance]`: in the order of the pairs.

    Raises:
        ValueError: if the split is there already, there is no pair, `per_recording` is below 1, or as [`speak`].
    """
    place = Path(folder) / "data" / split
    if place.exists():
        raise ValueError(f"folder must not hold {split!r} yet, got {str(folder)!r}.")
    if not pairs or per_recording < 1:
        raise ValueError(f"pairs and per_recording must be at least 1, got {len(pairs)} and {per_recording}.")
    (place / "wav").mkdir(parents=True)
    try:
        groups = [pairs[begin : begin + per_recording] for begin in range(0, len(pairs), per_recording)]
        with ThreadPoolExecutor(max_workers=2) as pool:

            def record(number: int) -> list[Utterance]:
                manner = draw_manner(seed, number, source_lang, noisy, voices=voices)
                return list(_record(groups[number], place / "wav" / f"{number:06}.flac", manner, seed + number))

            utterances = [each for group in pool.map(record, range(len(groups))) for each in group]
        write_texts(folder, split, utterances, source_lang, target_lang)
    except BaseException:
        shutil.rmtree(place)
        raise
    return utterances


def _record(pairs: Sequence[Pair], path: Path, manner: Manner, seed: int) -> Iterator[Utterance]:
    draw, pieces, at_s = random.Random(seed), [_silence(MARGIN_S)], MARGIN_S
    for pair in pairs:
        # Noise covers the pauses too, so it is added to the whole.
        speech = speak(pair.source, manner._replace(snr_db=None))
        yield Utterance(path, at_s, len(speech) / RATE, pair.source, pair.target, manner.voice)
        gap = _silence(draw.uniform(*PAUSES_S))
        pieces += [speech, gap]
        at_s += (len(speech) + len(gap)) / RATE
    pieces[-1] = _silence(MARGIN_S)
    whole = numpy.concatenate(pieces)
    write_audio(path, whole if manner.snr_db is None else add_noise(whole, manner.snr_db, seed))


def _silence(seconds: float) -> numpy.ndarray:
    return numpy.zeros(round(seconds * RATE), dtype=numpy.float32)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="two text files, source first, or one table")
    parser.add_argument("folder", help="to write: FOLDER/data/SPLIT")
    parser.add_argument("--split", default="train", help="name of the split (train)")
    parser.add_argument("--source-lang", default="en", help="code of the source's language (en)")
    parser.add_argument("--target-lang", default="de", help="code of the target's language (de)")
    parser.add_argument("--source-column", default="source", help="source column of a table (source)")
    parser.add_argument("--target-column", default="target", help="target column of a table (target)")
    parser.add_argument("--limit", type=int, help="take so many pairs from the start (all)")
    parser.add_argument("--per-recording", type=int, default=1, help="sentences of a recording (1)")
    parser.add_argument("--noisy", type=float, default=0.5, help="share of recordings with noise (0.5)")
    parser.add_argument("--voices", nargs="+", default=[], help="espeak-ng's, such as en-us+f2 (many)")
    parser.add_argument("--seed", type=int, default=0, help="of voices, speeds, pitches, pauses and noise (0)")
    args = parser.parse_args()
    pairs = read_pairs(args.files, args.source_column, args.target_column)[: args.limit]
    utterances = synthesise(
        pairs, args.folder, args.split, args.source_lang, args.target_lang, args.seed, args.per_recording, args.noisy,
        args.voices,
    )  # fmt: skip
    hours = sum(each.duration_s for each in utterances) / 3600
    print(
        f"written: {len(utterances)} sentences, {hours:.2f} hours of speech, {Path(args.folder) / 'data' / args.split}"
    )


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {one_line(error)}")


__all__ = ["Manner", "add_noise", "draw_manner", "speak", "synthesise"]
