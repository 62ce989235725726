# SPDX-License-Identifier: Apache-2.0
"""Run the gallery's recipes with the model of this repository, and write their outputs into the page.

Usage: python docs/tools/gallery.py   (a quarter of a minute)
"""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "gallery.md"
SERVED = "http://127.0.0.1:8000"
# A recipe, and the output behind it.
RECIPE = re.compile(r"^```(python|bash)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_WIDTH = 120
_CAPTIONS = """I will tell you what I think about it.
We have to learn how to use this machine before we can sell it.
There is a picture on the wall, and a table under the window.
"""


def run_python(code: str, names: dict[str, Any]) -> str:
    """What a block prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "a recipe of the gallery", "exec"), names)
    return printed.getvalue()


def run_bash(code: str) -> str:
    """What a block writes to standard output."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "-euo", "pipefail", "-c", code]
    return subprocess.run(
        command, env=os.environ | {"PATH": programs}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


@contextlib.contextmanager
def server() -> Iterator[None]:
    """The server that the client's recipe talks to."""
    # Another's answers would stand in the page.
    if _is_ready():
        raise SystemExit(f"error: {SERVED} must be free, but a server answers there.")
    process = subprocess.Popen([sys.executable, "-m", "transformers_simul.cli", "serve", "models/simul-falcon-en-de"])
    try:
        while not _is_ready():
            if process.poll() is not None:
                raise SystemExit(f"error: the server of {SERVED} has ended, with status {process.returncode}.")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def _is_ready() -> bool:
    try:
        with urllib.request.urlopen(f"{SERVED}/readyz", timeout=5):
            return True
    except OSError:
        return False


def filled(page: str) -> str:
    """The page with its outputs; recipes without an output are not run."""
    names: dict[str, Any] = {}

    def with_output(found: re.Match[str]) -> str:
        language, code, output = found.groups()
        if output is None:
            return found[0]
        with server() if SERVED in code else contextlib.nullcontext():
            written = run_bash(code) if language == "bash" else run_python(code, names)
        lines = "".join(f"{_short(line)}\n" for line in written.strip("\n").splitlines())
        return f"```{language}\n{code}```\n\n```text\n{lines}```\n"

    return RECIPE.sub(with_output, page)


def _short(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 4]} ..."


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        for place in ("models/simul-falcon-en-de", "my-team/simul-en-de"):
            Path(place).parent.mkdir()
            Path(place).symlink_to(ROOT / "models" / "simul-falcon-en-de")
        Path("captions.txt").write_text(_CAPTIONS, encoding="utf-8")
        page = filled(page)
        os.chdir(PAGE.parent)
    PAGE.write_text(page, encoding="utf-8")
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
