# SPDX-License-Identifier: Apache-2.0
"""Files that are read with errors that say where, and written whole or not at all."""

import gzip
import os
import stat
import threading

import pytest

from transformers_simul.text_files import json_rows, read_json, read_lines, write_bytes, write_text


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_replaced_file_keeps_its_mode(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    for kept in (0o600, 0o640, 0o444):
        path.chmod(kept)
        write_text(path, "new")
        assert (path.read_text(), mode(path)) == ("new", kept)
    write_text(tmp_path / "deep" / "fresh", "new")
    (tmp_path / "plain").touch()
    assert mode(tmp_path / "deep" / "fresh") == mode(tmp_path / "plain")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["deep", "plain", "secret"]


@pytest.mark.parametrize("exists", [True, False])
def test_the_file_behind_a_link_is_replaced_and_not_the_link(tmp_path, exists):
    target, first, second = tmp_path / "there" / "file", tmp_path / "first", tmp_path / "second"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    first.symlink_to(target)
    second.symlink_to("first")
    write_text(second, "new")
    assert second.is_symlink()
    assert first.is_symlink()
    assert not target.is_symlink()
    assert target.read_text() == "new"


def test_what_is_no_regular_file_is_written_to(tmp_path):
    path, found = tmp_path / "fifo", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()), daemon=True)
    reader.start()
    write_bytes(path, b"words")
    reader.join(60)
    assert found == [b"words"]
    assert stat.S_ISFIFO(os.stat(path).st_mode)
    link = tmp_path / "null"
    link.symlink_to(os.devnull)
    write_bytes(link, b"words")
    write_bytes(os.devnull, b"words")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert link.is_symlink()
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path, b"words")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full_disk(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_lone_surrogates_are_named(tmp_path):
    with pytest.raises(ValueError, match="text for .*file' must be Unicode without lone surrogates"):
        write_text(tmp_path / "file", "a\ud800")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:20], lambda data: b"no gzip",
                                    lambda data: data[:12] + bytes(8) + data[20:]])  # fmt: skip
def test_damaged_gzip_is_named(tmp_path, damage):
    path = tmp_path / "text.en.gz"
    path.write_bytes(damage(gzip.compress(b"a dog runs over the meadow\n" * 9)))
    with pytest.raises(ValueError, match=r"text.en.gz' must be whole gzip data"):
        read_lines(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON: Expecting"),
        ("[" * 100_000, "must be JSON that is nested less deeply"),
        ("9" * 5000, "must be JSON: Exceeds the limit"),
        ("\xff", "must be UTF-8, but line 1 is not"),
    ],
)
def test_json_that_is_none_is_named(tmp_path, text, message):
    path = tmp_path / "settings.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=f"settings.json' {message}"):
        read_json(path)
    with pytest.raises(ValueError, match=f"settings.json' {message}"):
        list(json_rows(path))
