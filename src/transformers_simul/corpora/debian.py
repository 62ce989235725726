# SPDX-License-Identifier: Apache-2.0
"""Packages of a Debian or Ubuntu system as archives of data: downloaded, kept, read; never installed."""

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def fetch_package(name: str, folder: Path) -> Path:
    """The package's file; the newest that is there, or downloaded with `apt-get`, which checks signatures.

    Args:
        name (`str`): of the package; its version is that of the system's release.
        folder (`Path`): where packages are kept.

    Raises:
        ValueError: without `dpkg-deb` and `apt-get`, or if there is no such package.
    """
    if not shutil.which("dpkg-deb"):
        raise ValueError(f"{name} is read from a Debian package: dpkg-deb must be there.")
    found = sorted(folder.glob(f"{name}_*.deb"))
    if found:
        return found[-1]
    if not shutil.which("apt-get"):
        raise ValueError(f"{name} is downloaded with apt-get, which must be there.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        done = subprocess.run(["apt-get", "download", name], cwd=temporary, capture_output=True, text=True, check=False)
        files = list(Path(temporary).glob("*.deb"))
        if done.returncode or not files:
            raise ValueError(f"apt-get must find {name}, but says: {done.stderr.strip() or 'nothing'}")
        return Path(shutil.move(files[0], folder / files[0].name))


def package_files(package: Path, wants: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of some of a package's files.

    Args:
        package (`Path`): of a `.deb`.
        wants (`Callable`): whether a name is wanted.

    Raises:
        ValueError: if it is broken.
    """
    broken = f"package {str(package)!r} must be one that dpkg-deb reads; remove it to download it anew"
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as reader:
        try:
            with tarfile.open(fileobj=reader.stdout, mode="r|") as archive:
                for member in archive:
                    if wants(member.name) and (file := archive.extractfile(member)):
                        yield member.name, file.read()
        except tarfile.TarError as error:
            raise ValueError(f"{broken}: {error}.") from error
    if reader.returncode:
        raise ValueError(f"{broken}: it ended with {reader.returncode}.")


__all__ = ["fetch_package", "package_files"]
