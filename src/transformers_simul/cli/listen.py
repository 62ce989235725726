# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul listen`: speech in, translation out, while the speaker goes on."""

import argparse
import contextlib
import itertools
import json
import logging
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from .client import check_extra, chosen_token, say_lost
from .flags import add_glossary_flags, add_policy_flags, asked_policy, check_output, chosen_glossary, wire_glossary
from .keyboard import write
from .loading import add_decoding_weights, add_model, find_model, load, usual_policy

# Seconds of audio that are given on at once.
_BLOCK_S = 0.5
EXAMPLES = """
examples:
  transformers-simul listen models/simul-falcon-en-de --audio talk.wav
  transformers-simul listen models/simul-falcon-en-de --microphone --vtt talk.vtt
  ffmpeg -i talk.mp4 -f s16le -ar 16000 -ac 1 - | transformers-simul listen models/simul-falcon-en-de --audio -
  transformers-simul listen models/simul-falcon-en-de --audio talk.wav --references talk.de --log instances.log
  transformers-simul listen http://127.0.0.1:8000 --microphone --room talk
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "listen",
        help="translate speech while it is said: a recording, a microphone, raw samples from a pipe",
        description="Recognise speech and translate it word by word while the speaker goes on.",
        epilog=EXAMPLES,
    )
    add_model(parser, "; or the address of a server, http://..., which translates")
    add_decoding_weights(parser)
    sound = parser.add_mutually_exclusive_group(required=True)
    sound.add_argument("--audio", metavar="FILE", help="recording (WAV, FLAC, Ogg, MP3), or - for raw samples on stdin")
    sound.add_argument("--microphone", nargs="?", const="", metavar="DEVICE", help="a microphone; Ctrl-C ends it")
    add_policy_flags(parser)
    parser.add_argument(
        "--recogniser", default="tiny.en", help="speech model: tiny.en, faster-whisper:NAME, or one of Transformers"
    )
    parser.add_argument("--language", default="en", help="code of the language that is spoken (en)")
    parser.add_argument("--step", type=float, default=1.0, help="seconds of new audio that are worth recognising (1)")
    parser.add_argument("--window", type=float, default=12.0, help="most seconds that are recognised at once (12)")
    parser.add_argument("--pause", type=float, default=0.7, help="seconds of silence that end an utterance (0.7)")
    parser.add_argument(
        "--segmenter", help="file of `segmenter`, for a recogniser without punctuation: sentence ends beside pauses"
    )
    add_glossary_flags(parser)
    parser.add_argument("--real-time", action="store_true", help="hear a recording at its own pace")
    parser.add_argument("--pcm-rate", type=int, default=16_000, help="raw samples a second (16000)")
    parser.add_argument("--pcm-channels", type=int, default=1, help="channels of raw samples (1)")
    parser.add_argument("--pcm-format", default="s16le", help="raw samples: u8, s16le, s32le or f32le (s16le)")
    parser.add_argument("--show-source", action="store_true", help="print lines: seconds heard, source >, target <")
    parser.add_argument("--json", action="store_true", help="print a JSON line per translated word")
    parser.add_argument("--srt", metavar="FILE", help="subtitles to write while they come")
    parser.add_argument("--vtt", metavar="FILE", help="WebVTT to write while it comes")
    parser.add_argument("--log", metavar="FILE", help="instances.log to write, with delays in milliseconds, for score")
    parser.add_argument("--references", metavar="FILE", help="the translation, for the log; its lines are joined")
    parser.add_argument("--room", help="with a server: publish into this room")
    parser.add_argument("--target-lang", help="target language, of a server or of a model that knows several")
    parser.add_argument("--token-file", help="with a server: a file with the token")
    parser.add_argument("--transcript", metavar="FILE", help="what is said: prints the recogniser's word error rate")
    parser.set_defaults(run=_listen)


def _listen(args: argparse.Namespace) -> int:
    policy, args.terms = asked_policy(args), chosen_glossary(args)
    for name in ("srt", "vtt", "log"):
        if getattr(args, name):
            check_output(name, getattr(args, name))
    if args.references and not args.log:
        raise ValueError("references need a log, which holds them.")
    if _is_server(args.model):
        for name, given in (
            ("decoding_weights", args.decoding_weights != "auto"),
            ("trust_remote_code", args.trust_remote_code),
        ):
            if given:
                raise ValueError(f"{name.replace('_', '-')} needs a MODEL of this machine, got {args.model!r}.")
        check_extra()
    else:
        for name in ("room", "token_file"):
            if getattr(args, name) is not None:
                raise ValueError(f"{name.replace('_', '-')} needs a server, http://... in place of MODEL.")
        find_model(args.model)
    from ..text_files import read_lines

    reference = " ".join(read_lines(args.references)) if args.references else ""
    transcript = _read_transcript(args.transcript) if args.transcript else ""
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        if _is_server(args.model):
            stack.enter_context(_plain_server_errors())
        # What is wrong with the audio shows before the models are loaded.
        with _warnings_to(_warn):
            blocks, is_live = _blocks(args, stack, stop)
        failed: list[Exception] = []
        blocks = _until_failure(blocks, failed)
        listener = _make_listener(args, policy, is_live or args.real_time)
        output = Output(args, reference, transcript, listener.processor, stack)
        stack.callback(listener.close)
        if args.microphone is not None:
            stack.enter_context(_ending_by_interrupt(stop))
        print("listening", file=sys.stderr, flush=True)
        for event in listener.listen(paced(blocks) if args.real_time and not is_live else blocks):
            output.show(event)
        output.end(listener.heard_s, listener.worked_s)
    if failed:
        raise failed[0]
    return 0


def _read_transcript(path: str) -> str:
    """Read what is said, and check that it can be compared before the audio is heard."""
    from ..speech.accuracy import plain, word_errors
    from ..text_files import read_lines

    transcript = " ".join(read_lines(path))
    if not plain(transcript):
        raise ValueError(f"transcript must hold words, got none in {path!r}.")
    # Whether the package that compares is there.
    word_errors([transcript], [transcript])
    return transcript


def _blocks(args: argparse.Namespace, stack: contextlib.ExitStack, stop: threading.Event) -> tuple[Iterator[Any], bool]:
    """The audio, and whether it comes at its own pace."""
    from ..speech.audio import AudioFile, pcm_blocks
    from ..speech.microphone import microphone_blocks

    if args.microphone is not None:
        device = int(args.microphone) if args.microphone.isdecimal() else args.microphone or None
        return _begun(microphone_blocks(_BLOCK_S, device, stop)), True
    if args.audio == "-":
        if sys.stdin.buffer.isatty():
            raise ValueError("standard input must be raw samples from a program, not a terminal: see listen --help.")
        return pcm_blocks(sys.stdin.buffer, _BLOCK_S, args.pcm_rate, args.pcm_channels, args.pcm_format), True
    return _begun(stack.enter_context(AudioFile(args.audio)).blocks(_BLOCK_S)), False


def _begun(blocks: Iterator[Any]) -> Iterator[Any]:
    """The same blocks; what is wrong with the first is raised here."""
    return itertools.chain([next(blocks)], blocks)


def _until_failure(blocks: Iterator[Any], failed: list[Exception]) -> Iterator[Any]:
    """The same blocks. If a microphone vanishes or a pipe breaks, they end, so that what was heard is translated; the
    failure is kept. One before the first block is raised."""
    heard = False
    try:
        for block in blocks:
            heard = True
            yield block
    except (OSError, ValueError) as error:
        if not heard:
            raise
        failed.append(error)


def paced(blocks: Iterator[Any]) -> Iterator[Any]:
    """Yield the blocks of a recording, each once it was said; those that are late at once, as a microphone gives
    them."""
    from ..speech.audio import RATE, joined

    started, heard = time.monotonic(), 0
    due: list[Any] = []
    for block in blocks:
        heard += len(block)
        due_s = started + heard / RATE
        if due and due_s > time.monotonic():
            yield joined(due)
            due = []
        time.sleep(max(0.0, due_s - time.monotonic()))
        due.append(block)
    if due:
        yield joined(due)


def _make_listener(args: argparse.Namespace, policy: Any, is_live: bool) -> Any:
    print(f"loading {args.recogniser} and {args.model}", file=sys.stderr, flush=True)
    from ..speech.agreement import LocalAgreementRecogniser
    from ..speech.listening import Listener, ReplayClock, WallClock
    from ..speech.transcribers import make_transcriber
    from ..speech.voice import SileroVoice
    from ..speech.writing import SentenceWriter
    from ..streaming.segmenter import Segmenter

    ends_between = Segmenter.load(args.segmenter) if args.segmenter else None
    transcriber = make_transcriber(args.recogniser, args.language)
    if ends_between is not None and transcriber.punctuates:
        raise ValueError(f"segmenter needs a recogniser without punctuation, got {args.recogniser!r}.")
    recogniser = LocalAgreementRecogniser(transcriber, SileroVoice(), args.step, args.window, args.pause)
    clock: Any = WallClock() if is_live else ReplayClock()
    writer = None if transcriber.punctuates else SentenceWriter(args.language, ends_between=ends_between)
    if _is_server(args.model):
        return _remote_listener(args, recogniser, writer, clock)
    model, processor = load(args.model, args.trust_remote_code, decoding_weights=args.decoding_weights)
    processor = processor.with_languages(target_lang=args.target_lang)
    policy = usual_policy(model) if policy is None else policy
    return Listener(model, processor, recogniser, policy, writer, clock, glossary=args.terms)


def _is_server(model: str) -> bool:
    return model.startswith(("http://", "https://", "ws://", "wss://"))


def _remote_listener(args: argparse.Namespace, recogniser: Any, writer: Any, clock: Any) -> Any:
    from ..serving.client import PlainSimulClient
    from ..speech.remote import RemoteListener

    client = PlainSimulClient(args.model, token=chosen_token(args.token_file), on_lost=say_lost)
    languages = None if args.target_lang is None else [args.target_lang]
    # The server's names of wait-k and the full source are those of --policy; without either flag its own policy counts.
    policy = args.policy or (args.wait_k if args.wait_k in (None, "full") else f"wait-{args.wait_k}")
    wanted = {"policy": policy, "target_langs": languages, "room": args.room, **wire_glossary(args)}
    return RemoteListener(client, recogniser, writer, clock, **wanted)


@contextlib.contextmanager
def _plain_server_errors() -> Iterator[None]:
    """Turn what a server refuses or fails in into an error of one line."""
    from ..serving.client import ServerError

    try:
        yield
    except ServerError as error:
        raise ValueError(str(error)) from error


@contextlib.contextmanager
def _ending_by_interrupt(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C ends what a microphone hears, and the rest is translated; the second interrupts."""

    def end(*_: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _warnings_to(warn: Callable[[str], None]) -> Iterator[None]:
    """Hand on what the parts that hear warn of, for instance that a recording was cut off."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warn(record.getMessage())

    logger, handler = logging.getLogger("transformers_simul.speech"), Handler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


class Output:
    """Where the words go: terminal, subtitles, log, figures."""

    def __init__(
        self,
        args: argparse.Namespace,
        reference: str,
        transcript: str,
        processor: Any,
        stack: contextlib.ExitStack,
    ):
        from ..speech.record import SpeechRecord

        self.args, self.reference, self.transcript, self.processor = args, reference, transcript, processor
        self.record = SpeechRecord(keeps_words=bool(args.log or transcript))
        self.subtitles = [
            _SubtitleFile(path, kind, stack) for kind, path in (("srt", args.srt), ("vtt", args.vtt)) if path
        ]
        self._is_mid_line = False
        stack.enter_context(_warnings_to(self.warn))

    def warn(self, message: str) -> None:
        """Print a warning on a line of its own."""
        if sys.stdout.isatty() and sys.stderr.isatty():
            self._print("")
        _warn(message)

    def show(self, event: Any) -> None:
        """Show what came of a block of audio."""
        self.record.add(event)
        for file in self.subtitles:
            file.put(event.target)
        if self.args.json:
            for word in event.target:
                write(json.dumps(word._asdict(), ensure_ascii=False) + "\n")
        elif self.args.show_source:
            said = " ".join(word.text for word in event.source if word.text)
            written = self.processor.join([word.text for word in event.target if word.text])
            for mark, text in ((">", said), ("<", written)):
                if text:
                    write(f"{event.heard_s:7.1f} {mark} {text}\n")
        else:
            for word in event.target:
                self._print(word.text)

    def _print(self, text: str) -> None:
        """Print a sentence on a line of its own, word by word."""
        if text:
            write(self.processor.join(["", text] if self._is_mid_line else [text]))
            self._is_mid_line = True
        elif self._is_mid_line:
            print(flush=True)
            self._is_mid_line = False

    def end(self, heard_s: float, worked_s: float) -> None:
        """Finish the files, and print the figures."""
        self._print("")
        for file in self.subtitles:
            file.end()
        if self.args.log:
            from ..evaluation.instances import write_instances

            name = "microphone" if self.args.audio is None else "stdin" if self.args.audio == "-" else self.args.audio
            write_instances(self.args.log, [self.record.instance(0, name, heard_s, self.reference, self.processor)])
        summary = self.record.summary(heard_s, worked_s)
        if self.args.audio == "-" and not self.record.counts[0]:
            # Whatever its bytes mean, raw audio is accepted.
            heard = f"{self.args.pcm_format}, {self.args.pcm_rate} a second, channels: {self.args.pcm_channels}"
            summary += f" Are its samples {heard}? --pcm-format, --pcm-rate and --pcm-channels say what they are."
        print(summary, file=sys.stderr)
        if self.transcript:
            from ..speech.accuracy import word_errors

            errors = word_errors([self.transcript], [" ".join(self.record.source)])
            print(f"word error rate {100 * errors.rate:.1f}%: {errors}", file=sys.stderr)


class _SubtitleFile:
    """Subtitles that are written while they come, on the clock of the audio."""

    def __init__(self, path: str, kind: str, stack: contextlib.ExitStack):
        from ..streaming.subtitles import Subtitles, write_cues

        self._file: TextIO = stack.enter_context(open(path, "w", encoding="utf-8"))  # noqa: SIM115 - the stack closes it
        self._subtitles, self._cues = Subtitles(live=True), deque[Any]()
        # It asks for each cue when that is there, so that SRT's numbers go on.
        self._pieces = write_cues(iter(self._cues.popleft, None), kind)
        if kind == "vtt":
            self._file.write(next(self._pieces))
        self._now_s = 0.0

    def put(self, words: list[Any]) -> None:
        """Take the words that were written."""
        for word in words:
            self._now_s = max(self._now_s, word.elapsed_s)
            self._write(self._subtitles.put(word.text, self._now_s))

    def end(self) -> None:
        """The words that wait are the last subtitle."""
        self._write(self._subtitles.end())

    def _write(self, cues: list[Any]) -> None:
        for cue in cues:
            self._cues.append(cue)
            self._file.write(next(self._pieces))
        self._file.flush()


__all__ = ["add_command"]
