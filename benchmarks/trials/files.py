# SPDX-License-Identifier: Apache-2.0
"""Logs, tables and archives that are damaged, hostile or nonsense: an error line that names the file, never a score."""

import contextlib
import gzip
import io
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers_simul.cli import main
from transformers_simul.corpora import read_pairs
from transformers_simul.corpora.debian import package_files

from .trial import Case, Trial, in_child

NONSENSE: list[Any] = [
    None, "x", "", [], {}, [[1]], True, -1, 1.5, 10**400, float("nan"), float("inf"), -float("inf"), "\ud800", "1",
]  # fmt: skip


def _log(kind: str, draw: random.Random) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for index in range(draw.randint(1, 3)):
        count = draw.randint(1, 4)
        delays = sorted(draw.randint(1, 5) for _ in range(count))
        words, source = " ".join("ab" for _ in range(count)), "a dog runs over it"
        common = {"index": index, "prediction": words, "reference": "ein Hund", "source_length": 5}
        if kind == "instances":
            elapsed = [10.0 * number for number in range(1, count + 1)]
            lines.append(common | {"delays": delays, "elapsed": elapsed, "prediction_length": count, "source": source})
        else:
            lines.append(common | {"emission_cu": delays})
    return lines


def _nonsense(draw: random.Random, path: Path) -> bool:
    """One value of a log is another; whether scoring it would be a lie."""
    lines = _log(draw.choice(("instances", "omnisteval")), draw)
    line = draw.choice(lines)
    name = draw.choice([name for name in line if name != "index"])
    value = draw.choice(NONSENSE)
    # A fraction may be milliseconds of speech; in texts a reader may take what it likes.
    lies = name in ("delays", "elapsed", "emission_cu", "source_length", "prediction_length") and value not in (
        1.5,
        True,
    )
    if isinstance(line[name], list) and draw.random() < 0.7:
        line[name][draw.randrange(len(line[name]))] = value
    else:
        line[name] = value
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return lies


def _missing(draw: random.Random, path: Path) -> bool:
    lines = _log("instances", draw)
    line = draw.choice(lines)
    del line[draw.choice(list(line))]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return True


def _bytes(draw: random.Random, path: Path) -> bool:
    text = "".join(json.dumps(each) + "\n" for each in _log("instances", draw))
    data = bytearray(text.encode())
    for _ in range(draw.choice((1, 3, 30))):
        data[draw.randrange(len(data))] = draw.randrange(256)
    path.write_bytes(data[: draw.randint(0, len(data))])
    return False


def _deep(draw: random.Random, path: Path) -> bool:
    opening = draw.choice(("[", '{"a":', '{"delays": ['))
    path.write_text(opening * draw.choice((10, 5_000, 200_000)) + "\n", encoding="utf-8")
    return True


def _score(draw: random.Random, room: Path) -> None:
    path = room / "instances.log"
    must_fail = draw.choice((_nonsense, _nonsense, _nonsense, _missing, _bytes, _deep))(draw, path)
    flags = draw.choice(([], ["--words-per-second", "2"], ["--unit", "char"], ["--json"]))
    outcome = in_child(lambda: main(["score", str(path), "--bootstrap", "3", *flags]), memory_bytes=2 << 30)
    _check(outcome, must_fail, path, flags)
    assert outcome.status or "nan" not in outcome.output.lower(), (path.read_bytes()[:600], flags, outcome)


def _table(draw: random.Random, room: Path) -> None:
    """Sentence pairs in all formats, whole, cut off and garbled."""
    suffix = draw.choice((".jsonl", ".csv", ".tsv", ".parquet", ".json"))
    rows = [{"en": f"a dog {number}", "de": f"ein Hund {number}"} for number in range(3)]
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
        data = buffer.getvalue()
    elif suffix.startswith(".json"):
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    else:
        mark = "," if suffix == ".csv" else "\t"
        data = "".join(mark.join(row) + "\n" for row in [["en", "de"], *(row.values() for row in rows)]).encode()
    if draw.random() < 0.2:
        data += draw.choice((b'"' * 1000, b"x" * 200_000, b"\0", b"[" * 100_000, b"\n\n", b'"' + b"y" * 200_000))
    packed = draw.random() < 0.5 and suffix != ".parquet"
    data = gzip.compress(data) if packed else data
    spoilt = bytearray(data[: draw.choice((len(data), draw.randrange(len(data) + 1)))])
    if spoilt and draw.random() < 0.5:
        spoilt[draw.randrange(len(spoilt))] = draw.randrange(256)
    path = room / f"pairs{suffix}{'.gz' if packed else ''}"
    path.write_bytes(spoilt)

    def read() -> int:
        try:
            return int(not read_pairs(str(path), "en", "de"))
        except (ValueError, OSError) as error:
            print(f"error: {error}")
            return 1

    _check(in_child(read, memory_bytes=2 << 30), False, path)


def _package(draw: random.Random, room: Path) -> None:
    """A Debian package that is none, or that holds names which lead elsewhere: names are given, nothing is unpacked."""
    path = room / "corpus_1_all.deb"
    path.write_bytes(draw.choice((b"", b"!<arch>\n", b"\x1f\x8b" + draw.randbytes(50), draw.randbytes(400))))

    def read() -> int:
        try:
            return int(not list(package_files(path, lambda name: True)))
        except (ValueError, OSError) as error:
            print(f"error: {error}")
            return 1

    _check(in_child(read), True, path)


def _check(outcome, must_fail: bool, path: Path, flags: Any = ()) -> None:
    shown = path.read_bytes()[:600]
    outcome.check_plain()
    assert outcome.status in (0, 1), (outcome, shown, flags)
    if must_fail:
        assert outcome.status == 1, ("this has no score", shown, flags, outcome)
    if outcome.status:
        assert "error:" in outcome.output, (outcome, shown, flags)
        # Of a log that could be read, its sentence.
        named = path.name in outcome.output or "instance" in outcome.output
        assert named, ("the error does not name the file", outcome, shown, flags)


@contextlib.contextmanager
def prepare() -> Iterator[Case]:
    kinds = [_score, _score, _table, *([_package] if shutil.which("dpkg-deb") else [])]
    with tempfile.TemporaryDirectory() as temporary:
        # Here too, so that no case needs to import anything.
        log = Path(temporary) / "instances.log"
        log.write_text(json.dumps(_log("instances", random.Random(0))[0]), encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["score", str(log), "--bootstrap", "3"]) == 0

        def case(draw: random.Random) -> None:
            room = Path(temporary) / "case"
            shutil.rmtree(room, ignore_errors=True)
            room.mkdir()
            draw.choice(kinds)(draw, room)

        yield case


TRIAL = Trial(
    "files",
    "logs, tables and archives that are damaged or nonsense give one error line that names the file, never a score",
    prepare,
    {"smallest": 6, "small": 60, "full": 3_000},
    {"smallest": 60, "small": 10, "full": 200},
)
