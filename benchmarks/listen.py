# SPDX-License-Identifier: Apache-2.0
"""`listen`, measured on recordings: computing for each second of audio, how late words are, word errors, memory.

`python benchmarks/listen.py MODEL talk.wav --transcript talk.en --most-minutes 5`
`python benchmarks/listen.py MODEL talk.wav --audio-minutes 60`
`python benchmarks/listen.py MODEL data/wav/*.flac --rest 45`

The recordings are heard one after the other, as one stream, as fast as can be; again from the first if
`--audio-minutes` asks for more audio than they have. It stops after `--most-minutes` in any case, and says how much was
heard until then. How late words are is computed as if the machine did nothing else: by the time that this process
computes (set OMP_NUM_THREADS=1), and with audio that arrives as it was said. Memory is what the process holds, every so
many minutes of audio; a stream that forgets nothing would grow. With `--rest`, after every fifth recording come so many
seconds of silence, white noise or music, in turn; words that are heard in them are made up, and are counted.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy
import psutil

from transformers_simul.cli.flags import CommandParser
from transformers_simul.cli.loading import load
from transformers_simul.models.policy_names import policy_from_name
from transformers_simul.speech.accuracy import word_errors
from transformers_simul.speech.agreement import LocalAgreementRecogniser
from transformers_simul.speech.audio import RATE, AudioFile
from transformers_simul.speech.listening import Listener, ReplayClock
from transformers_simul.speech.record import SpeechRecord
from transformers_simul.speech.transcribers import make_transcriber
from transformers_simul.speech.voice import SileroVoice
from transformers_simul.speech.writing import SentenceWriter
from transformers_simul.text_files import read_lines

BLOCK_S, PAUSE_S = 0.5, 1.0


class Timed:
    """Seconds that a method takes, on the clock and of computing, and how often it is called."""

    def __init__(self, owner: Any, name: str):
        self.calls, self.clock_s, self.computing_s = 0, 0.0, 0.0
        self._method = getattr(owner, name)
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        clock, computing = time.perf_counter(), time.process_time()
        try:
            return self._method(*args, **kwargs)
        finally:
            self.calls += 1
            self.clock_s += time.perf_counter() - clock
            self.computing_s += time.process_time() - computing


class Programme:
    """The recordings with a pause after each, and rests; again and again until there are so many seconds, or once.

    Attributes:
        rests: kind, begin and end in seconds of each rest so far.
        heard_s: seconds so far.
    """

    def __init__(self, paths: list[str], seconds: float | None, rest_s: float):
        self.paths, self.seconds, self.rest_s = paths, seconds, rest_s
        self.rests: list[tuple[str, float, float]] = []
        self.heard_s = 0.0

    def __iter__(self) -> Iterator[numpy.ndarray]:
        kinds = itertools.cycle(RESTS.items())
        for number, path in enumerate(self.paths if self.seconds is None else itertools.cycle(self.paths), start=1):
            with AudioFile(path) as file:
                yield from self._counted([*file.blocks(BLOCK_S), numpy.zeros(round(PAUSE_S * RATE), "float32")])
            if self.rest_s and number % 5 == 0:
                kind, make = next(kinds)
                begin_s, block_s = self.heard_s, numpy.arange(round(BLOCK_S * RATE)) / RATE
                yield from self._counted(
                    make(index * BLOCK_S + block_s).astype("float32") for index in range(round(self.rest_s / BLOCK_S))
                )
                self.rests.append((kind, begin_s, self.heard_s))
            if self.seconds is not None and self.heard_s >= self.seconds:
                return

    def _counted(self, blocks: Iterable[numpy.ndarray]) -> Iterator[numpy.ndarray]:
        for block in blocks:
            self.heard_s += len(block) / RATE
            yield block

    def kind_at(self, second: float) -> str | None:
        """What rest a moment lies in."""
        return next((kind for kind, begin_s, end_s in self.rests if begin_s < second < end_s), None)


def music(at_s: numpy.ndarray) -> numpy.ndarray:
    """Four chords of three voices with overtones, one a second, and a melody of four notes a second above them."""
    chords, steps = (
        numpy.array([[0, 4, 7], [9, 12, 16], [5, 9, 12], [7, 11, 14]]),
        numpy.array([0, 7, 4, 12, 9, 4, 7, 2]),
    )
    notes = [*chords[at_s.astype(int) % 4].T, 12 + steps[(4 * at_s).astype(int) % 8]]
    pitches = [220 * 2 ** (note / 12) for note in notes]
    return 0.08 * sum(numpy.sin(2 * numpy.pi * h * pitch * at_s) / h for pitch in pitches for h in (1, 2, 3))


_NOISE = numpy.random.default_rng(0)
RESTS: dict[str, Callable[[numpy.ndarray], numpy.ndarray]] = {
    "silence": numpy.zeros_like,
    "noise": lambda at_s: 0.1 * _NOISE.standard_normal(len(at_s)),
    "music": music,
}


def show(name: str, value: float) -> None:
    print(f"{name:<60} {value:10.3f}", flush=True)


def measure(args: argparse.Namespace) -> dict[str, float]:
    transcriber = make_transcriber(args.recogniser, args.language)
    voice = SileroVoice()
    parts = {"voice activity": Timed(voice, "probability"), "recognition": Timed(transcriber, "transcribe")}
    recogniser = LocalAgreementRecogniser(transcriber, voice, args.step, args.window)
    writer = None if transcriber.punctuates else SentenceWriter(args.language)
    clock = ReplayClock(time.process_time)
    listener = Listener(
        *load(args.model, decoding_weights="auto"), recogniser, policy_from_name(args.policy), writer, clock
    )
    parts["translation"] = Timed(listener._engine, "step")
    record, words, process = SpeechRecord(keeps_words=False), [], psutil.Process()
    figures: dict[str, float] = {}
    began, computing, seconds = time.perf_counter(), time.process_time(), args.audio_minutes
    programme = Programme(args.audio, seconds and 60 * seconds, args.rest)
    times: list[float] = []
    mark_s = 60.0 * args.every
    for block in itertools.chain(programme, [None]):
        late = time.perf_counter() - began > 60 * args.most_minutes
        is_last = block is None or late
        event = listener.hear(numpy.zeros(0, "float32") if block is None else block, is_last)
        record.add(event)
        times += [(word.start_s + word.end_s) / 2 for word in event.source if word.text]
        if args.transcript:
            words += [word.text for word in event.source]
        if listener.heard_s >= mark_s:
            # At once: a long run may be stopped.
            show(f"MB after {mark_s / 60:g} min of audio", process.memory_info().rss / 1e6)
            mark_s += 60.0 * args.every
        if is_last:
            break
    audio_s = listener.heard_s
    figures |= {"minutes of audio": audio_s / 60, "source words": record.counts[0], "target words": record.counts[1]}
    figures["seconds by the clock, for each second of audio"] = (time.perf_counter() - began) / audio_s
    figures["seconds of computing, for each second of audio"] = (time.process_time() - computing) / audio_s
    for name, part in parts.items():
        figures[f"  of these {name}"] = part.computing_s / audio_s
    figures["transcriptions a minute"] = 60 * parts["recognition"].calls / audio_s
    if args.rest:
        made_up = [programme.kind_at(second) for second in times]
        for kind in RESTS:
            lengths = [end_s - begin_s for each, begin_s, end_s in programme.rests if each == kind]
            figures |= {f"minutes of {kind}": sum(lengths) / 60, f"  words made up in {kind}": made_up.count(kind)}
    for name, values in record.lags().items():
        for percent in (50, 95):
            figures[f"{name}, s, p{percent}"] = float(numpy.percentile(values, percent)) if len(values) else numpy.nan
    if args.transcript:
        if late:
            raise SystemExit("error: most-minutes ended the run before all was heard, so words cannot be compared.")
        errors = word_errors([" ".join(read_lines(args.transcript))], [" ".join(words)])
        figures |= {"WER": errors.rate, "WER: words": errors.words}
    return figures


def main() -> None:
    parser = CommandParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a trained folder")
    parser.add_argument("audio", nargs="+", help="recordings")
    parser.add_argument("--transcript", help="what is said in them, for word errors; its lines are joined")
    parser.add_argument("--audio-minutes", type=float, help="minutes of audio to hear (all recordings, once)")
    parser.add_argument("--most-minutes", type=float, default=10.0, help="minutes that it may take (10)")
    parser.add_argument(
        "--rest", type=float, default=0.0, help="seconds after every fifth recording without speech (0)"
    )
    parser.add_argument("--every", type=float, default=1.0, help="minutes of audio between two looks at memory (1)")
    parser.add_argument("--policy", default="wait-3", help="when to READ and WRITE (wait-3)")
    parser.add_argument("--recogniser", default="tiny.en", help="as in listen (tiny.en)")
    parser.add_argument("--language", default="en", help="code of the language that is spoken (en)")
    parser.add_argument("--step", type=float, default=1.0, help="seconds of new audio that are worth recognising (1)")
    parser.add_argument("--window", type=float, default=12.0, help="most seconds that are recognised at once (12)")
    for name, value in measure(parser.parse_args()).items():
        show(name, value)


if __name__ == "__main__":
    main()
