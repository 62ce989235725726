# SPDX-License-Identifier: Apache-2.0
"""One translated sentence with its delays, and SimulEval's `instances.log`: one JSON object per line."""

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any

from ..text_files import json_rows, write_text


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

    Raises:
        ValueError: for a text that is not a string, or a number that is not one, is negative or is not finite.
    """

    index: int
    prediction: str
    delays: list[int]
    elapsed: list[float]
    prediction_length: int
    reference: str
    source: str
    source_length: int

    def __post_init__(self) -> None:
        for name in ("prediction", "reference", "source"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a string, got {getattr(self, name)!r}.")
        for name in ("prediction_length", "source_length"):
            _check_number(name, getattr(self, name))
        for name in ("delays", "elapsed"):
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)):
                raise ValueError(f"{name} must be a list of numbers, got {values!r}.")
            for value in values:
                _check_number(f"each of {name}", value)


@dataclass(frozen=True)
class SpeechInstance(Instance):
    """A translated recording; the fields are those of SimulEval's `instances.log` for speech.

    Attributes:
        delays (`list[float]`): milliseconds of audio heard before each target unit.
        elapsed (`list[float]`): when each was there, computing included: milliseconds from the start of the audio.
        source (`str`): the recording's file.
        source_length (`float`): its milliseconds.
    """


def _check_number(name: str, value: Any) -> None:
    # An integer may be larger than any float.
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= sys.float_info.max:
        raise ValueError(f"{name} must be a finite number that is not negative, got {value!r}.")


def write_instances(path: str | os.PathLike, instances: Iterable[Instance]) -> None:
    """Write a log; the file appears whole or not at all."""
    write_text(path, "".join(instance_line(instance) for instance in instances))


def instance_line(instance: Instance) -> str:
    """Return an instance as a line of a log, line feed included."""
    values = asdict(instance)
    if isinstance(instance, SpeechInstance):
        # As SimulEval: the file, and what it is; by the list a log of speech is known.
        values["source"] = [instance.source, "samplerate: 16000 Hz", "channels: 1"]
    return json.dumps(values, ensure_ascii=False) + "\n"


def read_instances(path: str | os.PathLike) -> list[Instance]:
    """Read a log.

    Raises:
        ValueError: if a line is not an instance; with its number.
    """
    instances = []
    known = [field.name for field in fields(Instance)]
    for number, values in json_rows(path):
        try:
            # SimulEval adds fields for some units; none of ours may be missing.
            fitting = {name: values[name] for name in known} | {"reference": values["reference"] or ""}
            kind = Instance
            if isinstance(fitting["source"], list) and fitting["source"]:
                kind, fitting["source"] = SpeechInstance, fitting["source"][0]
            instance = kind(**fitting)
        except KeyError as error:
            raise ValueError(
                f"line {number} of {str(path)!r} must be an instance of a log, but has no {error}."
            ) from error
        except ValueError as error:
            raise ValueError(f"line {number} of {str(path)!r} must be an instance of a log: {error}") from error
        if not len(instance.delays) == len(instance.elapsed) == instance.prediction_length:
            raise ValueError(
                f"line {number} of {str(path)!r} must hold as many delays and elapsed times as prediction_length, "
                f"{instance.prediction_length}, got {len(instance.delays)} and {len(instance.elapsed)}."
            )
        instances.append(instance)
    return instances


__all__ = ["Instance", "SpeechInstance", "instance_line", "read_instances", "write_instances"]
