# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that appear whole or not at all, and the newest one from which a training can go on."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..text_files import write_text

# In the training's folder: checkpoints that are being written or removed. Uploads to the Hub pass over names with "_".
ASIDE = "_incomplete"
# Written last: the size of every other file of the checkpoint.
MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Turn what a library raises when the disk is full into an `OSError`.

    Args:
        path (`Path`): what is written.

    Raises:
        OSError: for `RuntimeError`, as from `torch.save`, and `SafetensorError`.
    """
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise OSError(f"{str(path)!r} could not be written: {error}") from error


def last_checkpoint(folder: Path, processes: int = 1) -> tuple[str | None, list[str]]:
    """Find the newest checkpoint from which a training can go on.

    Args:
        folder (`Path`): folder of the training.
        processes (`int`, *optional*, defaults to 1): how many train together; each needs its random state.

    Returns:
        `tuple[str | None, list[str]]`: the checkpoint, None if there is none; and a sentence with the reason for each
        one that was passed over.

    Example:

    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from transformers_simul.training.checkpoints import last_checkpoint
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "checkpoint-best").mkdir()
    >>> last_checkpoint(folder)[1][0].split("/")[-1]
    "checkpoint-best is passed over: its name is not 'checkpoint-' and a number of steps."

    ```
    """
    passed_over: list[str] = []
    # Names without a number first, so that each is mentioned.
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: -_steps(path)):
        fault = checkpoint_fault(checkpoint, processes)
        if fault is None:
            return str(checkpoint), passed_over
        passed_over.append(f"{checkpoint} is passed over: {fault}.")
    return None, passed_over


def _steps(checkpoint: Path) -> float:
    name = _NAME.fullmatch(checkpoint.name)
    return int(name[1]) if name else float("inf")


def checkpoint_fault(checkpoint: Path, processes: int = 1) -> str | None:
    """Return why a checkpoint was not written whole by [`finish_checkpoint`] or cannot be resumed; None if it can
    be."""
    if not _NAME.fullmatch(checkpoint.name):
        return "its name is not 'checkpoint-' and a number of steps"
    try:
        sizes = dict(json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))["files"])
    except (FileNotFoundError, NotADirectoryError):
        return f"it has no {MARKER}, which is written last"
    except (ValueError, KeyError, TypeError, OSError) as error:
        return f"its {MARKER} cannot be read ({error})"
    for name, size in sizes.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
    return state_fault(checkpoint, processes)


def state_fault(checkpoint: Path, processes: int = 1) -> str | None:
    """Return what a checkpoint of any Trainer lacks to resume the same training; None if it lacks nothing."""
    names = [str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*")]
    # DeepSpeed keeps optimizer and scheduler in one folder of its own.
    is_deepspeed = any(name.startswith("global_step") for name in names)
    if not is_deepspeed and not any(name.startswith("optimizer") for name in names):
        return "it holds no optimizer state"
    if not is_deepspeed and "scheduler.pt" not in names:
        return "it holds no state of the learning rate's schedule"
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{index}.pth" for index in range(processes)]
    for state in states:
        if state not in names:
            return f"it holds no random state, {state}, as {processes} process(es) need it"
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        return f"its trainer_state.json cannot be read ({error})"
    return None


def checkpoint_notes(checkpoint: str | os.PathLike) -> dict[str, Any]:
    """Return what [`finish_checkpoint`] noted; nothing for a checkpoint of another Trainer."""
    marker = Path(checkpoint) / MARKER
    return json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else {}


def finish_checkpoint(written: Path, target: Path, notes: Mapping[str, Any]) -> None:
    """Let a checkpoint that was written aside appear under its name, after all of it has reached the disk.

    Args:
        written (`Path`): the folder that was written, in `ASIDE`.
        target (`Path`): its final path; a checkpoint that is there is replaced.
        notes (`Mapping`): further things to write into the marker.

    Raises:
        OSError: if something cannot be written; `target` is untouched then.
    """
    files = sorted(path for path in written.rglob("*") if path.is_file())
    for path in files:
        _flush(path)
    sizes = {str(path.relative_to(written)): path.stat().st_size for path in files}
    write_text(written / MARKER, json.dumps({"files": sizes, **notes}))
    old = written.with_name(f"{target.name}.old")
    if target.exists():
        os.replace(target, old)
    os.replace(written, target)
    _flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    # Elsewhere a folder cannot be opened, nor a file be flushed that is open for reading.
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def drop_old_checkpoints(newest: Path, most: int | None, best: str | None = None) -> None:
    """Remove whole checkpoints of earlier steps; one that has another name or is not whole is not touched.

    Args:
        newest (`Path`): the checkpoint that was written last; it stays.
        most (`int`, *optional*): number of checkpoints to keep, the best among them; None or 0 keeps all.
        best (`str`, *optional*): a checkpoint that stays.
    """
    if not most:
        return
    earlier = (path for path in newest.parent.glob("checkpoint-*") if _steps(path) < _steps(newest))
    whole = sorted((path for path in earlier if (path / MARKER).is_file()), key=_steps, reverse=True)
    others = [path for path in whole if best is None or path != Path(best)]
    room = max(0, most - 1 - (len(whole) - len(others)))
    for checkpoint in others[room:]:
        remove_checkpoint(checkpoint)


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove a checkpoint so that no half of it is ever seen: it is renamed first."""
    aside = checkpoint.parent / ASIDE
    aside.mkdir(exist_ok=True)
    doomed = aside / f"{checkpoint.name}.removed"
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(checkpoint, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


__all__ = [
    "ASIDE",
    "MARKER",
    "checkpoint_fault",
    "checkpoint_notes",
    "drop_old_checkpoints",
    "finish_checkpoint",
    "last_checkpoint",
    "remove_checkpoint",
    "state_fault",
]
