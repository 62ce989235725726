# SPDX-License-Identifier: Apache-2.0
"""Translate a corpus under a policy, some sentences at a time, and log the result."""

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from .. import __version__
from ..downloads import file_sha256
from ..models.policies import Policy
from ..models.row_decoder import RowDecoder
from ..models.rows import per_row
from ..text_files import read_json, write_text
from .corpus_rows import CorpusRows
from .instances import Instance, read_instances, write_instances

_logger = logging.getLogger(__name__)


def translate_corpus(
    model: Any,
    processor: Any,
    sources: Sequence[str],
    references: Sequence[str],
    policy: Policy,
    batch_size: int = 16,
    **kwargs: Any,
) -> list[Instance]:
    """Translate sentences simultaneously, each on its own; how many at a time changes speed, not output.

    Under `accelerate launch` or `torchrun`, every process translates its share and all of them get the whole.

    Args:
        model: of any family, put into evaluation mode.
        processor (`SimulProcessor`): saved beside it.
        sources, references (`Sequence[str]`): one per sentence.
        policy (`Policy`): when to READ and WRITE.
        batch_size (`int`, *optional*): sentences at a time; where one ends, the next begins.
        **kwargs: further arguments of `generate()` that concern one row; `generators`, one for each sentence.

    Returns:
        `list[Instance]`: in the order of `sources`.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.evaluation.decode import translate_corpus
    >>> log = translate_corpus(model, processor, ["a dog", "a"], ["ein Hund", "ein"], WaitKPolicy(1), max_new_tokens=4)
    >>> [(each.index, each.source_length) for each in log]
    [(0, 2), (1, 1)]

    ```
    """
    translated = translate_sentences(model, processor, sources, references, policy, batch_size, **kwargs)
    cut = [instance.index + 1 for instance, stop_reason in translated if stop_reason != "eos"]
    if cut:
        some = ", ".join(map(str, cut[:5])) + (", ..." if len(cut) > 5 else "")
        _logger.warning(
            f"{len(cut)} of {len(sources)} translations were cut off at their limit of tokens: sentences {some}."
        )
    return [instance for instance, _ in translated]


def translate_sentences(
    model: Any,
    processor: Any,
    sources: Sequence[str],
    references: Sequence[str],
    policy: Policy,
    batch_size: int = 16,
    **kwargs: Any,
) -> list[tuple[Instance, str]]:
    """Do as [`translate_corpus`], and return for each sentence also why its translation stopped; `"eos"` if it is
    complete."""
    model.eval()
    if "generators" in kwargs:
        per_row("generators", kwargs["generators"], len(sources))
    rows = CorpusRows(model, processor, policy, batch_size, **kwargs)
    # Long sentences first, so that all rows, and all processes, finish at about the same time, and rows that share a
    # forward are of like length.
    order = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
    state = PartialState()
    mine = order[state.process_index :: state.num_processes]
    translated: dict[int, tuple[Instance, str]] = {}
    shows = state.is_main_process
    with tqdm(total=len(mine), desc=repr(policy), unit="sentence", disable=not shows) as progress:

        def on_end(index: int, source_length: int, row: RowDecoder) -> None:
            instance = Instance(
                index=index,
                prediction=processor.text(row.words),
                delays=row.delays,
                elapsed=[round(elapsed, 3) for elapsed in row.elapsed_ms],
                prediction_length=len(row.words),
                reference=references[index],
                source=sources[index],
                source_length=source_length,
            )
            translated[index] = (instance, row.stop_reason)
            progress.update()

        rows.translate([(index, sources[index]) for index in mine], on_end)
    if state.num_processes > 1:
        parts = gather_object([translated])
        translated = {index: each for part in parts for index, each in part.items()}
        if sum(map(len, parts)) != len(sources):
            raise RuntimeError(f"each sentence must be translated once: {len(sources)} became {sum(map(len, parts))}.")
    return [translated[index] for index in range(len(sources))]


def run_settings(policy: Policy, dtype: torch.dtype, device: torch.device, **details: str) -> dict[str, str]:
    """Return the settings of a run, which are part of its log's signature.

    Args:
        policy (`Policy`), dtype (`torch.dtype`), device (`torch.device`): of the run.
        **details (`str`): what else decides the output.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.evaluation.decode import run_settings
    >>> run_settings(WaitKPolicy(3), model.dtype, model.device)["policy"]
    'WaitKPolicy(k=3)'

    ```
    """
    return {
        "policy": repr(policy),
        **details,
        "dtype": str(dtype).removeprefix("torch."),
        "device": device.type,
        "transformers_simul": __version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }


def finished_log(
    path: Path, key: str, translate: Callable[[], list[Instance]], settings: Mapping[str, str]
) -> list[Instance]:
    """Return the log at `path` if it was finished for the same key; otherwise translate a new one and write it there.

    Args:
        path (`Path`): the `instances.log`; its key is stored beside it.
        key (`str`): changes with whatever changes the output; see [`weights_key`].
        translate (`Callable`): makes the log.
        settings (`Mapping[str, str]`): see [`run_settings`]; written to `settings.json` beside the log.
    """
    marker, state = path.with_suffix(".key"), PartialState()
    is_finished = path.is_file() and marker.is_file() and marker.read_text(encoding="utf-8") == key
    # All processes have looked before one writes.
    state.wait_for_everyone()
    if is_finished:
        return read_instances(path)
    instances = translate()
    if state.is_main_process:
        write_instances(path, instances)
        write_text(path.with_name("settings.json"), json.dumps(settings, indent=2) + "\n")
        write_text(marker, key)
    return instances


def finished_json(path: Path, key: str, name: str, make: Callable[[], Any]) -> Any:
    """Return what the file at `path` holds if it was made for the same key; otherwise make it and write it there.

    Args:
        path (`Path`): of a JSON object with `key` and `name`.
        key (`str`): changes with whatever changes the output; see [`weights_key`].
        name (`str`): what the object calls it.
        make (`Callable`): makes it; something that JSON knows.

    Raises:
        ValueError: if the file is no JSON object.
    """
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise ValueError(f"file {str(path)!r} must hold a JSON object.")
    if found.get("key") != key:
        found = {"key": key, name: make()}
        write_text(path, json.dumps(found))
    return found[name]


def weights_key(folder: str, *details: Any) -> str:
    """Hash a folder's weights and further details (by their `repr`) that decide an output. A name on the Hub stands for
    itself."""
    digest = hashlib.sha256(repr(details).encode())
    weights = sorted(Path(folder).glob("*.safetensors"))
    for file in weights:
        digest.update(_file_digest(file, file.stat().st_mtime_ns))
    if not weights:
        digest.update(folder.encode())
    return digest.hexdigest()


@functools.lru_cache
def _file_digest(file: Path, changed_ns: int) -> bytes:
    """Hash a file that last changed at `changed_ns`; its gigabytes are read once, however many logs need the hash."""
    return bytes.fromhex(file_sha256(file))


__all__ = ["finished_json", "finished_log", "run_settings", "translate_corpus", "translate_sentences", "weights_key"]
