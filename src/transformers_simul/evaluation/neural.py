# SPDX-License-Identifier: Apache-2.0
"""Files for metrics that run in an environment of their own, since COMET does not install beside Transformers 5."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..text_files import read_json, read_lines, write_text
from .instances import Instance
from .quality import Quality, mean_quality

_FILES = {"sources.txt": "source", "predictions.txt": "prediction", "references.txt": "reference"}


def write_neural_inputs(folder: str | os.PathLike, instances: Sequence[Instance]) -> list[Path]:
    """Write `sources.txt`, `predictions.txt` and `references.txt`, one sentence per line, as COMET's program takes
    them, and return their paths:

    `comet-score -s sources.txt -t predictions.txt -r references.txt --to_json scores.json`

    Example:

    ```python
    >>> import tempfile
    >>> from transformers_simul.evaluation import Instance
    >>> from transformers_simul.evaluation.neural import write_neural_inputs
    >>> log = [Instance(0, "ein Hund", [1, 2], [5.0, 9.0], 2, "ein Hund", "a dog", 2)]
    >>> [path.name for path in write_neural_inputs(tempfile.mkdtemp(), log)]
    ['sources.txt', 'predictions.txt', 'references.txt']

    ```
    """
    paths = []
    for name, field in _FILES.items():
        path = Path(folder) / name
        write_text(path, "".join(" ".join(getattr(each, field).split()) + "\n" for each in instances))
        paths.append(path)
    return paths


def read_neural_scores(path: str | os.PathLike, instances: Sequence[Instance], name: str = "COMET") -> Quality:
    """Read scores of a log: COMET's `--to_json` file, or one number per line.

    Args:
        path (`str` or `os.PathLike`): file of the scores.
        instances (`Sequence[Instance]`): the log that they belong to.
        name (`str`, *optional*): name of the metric, and its key in the JSON.

    Raises:
        ValueError: if they are not numbers, not as many as the sentences, or belong to other sentences.
    """
    lines = read_lines(path)
    if lines and lines[0].lstrip().startswith("{"):
        scores = _comet_scores(path, read_json(path), instances, name)
    else:
        scores = [number for line in lines for number in line.split()]
    try:
        numbers = [float(score) for score in scores]
    except (TypeError, ValueError) as error:
        raise ValueError(f"scores in {str(path)!r} must be JSON or one number a line: {error}.") from error
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"scores in {str(path)!r} must be finite numbers.")
    if len(numbers) != len(instances):
        raise ValueError(
            f"scores in {str(path)!r} must hold one number per sentence, {len(instances)}, got {len(numbers)}."
        )
    return mean_quality(name, numbers, f"file:{Path(path).name}")


def _comet_scores(path: str | os.PathLike, systems: Any, instances: Sequence[Instance], name: str) -> list[Any]:
    rows = next(iter(systems.values()), None)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"scores in {str(path)!r} must hold a list of sentences for each system.")
    for row in rows:
        if missing := [key for key in (name, "mt") if key not in row]:
            raise ValueError(f"scores in {str(path)!r} must hold {missing[0]!r} for each sentence, got {sorted(row)}.")
    if [row["mt"] for row in rows] != [" ".join(each.prediction.split()) for each in instances]:
        raise ValueError(f"scores in {str(path)!r} must belong to the log's predictions, but hold others.")
    return [row[name] for row in rows]


__all__ = ["read_neural_scores", "write_neural_inputs"]
