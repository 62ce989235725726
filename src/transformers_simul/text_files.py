# SPDX-License-Identifier: Apache-2.0
"""Text files: lines and JSON lines with errors that say where, and writing that is whole or not at all."""

import gzip
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_lines(path: str | os.PathLike, keep_ends: bool = False) -> list[str]:
    """Lines split at line feeds alone: other Unicode line breaks stay inside a sentence.

    Args:
        path (`str` or `os.PathLike`): of a text file; `.gz` is undone.
        keep_ends (`bool`, *optional*): keep the line feeds.

    Raises:
        ValueError: if the file is not UTF-8; with the line.
    """
    path = Path(path)
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"file {str(path)!r} must be UTF-8, but line {line} is not: {error.reason}.") from error
    lines = text.replace("\r\n", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line + "\n" for line in lines] if keep_ends else lines


def json_rows(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """One JSON object a line, with its number from 1.

    Args:
        path (`str` or `os.PathLike`): of the file.

    Raises:
        ValueError: if a line is none; with its number.
    """
    for number, line in enumerate(read_lines(path), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} of {str(path)!r} must be JSON: {error}.") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} of {str(path)!r} must be a JSON object, got {line[:40]!r}.")
        yield number, row


def write_text(path: str | os.PathLike, text: str) -> None:
    """Replace a text file atomically, in UTF-8; see [`write_bytes`]."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Replace a file atomically: written beside it, flushed to the disk, then renamed.

    Args:
        path (`str` or `os.PathLike`): of the file; its folder is made.
        data (`bytes`): all of it.

    Raises:
        OSError: if it cannot be written; the old file is untouched then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


__all__ = ["json_rows", "read_lines", "write_bytes", "write_text"]
