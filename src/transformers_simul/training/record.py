# SPDX-License-Identifier: Apache-2.0
"""The record of what decides a training, `training.json`: written before the first step, compared before going on."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from ..corpora import Pair
from ..evaluation.decode import weights_key
from ..text_files import write_text
from .arguments import DataArguments, ModelArguments
from .checkpoints import ASIDE

FILE = "training.json"
# Written beside the record, and not compared.
_TOLD = ("about", "done")
# Arguments of the Trainer that leave the trained weights as they are: everything else is compared.
_HARMLESS = frozenset(
    """
    output_dir overwrite_output_dir do_train do_eval do_predict resume_from_checkpoint local_rank
    logging_strategy logging_steps logging_first_step log_on_each_node log_level log_level_replica disable_tqdm
    include_num_input_tokens_seen report_to run_name project trackio_space_id trackio_bucket_id
    trackio_static_space_id per_device_eval_batch_size prediction_loss_only eval_do_concat_batches
    eval_use_gather_object eval_accumulation_steps include_for_metrics batch_eval_metrics bf16_full_eval fp16_full_eval
    save_only_model save_on_each_node save_total_limit enable_jit_checkpoint
    push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision
    use_cpu torch_empty_cache_steps activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing
    gradient_checkpointing_kwargs dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers
    dataloader_prefetch_factor dataloader_multiprocessing_context ddp_find_unused_parameters ddp_bucket_cap_mb
    ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout debug skip_memory_metrics
    """.split()
)
# Harmless too unless something is chosen by them: the best checkpoint, the moment to stop, the learning rate.
_CHOOSING = ("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "save_strategy", "save_steps")
# What the data's hash stands for, and what only chooses test sentences.
_HARMLESS_DATA = frozenset(
    """
    dataset_name dataset_config_name dataset_revision train_file validation_file test_file concatenate
    max_train_samples max_predict_samples target_langs train_alignment validation_alignment
    """.split()
)


def training_record(
    model: ModelArguments,
    data: DataArguments,
    training: TrainingArguments,
    pairs: Mapping[str, Sequence[Pair]],
    **decisions: Any,
) -> dict[str, Any]:
    """Record all that decides the weights that a training ends with: every argument that is not named as harmless here,
    and hashes of the text and of the weights it starts from.

    Args:
        model, data, training: the flags.
        pairs (`Mapping[str, Sequence[Pair]]`): `train` and `validation`.
        **decisions: the program's own, such as the policy.

    Returns:
        `dict`: as JSON gives it back.
    """
    settings = training.to_dict()
    uses_metric = training.load_best_model_at_end or training.metric_for_best_model
    chooses = bool(uses_metric) or "plateau" in str(settings["lr_scheduler_type"])
    harmless = _HARMLESS if chooses else _HARMLESS | set(_CHOOSING)
    names = ("train", "validation") if chooses else ("train",)
    # A training without a new vocabulary is the same as before there was the flag.
    flags = {name: value for name, value in dataclasses.asdict(model).items() if name != "new_vocabulary" or value}
    record = {
        "model": flags | {"weights": weights_key(model.model_name_or_path) if model.model_name_or_path else None},
        "data": _without(dataclasses.asdict(data), _HARMLESS_DATA)
        | {name: hashlib.sha256(repr(list(map(tuple, pairs[name]))).encode()).hexdigest() for name in names},
        "training": _without(settings, harmless) | {"processes": training.world_size},
        **decisions,
        "about": {"dataset": data.dataset_name, "pairs": len(pairs["train"])},
    }
    return json.loads(json.dumps(record, default=str))


def _without(settings: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record in a folder; None if there is none.

    Raises:
        ValueError: if it cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} must be the record of a training, but cannot be read: {error}.") from error


def write_record(folder: Path, record: Mapping[str, Any], done: Mapping[str, Any] | None = None) -> None:
    """Write what a training is before its first step, and again with what was done (steps, epochs, seconds) after its
    last."""
    write_text(folder / FILE, json.dumps({**record, **({"done": dict(done)} if done else {})}, indent=2) + "\n")


def is_trained(folder: Path, record: Mapping[str, Any], max_minutes: float | None = None) -> bool:
    """Whether a training with this record was finished here. One that a lower time limit ended is not finished.

    Args:
        folder (`Path`): folder of the training.
        record (`Mapping`): from [`training_record`].
        max_minutes (`float`, *optional*): the time limit.

    Raises:
        ValueError: if the folder's record cannot be read.
    """
    found = read_record(folder)
    if not found or not found.get("done") or differences(found, record):
        return False
    limit = found["done"].get("time_limit_minutes")
    return limit is None or (max_minutes is not None and max_minutes <= limit)


def differences(found: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Return where the record of an earlier training differs from this one, each as `name was this and is that`.

    Example:

    ```python
    >>> from transformers_simul.training.record import differences
    >>> differences({"training": {"seed": 1}}, {"training": {"seed": 2}})
    ['seed was 1 and is 2']

    ```
    """
    before, now = _flat(found), _flat(record)
    # An argument that one of two versions of the library does not know yet may stand at nothing.
    names = [name for name in {**before, **now} if (before.get(name) or None) != (now.get(name) or None)]
    return [f"{_plain(name)} was {before.get(name)!r} and is {now.get(name)!r}" for name in names]


def _plain(name: str) -> str:
    texts = {"data.train": "the training pairs (SHA-256)", "data.validation": "the validation pairs (SHA-256)"}
    return texts.get(name, name.split(".", 1)[-1])


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, values in record.items():
        if isinstance(values, dict) and section not in _TOLD:
            flat |= {f"{section}.{name}": value for name, value in values.items()}
        elif section not in _TOLD:
            flat[section] = values
    return flat


def prepare_folder(
    folder: Path, record: Mapping[str, Any], max_minutes: float | None = None, starts_anew: bool = False
) -> bool:
    """Prepare a folder that may hold an earlier run, and return whether anything is left to train.

    Args:
        folder (`Path`): folder of the training.
        record (`Mapping`): from [`training_record`].
        max_minutes (`float`, *optional*): the time limit.
        starts_anew (`bool`, *optional*): remove the earlier run's record and checkpoints.

    Raises:
        ValueError: if the folder holds another training.
    """
    remedy = "Pass --overwrite_output_dir to remove it and start anew, or another --output_dir."
    if starts_anew:
        for path in [*folder.glob("checkpoint-[0-9]*"), folder / ASIDE]:
            shutil.rmtree(path, ignore_errors=True)
        (folder / FILE).unlink(missing_ok=True)
    found = read_record(folder)
    if found is None and (checkpoints := sorted(folder.glob("checkpoint-[0-9]*"))):
        raise ValueError(f"output_dir holds {checkpoints[0]}, but no {FILE} says of which training. {remedy}")
    if found and not found.get("done") and not any(folder.glob("checkpoint-[0-9]*")):
        # It failed before there was anything to lose, perhaps for a flag that is different now.
        found = None
    if found is not None and (differing := differences(found, record)):
        raise ValueError(f"output_dir {str(folder)!r} holds another training: {'; '.join(differing)}. {remedy}")
    return not is_trained(folder, record, max_minutes)


__all__ = ["differences", "is_trained", "prepare_folder", "read_record", "training_record", "write_record"]
