# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul client`: standard input through a server, or what is said in a room of it."""

import argparse
import importlib.util
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from ..text_files import one_line, printable
from .flags import add_glossary_flags, check_packages, chosen_glossary, read_token_file, wire_glossary
from .keyboard import Terminal, key_by_key, typed_words, write

TOKEN = "TRANSFORMERS_SIMUL_TOKEN"
# What a listener cannot choose.
_SPEAKERS = (
    "room",
    "model",
    "policy",
    "source_lang",
    "max_sentence_words",
    "context_sentences",
    "add_punctuation",
    "glossary",
    "copy_numbers",
)
EXAMPLES = f"""
examples:
  transformers-simul client http://127.0.0.1:8000                  # type; words come out while you do
  transformers-simul client http://127.0.0.1:8000 --policy wait-5 --show-delays < news.en
  transformers-simul client https://a.example https://b.example --token-file token.txt --room talk
  transformers-simul client http://127.0.0.1:8000 --listen talk --target-lang de

With several addresses the next one goes on where a connection was lost. The token stands in the file or in the variable
{TOKEN}.
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "client",
        help="translate standard input through a server, or listen to a room",
        description="Translate standard input through `transformers-simul serve`, word by word as it arrives; a lost "
        "connection is resumed.",
        epilog=EXAMPLES,
    )
    parser.add_argument("url", nargs="+", metavar="URL", help="of the server; of further ones with the same models")
    parser.add_argument("--model", help="name of a model of the server (its first)")
    parser.add_argument("--policy", help="name of a policy, such as wait-3 (the server's)")
    parser.add_argument("--source-lang", help="source language")
    parser.add_argument("--target-lang", action="append", help="target language; repeat for more, with --json")
    parser.add_argument("--max-sentence-words", type=int, help="end a sentence after so many words")
    parser.add_argument(
        "--context-sentences", type=int, help="sentences that have ended and stay in view (as many as the model's)"
    )
    parser.add_argument(
        "--add-punctuation",
        action="store_true",
        help="for text without punctuation and capitals: the server adds them at line ends and by its segmenter",
    )
    add_glossary_flags(parser)
    parser.add_argument("--room", help="publish into this room")
    parser.add_argument("--listen", metavar="ROOM", help="print what is said in a room instead")
    parser.add_argument("--token-file", help="a file with the token")
    parser.add_argument("--wait-s", type=float, default=0.0, help="wait so long for a server and a place (0)")
    parser.add_argument("--give-up-s", type=float, default=120.0, help="try so long to get a connection back (120)")
    parser.add_argument(
        "--show-delays", action="store_true", help="print a line per word: source words read, milliseconds, word"
    )
    parser.add_argument("--json", action="store_true", help="print the server's messages as JSON lines")
    parser.set_defaults(run=_client)


def _client(args: argparse.Namespace) -> int:
    check_extra()
    if args.listen is not None:
        for name in _SPEAKERS:
            if getattr(args, name) not in (None, False):
                raise ValueError(f"listen takes no {name.replace('_', '-')}: the speaker chooses.")
    if len(args.target_lang or []) > 1 and not args.json:
        raise ValueError(f"target-lang may be given once without json, got {args.target_lang}.")
    args.terms = chosen_glossary(args)
    from ..serving.client import PlainSimulClient, ServerError

    client = PlainSimulClient(
        *args.url, token=chosen_token(args.token_file), give_up_s=args.give_up_s, on_lost=say_lost
    )
    try:
        return _listen(client, args) if args.listen is not None else _speak(client, args)
    except ServerError as error:
        raise ValueError(str(error)) from error


def check_extra() -> None:
    """Whether the client's packages are there.

    Raises:
        ValueError: if one is not.
    """
    check_packages("the client", ("anyio", "pydantic", "tenacity", "websockets"), "client")


def chosen_token(file: str | None) -> str | None:
    """The token of a file, or of the environment.

    Args:
        file (`str`, *optional*): with the token alone.

    Raises:
        ValueError: if it cannot be read, or is empty.
    """
    if file is None:
        return os.environ.get(TOKEN) or None
    token = read_token_file(file).strip()
    if not token:
        raise ValueError(f"token-file must hold a token, got none in {file!r}.")
    return token


def say_lost(error: Exception) -> None:
    """Tell of a connection that was lost.

    Args:
        error (`Exception`): why.
    """
    print(f"connection lost ({one_line(error)}); trying again", file=sys.stderr, flush=True)


class _Shown:
    """Words of a stream as they are shown; a line of source makes a line of translation."""

    def __init__(self, args: argparse.Namespace, joiner: str, write: Callable[[str], None] = write):
        self.args, self.joiner, self.write = args, joiner, write
        # Where lines of source end, in source words; and how far the translation is.
        self._ends: deque[int] = deque()
        self._done = 0
        self._is_begun = False
        self._lock = threading.Lock()

    def end_line(self, source_words: int) -> None:
        """Note that a line of source ends after so many words."""
        with self._lock:
            self._ends.append(source_words)
            self._end_lines()

    def show(self, message: Any) -> None:
        """Show a message of the server."""
        with self._lock:
            if self.args.json:
                self.write(message.model_dump_json(exclude_none=True) + "\n")
            elif message.type == "word" and self.args.show_delays:
                self.write(f"{message.delay}\t{message.elapsed_ms:.0f}\t{message.text}\n")
            elif message.type == "word":
                self.write((self.joiner if self._is_begun else "") + message.text)
                self._is_begun = True
            if message.type == "warning":
                print(printable(f"warning: {message.message}"), file=sys.stderr)
            elif message.type == "sentence_end":
                self._done = message.source_words
                if message.reason != "eos":
                    print(f"a translation was cut off ({message.reason})", file=sys.stderr)
                self._end_lines()

    def _end_lines(self) -> None:
        while self._ends and self._ends[0] <= self._done:
            self._ends.popleft()
            self._is_begun = False
            if not self.args.json:
                self.write("\n")


def _speak(client: Any, args: argparse.Namespace) -> int:
    with ExitStack() as stack:
        stream = stack.enter_context(
            client.open(
                model=args.model,
                policy=args.policy,
                source_lang=args.source_lang,
                target_langs=args.target_lang,
                max_sentence_words=args.max_sentence_words,
                context_sentences=args.context_sentences,
                add_punctuation=args.add_punctuation,
                room=args.room,
                wait_s=args.wait_s,
                **wire_glossary(args),
            )
        )
        is_typed = sys.stdin.isatty() and importlib.util.find_spec("termios") is not None
        terminal = Terminal(sys.stdout if sys.stdout.isatty() else sys.stderr) if is_typed else None
        if is_typed:
            stack.enter_context(key_by_key(sys.stdin.fileno()))
            print("ready: words come out while you type; Enter ends a text, Ctrl-D the program", file=sys.stderr)
        show = terminal.write if terminal and sys.stdout.isatty() else write
        shown = _Shown(args, "" if stream.started.unit == "char" else " ", show)
        failures: list[BaseException] = []
        feeder = threading.Thread(target=_feed, args=(stream, shown, terminal, failures), daemon=True)
        feeder.start()
        for message in stream.messages():
            shown.show(message)
        if failures:
            raise failures[0]
        return 0


def _feed(stream: Any, shown: _Shown, terminal: Terminal | None, failures: list[BaseException]) -> None:
    """Send standard input to its end."""
    between = "" if stream.started.unit == "char" else " "
    try:
        for word in typed_words(sys.stdin.fileno(), terminal):
            if word is not None:
                stream.put(word + between)
                continue
            stream.end_sentence()
            stream.flush()
            shown.end_line(stream.source_words)
        stream.end()
    except Exception as error:
        # If a stream has failed or was given up, its reader says why.
        failures.append(error)
        # It may have ended, and been closed, by now.
        with suppress(RuntimeError):
            stream.cancel()


def _listen(client: Any, args: argparse.Namespace) -> int:
    with client.listen(args.listen, args.target_lang, wait_s=args.wait_s) as listener:
        shown, languages = None, set()
        for message in listener.messages():
            if message.type == "room":
                print(printable(f"room {message.room}: {message.state}"), file=sys.stderr, flush=True)
                languages |= set(message.target_langs) if args.target_lang is None else set()
                if len(languages) > 1 and not args.json:
                    raise ValueError(f"target-lang must be one of {sorted(languages)} without json, got none.")
            shown = shown or _Shown(args, " ")
            shown.joiner = "" if listener.state.unit == "char" else " "
            if args.json or message.type == "word":
                shown.show(message)
            elif message.type == "sentence_end":
                shown.end_line(message.source_words)
                shown.show(message)
        return 0


__all__ = ["add_command", "check_extra", "chosen_token", "say_lost"]
