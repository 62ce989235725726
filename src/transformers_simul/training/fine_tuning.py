# SPDX-License-Identifier: Apache-2.0
"""A training with the stock Trainer that resumes where it stopped, and is not run again once it is finished."""

import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import GenerationConfig, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from ..publishing.model_card import write_model_card
from ..text_files import write_text
from .data_collator import SimulMaskDataCollator


def fine_tune(
    model: Any,
    processor: Any,
    collator: SimulMaskDataCollator,
    train_dataset: Dataset,
    eval_dataset: Dataset | None,
    args: TrainingArguments,
    record: dict[str, Any],
    callbacks: Sequence[TrainerCallback] = (),
    wait_k: int | None = None,
) -> None:
    """Train into `args.output_dir`: weights, processor, `training.json` once all is there, and the model card.

    A run that was cut off goes on from the newest checkpoint that was written to its end.

    Args:
        model: of any family, where training starts; a `peft.PeftModel` is merged before it is saved.
        processor (`SimulProcessor`): saved beside the weights.
        collator (`SimulMaskDataCollator`): makes the rows.
        train_dataset, eval_dataset (`Dataset`): from [`encode`]; the latter may be None.
        args (`TrainingArguments`): of the stock Trainer.
        record (`dict`): what decides the weights; see [`is_trained`].
        callbacks (`Sequence[TrainerCallback]`, *optional*): further ones.
        wait_k (`int`, *optional*): the policy of `generate()` unless told, written into the generation configuration.

    Raises:
        ValueError: for a loss that is NaN, or a batch in which every pair is too long.
        OSError: if a checkpoint cannot be written; what was saved before is whole.
    """
    folder = Path(str(args.output_dir))
    trainer = Trainer(
        model=model,
        args=args,
        data_collator=collator,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        callbacks=[collator, _Clock(folder), *callbacks],
    )
    checkpoint = args.resume_from_checkpoint or last_checkpoint(folder)
    trains = model.num_parameters(only_trainable=True)
    shows = trainer.is_world_process_zero()
    if shows:
        print(f"Training {trains / 1e6:.1f} M parameters on {len(train_dataset)} pairs", flush=True)
    if checkpoint and shows:
        print(f"Resuming from {checkpoint}", flush=True)
    trainer.train(resume_from_checkpoint=checkpoint)
    if collator.dropped:
        print(f"{collator.dropped} times a pair longer than {collator.max_length} tokens was left out")
    # Not trainer.save_model(): it adds a pickle of the training arguments. All processes give their shares.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if args.world_size > 1 else None
    if shows:
        save_trained(trainer.accelerator.unwrap_model(trainer.model), weights, processor, folder, wait_k)
        write_text(folder / "training.json", json.dumps(record, indent=2))
        write_model_card(folder)
    # Who loads the folder next finds it whole, and loads it whole: under ZeRO-3 Transformers would share it out again.
    trainer.accelerator.wait_for_everyone()
    unset_hf_deepspeed_config()


def save_trained(
    model: Any, weights: dict[str, Any] | None, processor: Any, folder: Path, wait_k: int | None = None
) -> None:
    """A trained model and its processor, as a folder like any other.

    Args:
        model: of any family; a `peft.PeftModel` is merged, the adapters alone lie in the checkpoints.
        weights (`dict[str, torch.Tensor]`, *optional*): the model's state where it holds a share of it only.
        processor (`SimulProcessor`): saved beside it.
        folder (`Path`): where.
        wait_k (`int`, *optional*): the policy of `generate()` unless told.
    """
    if hasattr(model, "merge_and_unload"):
        if hasattr(model.get_base_model().config, "quantization_config"):
            model = _on_unquantised_base(model, weights)
        elif weights is not None:
            model = _whole_adapters(model, weights)
        model, weights = model.merge_and_unload(), None
    if wait_k is not None:
        model.generation_config = with_wait_k(model.generation_config, wait_k)
    model.save_pretrained(folder, state_dict=weights)
    processor.save_pretrained(folder)


def _on_unquantised_base(model: Any, weights: dict[str, Any] | None) -> Any:
    """The adapters on the base as it is stored: merged into the quantised one, they would be rounded with it."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    base = model.get_base_model()
    config = copy.deepcopy(base.config)
    del config.quantization_config
    stored = type(base).from_pretrained(base.config.name_or_path, config=config)
    whole = type(model)(stored, model.active_peft_config)
    set_peft_model_state_dict(whole, get_peft_model_state_dict(model, state_dict=weights))
    return whole


def _whole_adapters(model: Any, weights: dict[str, Any]) -> Any:
    """The same base and adapters in one process, of the gathered state: shares cannot be merged."""
    base = model.get_base_model()
    with torch.device("meta"):
        whole = type(model)(type(base)(base.config), model.active_peft_config)
    whole.load_state_dict(weights, assign=True)
    whole.get_base_model().tie_weights()
    return whole


def with_wait_k(config: GenerationConfig, k: int) -> GenerationConfig:
    """A generation configuration that names the policy of `generate()` unless told.

    Args:
        config (`GenerationConfig`): of a model.
        k (`int`): of wait-k.
    """
    settings = config.to_dict() | {"wait_k": k}
    # Made from a model's configuration, it would drop what Transformers does not know when it is loaded.
    settings.pop("_from_model_config", None)
    return GenerationConfig.from_dict(settings)


def is_trained(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a training with this record was finished here.

    Args:
        folder (`Path`): of the training.
        record (`dict`): what decides the weights: base, data, template, policy, settings of the Trainer.
    """
    path = folder / "training.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == record


def training_seconds(folder: Path) -> float:
    """Seconds that a finished training took in all its runs, from its first step to its last."""
    return max(json.loads((folder / "seconds.json").read_text(encoding="utf-8")).values())


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end: the Trainer writes its state last."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            print(f"{checkpoint} is incomplete and passed over")
            continue
        return str(checkpoint)
    return None


class _Clock(TrainerCallback):
    """Notes beside the checkpoints how long training took up to each step that was saved."""

    def __init__(self, folder: Path):
        self.path, self.before, self.started = folder / "seconds.json", 0.0, 0.0

    def _seconds(self) -> dict[str, float]:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}

    def _note(self, step: int) -> None:
        seconds = self.before + time.monotonic() - self.started
        write_text(self.path, json.dumps(self._seconds() | {str(step): seconds}))

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0 and state.is_world_process_zero:
            self.path.unlink(missing_ok=True)
        self.before = self._seconds().get(str(state.global_step), 0.0)
        self.started = time.monotonic()

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self._note(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        self.on_save(args, state, control)


__all__ = ["fine_tune", "is_trained", "last_checkpoint", "training_seconds", "with_wait_k"]
