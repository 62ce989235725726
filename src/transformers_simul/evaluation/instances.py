# SPDX-License-Identifier: Apache-2.0
"""One translated sentence with its delays, and SimulEval's `instances.log`: one JSON object a line."""

import json
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Instance:
    """A translated sentence; the fields are those of SimulEval's `instances.log` for text.

    Attributes:
        index (`int`): its number in the corpus.
        prediction (`str`): what was written.
        delays (`list[int]`): source units read before each target unit.
        elapsed (`list[float]`): milliseconds since the start when each was written.
        prediction_length (`int`): target units written.
        reference (`str`): the reference translation.
        source (`str`): the source text.
        source_length (`int`): source units.
    """

    index: int
    prediction: str
    delays: list[int]
    elapsed: list[float]
    prediction_length: int
    reference: str
    source: str
    source_length: int


def write_instances(path: str | os.PathLike, instances: Iterable[Instance]) -> None:
    """Write a log; the file appears whole or not at all.

    Args:
        path (`str` or `os.PathLike`): of the log; its folder is made.
        instances (`Iterable[Instance]`): in order.
    """
    text = "".join(json.dumps(asdict(instance), ensure_ascii=False) + "\n" for instance in instances)
    write_text(path, text)


def read_instances(path: str | os.PathLike) -> list[Instance]:
    """Read a log.

    Raises:
        ValueError: if a line is no instance; with its number.
    """
    instances = []
    known = [field.name for field in fields(Instance)]
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            # SimulEval adds fields for some units; none of ours may be missing.
            instance = Instance(**{name: values[name] for name in known})
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"line {number} of {str(path)!r} must be an instance of a log: {error!r}.") from error
        if not len(instance.delays) == len(instance.elapsed) == instance.prediction_length:
            raise ValueError(
                f"line {number} of {str(path)!r} must hold as many delays and elapsed times as prediction_length, "
                f"{instance.prediction_length}, got {len(instance.delays)} and {len(instance.elapsed)}."
            )
        instances.append(instance)
    return instances


def write_text(path: str | os.PathLike, text: str) -> None:
    """Replace a text file atomically: written beside it, flushed to the disk, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


__all__ = ["Instance", "read_instances", "write_instances", "write_text"]
