# SPDX-License-Identifier: Apache-2.0
"""Standard input word by word: from a pipe as it comes, from a terminal key by key, with what is typed and what comes
out on lines of their own."""

import codecs
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ..text_files import printable

_BACKSPACE, _END = "\b\x7f", "\x04"
# Keys such as the arrows send several characters.
_KEY_SEQUENCE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
_ERASE = "\r\x1b[J"


def write(text: str) -> None:
    """Write to standard output at once; to a terminal without control characters, which it would obey.

    Args:
        text (`str`): words or lines.
    """
    print(printable(text) if sys.stdout.isatty() else text, end="", flush=True)


def typed_words(descriptor: int, terminal: "Terminal | None" = None) -> Iterator[str | None]:
    """Yield the words of a terminal or pipe, each as soon as white space follows it; None ends a line.

    Args:
        descriptor (`int`): of a file open for reading.
        terminal (`Terminal`, *optional*): shows what is typed, if the file is a terminal.

    Raises:
        ValueError: if the text is not UTF-8; what came before is yielded first. A byte order mark is left out.

    Example:

    ```python
    >>> import os
    >>> from transformers_simul.cli.keyboard import typed_words
    >>> reader, writer = os.pipe()
    >>> _ = os.write(writer, "Ein  Hund\\nläuft".encode())
    >>> os.close(writer)
    >>> list(typed_words(reader))
    ['Ein', 'Hund', None, 'läuft', None]

    ```
    """
    decoder, word, is_open, line = codecs.getincrementaldecoder("utf-8")(), "", False, 1
    mark, wrong = "\ufeff", None
    while True:
        data = os.read(descriptor, 65536)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            wrong, text = error, error.object[: error.start].decode("utf-8")
        if text:
            text, mark = text.removeprefix(mark), ""
        # What cannot be read may be the rest of the last word.
        ends = not data and wrong is None
        if terminal is not None:
            text, ends = terminal.typed(text, ends)
        if ends and (is_open or word or text):
            text += "\n"
        # Not all white space: no-break spaces stay inside a word.
        for char in text:
            if terminal is not None and char == "\b":
                word = word[:-1]
                continue
            if char not in " \t\r\n":
                word += char
                continue
            if word:
                yield word
            word, is_open = "", char != "\n"
            if not is_open:
                line += 1
                yield None
        if wrong is not None:
            raise ValueError(f"stdin must be UTF-8, but line {line} is not: {wrong.reason}.") from wrong
        if ends:
            return


class Terminal:
    """What is typed on the last line of a screen, and what is written line by line above it.

    A word that white space follows has been read and stays; before that, the backspace key takes characters back.

    Args:
        screen (`TextIO`): a terminal open for writing.

    Example:

    ```python
    >>> import io
    >>> from transformers_simul.cli.keyboard import Terminal
    >>> terminal = Terminal(io.StringIO())
    >>> terminal.typed("A dof\\x7fg ", False)
    ('A dof\\x08g ', False)
    >>> terminal.typed("\\x7f\\x1b[A runs\\x04", False)
    (' runs', True)

    ```
    """

    def __init__(self, screen: TextIO):
        self.screen = screen
        # Written from the thread that translates, typed in the one that reads.
        self._lock = threading.Lock()
        self._source = self._target = ""

    def typed(self, text: str, ends: bool) -> tuple[str, bool]:
        """Show what was typed; what of it is text, with a backspace for each character taken back, and whether the
        input has ended.

        Args:
            text (`str`): what the keys sent.
            ends (`bool`): whether it is the last.
        """
        text, end_key, _ = _KEY_SEQUENCE.sub("", text).partition(_END)
        taken = []
        with self._lock:
            for char in text.replace("\r", "\n"):
                if char in _BACKSPACE:
                    if self._source and self._source[-1] not in " \t":
                        self._source = self._source[:-1]
                        taken.append("\b")
                elif char == "\n":
                    self._show_above(self._source)
                    self._source = ""
                    taken.append(char)
                elif char == "\t" or not unicodedata.category(char).startswith("C"):
                    self._source += char
                    taken.append(char)
            if (ends or end_key) and self._source:
                self._show_above(self._source)
                self._source = ""
            self._draw()
        return "".join(taken), ends or bool(end_key)

    def write(self, text: str) -> None:
        """Show what was translated: whole lines above, the rest below what is typed.

        Args:
            text (`str`): words or lines.
        """
        with self._lock:
            *lines, self._target = (self._target + printable(text)).split("\n")
            for line in lines:
                self._show_above(line)
            self._draw()

    def _show_above(self, line: str) -> None:
        self.screen.write(f"{_ERASE}{line}\n")

    def _draw(self) -> None:
        """Draw what is typed and, below it, what is written so far: of each the end that fits into the window."""
        width = _width(self.screen) - 1
        source = _end_of(self._source, width)
        below = f"\n{_end_of(self._target, width)}\x1b[A" if self._target else ""
        right = f"\x1b[{_columns(source)}C" if source else ""
        self.screen.write(f"{_ERASE}{source}{below}\r{right}")
        self.screen.flush()


@contextmanager
def key_by_key(descriptor: int) -> Iterator[None]:
    """Let a terminal send every key at once and show none of them; at the end it is what it was.

    Args:
        descriptor (`int`): of the terminal.
    """
    # Not on every system.
    import termios
    import tty

    before = termios.tcgetattr(descriptor)
    try:
        # At once, and not TCSAFLUSH, which throws away what was typed before.
        tty.setcbreak(descriptor, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _width(screen: TextIO) -> int:
    try:
        return os.get_terminal_size(screen.fileno()).columns or 80
    except OSError:
        return 80


def _columns(text: str) -> int:
    """Return the number of columns that a terminal takes for a text."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def _end_of(text: str, width: int) -> str:
    text = text.replace("\t", " ")
    while _columns(text) > width:
        text = text[1:]
    return text


__all__ = ["Terminal", "key_by_key", "typed_words", "write"]
