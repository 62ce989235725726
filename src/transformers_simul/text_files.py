# SPDX-License-Identifier: Apache-2.0
"""Text files: lines and JSON lines with errors that say where, and writing that is whole or not at all."""

import contextlib
import gzip
import json
import os
import re
import stat
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# But for tabs and line feeds.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return a text for a terminal, whoever wrote it: nothing in it moves the cursor, sets a title or answers for the
    user.

    Args:
        text (`str`): of a model, a server or a file; each of its control characters becomes U+FFFD.

    Example:

    ```python
    >>> from transformers_simul.text_files import printable
    >>> printable("ein Hund" + chr(27) + "[2J") == "ein Hund" + chr(0xFFFD) + "[2J"
    True

    ```
    """
    return _CONTROLS.sub("\ufffd", text)


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line; of a file, its name before what is wrong with it.

    Args:
        error (`BaseException`): of ours, of a library or of the operating system.

    Example:

    ```python
    >>> from transformers_simul.text_files import one_line
    >>> one_line(FileNotFoundError(2, "No such file or directory", "news.en"))
    'news.en: No such file or directory'

    ```
    """
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    # Messages of libraries may have many lines.
    return printable(" ".join(str(error).split()))


def read_lines(path: str | os.PathLike, keep_ends: bool = False) -> list[str]:
    """Read lines, split at line feeds alone: other Unicode line breaks stay inside a sentence.

    Args:
        path (`str` or `os.PathLike`): of a text file; `.gz` is undone.
        keep_ends (`bool`, *optional*): keep the line feeds.

    Raises:
        ValueError: if the file is not UTF-8, with the line; or if a `.gz` is damaged.
    """
    lines = _read_text(Path(path)).replace("\r\n", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line + "\n" for line in lines] if keep_ends else lines


def json_rows(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield one JSON object a line, with its number from 1.

    Args:
        path (`str` or `os.PathLike`): of the file.

    Raises:
        ValueError: if a line is none; with its number.
    """
    for number, line in enumerate(read_lines(path), start=1):
        row = _parse_json(line, f"line {number} of {str(path)!r}")
        if not isinstance(row, dict):
            raise ValueError(f"line {number} of {str(path)!r} must be a JSON object, got {line[:40]!r}.")
        yield number, row


def read_json(path: str | os.PathLike) -> Any:
    """Return what a JSON file holds.

    Args:
        path (`str` or `os.PathLike`): of the file.

    Raises:
        ValueError: if it is no JSON; with its name.
    """
    return _parse_json(_read_text(Path(path)), f"file {str(path)!r}")


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"file {str(path)!r} must be whole gzip data: {error}.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"file {str(path)!r} must be UTF-8, but line {line} is not: {error.reason}.") from error


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    # Besides JSONDecodeError, a ValueError tells of numbers with too many digits.
    except ValueError as error:
        raise ValueError(f"{where} must be JSON: {error}.") from error
    except RecursionError as error:
        raise ValueError(f"{where} must be JSON that is nested less deeply.") from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Replace a text file atomically, in UTF-8; see [`write_bytes`].

    Raises:
        ValueError: for a text with a lone surrogate, which is no Unicode.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text for {str(path)!r} must be Unicode without lone surrogates: {error}.") from error
    write_bytes(path, data)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Replace a file atomically: written beside it, flushed to the disk, then renamed.

    The file that a symbolic link names is replaced, not the link. A replaced file keeps its mode and, as far as that is
    allowed, its owner. What is no regular file, such as a device or a FIFO, is written to.

    Args:
        path (`str` or `os.PathLike`): of the file; its folder is made.
        data (`bytes`): all of it.

    Raises:
        OSError: if it cannot be written; the old file is untouched then.
    """
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        with open(path, "wb") as file:
            file.write(data)
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        # Nobody may read it who could not read the old one.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if old is None else 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if old is not None:
            _take_owner_and_mode(temporary, old)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _take_owner_and_mode(path: Path, old: os.stat_result) -> None:
    new = os.stat(path)
    if hasattr(os, "chown") and (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(PermissionError):
            os.chown(path, old.st_uid, old.st_gid)
    os.chmod(path, stat.S_IMODE(old.st_mode))


__all__ = ["json_rows", "one_line", "printable", "read_json", "read_lines", "write_bytes", "write_text"]
