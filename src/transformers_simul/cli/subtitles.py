# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul subtitles`: SRT or WebVTT from a log, or from words while they are written."""

import argparse
import contextlib
import json
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from ..text_files import read_lines, write_text
from .flags import check_output

# Words that wait for the clock; more hold the writer up.
_MOST_WAITING = 10_000
EXAMPLES = """
examples:
  transformers-simul subtitles instances.log --words-per-second 2.5 --output talk.srt
  transformers-simul subtitles instances.log --format vtt --line-length 32 --reading-speed 15
  tail -f captions.txt | transformers-simul translate models/simul-falcon-en-de --json | transformers-simul subtitles -
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "subtitles",
        help="make SRT or WebVTT from a log, or from words while they are written",
        description="Make subtitles that can be read in their time and never change once they are shown.",
        epilog=EXAMPLES,
    )
    parser.add_argument("log", help="a log that `score` reads; or - for the words of `translate --json`, as they come")
    parser.add_argument("--format", choices=("srt", "vtt"), help="format (vtt if --output ends with .vtt, else srt)")
    parser.add_argument("--output", help="file to write instead of stdout, whole or not at all; needs a log")
    parser.add_argument(
        "--words-per-second", type=float, default=2.5, help="rate of the source; 1000 if delays are milliseconds (2.5)"
    )
    parser.add_argument("--line-length", type=int, default=42, help="most characters of a line (42)")
    parser.add_argument("--max-lines", type=int, default=2, help="most lines of a subtitle, 1 or 2 (2)")
    parser.add_argument("--reading-speed", type=float, default=17.0, help="characters that are read in a second (17)")
    parser.add_argument("--min-seconds", type=float, default=1.0, help="shortest time of a subtitle (1)")
    parser.add_argument("--max-seconds", type=float, default=6.0, help="longest wait of a word for its subtitle (6)")
    parser.add_argument("--pause-seconds", type=float, default=2.0, help="pause that ends a subtitle (2)")
    parser.add_argument(
        "--live",
        action="store_true",
        help="show a subtitle when its last word is there, as live viewers see it; a log's otherwise from the first on",
    )
    parser.add_argument("--sources", help="text file with one source sentence per line, for simulstream's logs")
    parser.add_argument("--references", help="text file with one reference per line, for simulstream's logs")
    parser.set_defaults(run=_subtitles)


def _subtitles(args: argparse.Namespace) -> int:
    from ..streaming.subtitles import write_cues

    if args.log == "-" and args.output:
        raise ValueError("output needs a log: what streams goes to stdout.")
    if args.output:
        check_output("output", args.output)
    format = args.format or ("vtt" if args.output and args.output.lower().endswith(".vtt") else "srt")
    cues = _live_cues(args) if args.log == "-" else _cues_of_log(args)
    pieces = write_cues(cues, format)
    if args.output:
        write_text(args.output, "".join(pieces))
        print(f"written: {args.output}", file=sys.stderr)
        return 0
    for piece in pieces:
        print(piece, end="", flush=True)
    return 0


def _rules(args: argparse.Namespace, joiner: str = " ", live: bool = False) -> Any:
    from ..streaming.subtitles import Subtitles

    return Subtitles(
        line_length=args.line_length,
        max_lines=args.max_lines,
        reading_speed=args.reading_speed,
        min_s=args.min_seconds,
        max_s=args.max_seconds,
        pause_s=args.pause_seconds,
        live=args.live or live,
        joiner=joiner,
    )


def _cues_of_log(args: argparse.Namespace) -> Iterable[Any]:
    from ..evaluation.logs import read_log
    from ..evaluation.timeline import timed_words

    sources, references = (read_lines(path) if path else [] for path in (args.sources, args.references))
    words = list(timed_words(read_log(args.log, args.words_per_second, sources, references), args.words_per_second))
    subtitles = _rules(args, words[0].joiner if words else " ")
    cues = [cue for word in words for cue in subtitles.put(word.text, word.time_s, word.is_last)] + subtitles.end()
    if cues:
        speech_s = words[-1].time_s
        print(f"{len(cues)} subtitles; the last goes {cues[-1].end_s - speech_s:.1f} s after its word", file=sys.stderr)
    return cues


def _live_cues(args: argparse.Namespace) -> Iterator[Any]:
    """Make cues of standard input's words, timed as they arrive."""
    subtitles, started = _rules(args, live=True), time.monotonic()
    lines: queue.Queue[tuple[float, str | BaseException | None]] = queue.Queue(_MOST_WAITING)

    def read() -> None:
        last: str | BaseException | None = None
        try:
            for line in sys.stdin:
                lines.put((time.monotonic() - started, line))
        except BaseException as error:
            last = error
        lines.put((time.monotonic() - started, last))

    threading.Thread(target=read, daemon=True).start()
    number = 0
    while True:
        # A pause ends a cue, though nothing comes.
        deadline = subtitles.deadline_s
        now = time.monotonic() - started
        with contextlib.suppress(queue.Empty):
            arrived, line = lines.get(timeout=None if deadline is None else max(0.0, deadline - now))
            if isinstance(line, BaseException):
                raise line
            if line is None:
                yield from subtitles.wait_until(arrived)
                yield from subtitles.end()
                return
            number += 1
            if line.strip():
                yield from subtitles.put(_word(line, number), arrived)
            continue
        yield from subtitles.wait_until(max(deadline or 0.0, time.monotonic() - started))


def _word(line: str, number: int) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise ValueError(f"line {number} must be a word as `translate --json` writes it, got {line[:60]!r}.")
    return text


__all__ = ["add_command"]
