# SPDX-License-Identifier: Apache-2.0
"""A training that resumes where it stopped, and the folder with its result."""

import contextlib
import copy
import shutil
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import EarlyStoppingCallback, TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from ..publishing.model_card import training_sentence, write_model_card
from .callbacks import SaveAtInterrupt
from .checkpoints import ASIDE, last_checkpoint, plain_errors
from .data import drop_long_pairs
from .data_collator import SimulMaskDataCollator
from .record import read_record, write_record
from .trainer import SimulTrainer


def fine_tune(
    model: Any,
    processor: Any,
    collator: SimulMaskDataCollator,
    train_dataset: Dataset,
    eval_dataset: Dataset | None,
    args: TrainingArguments,
    record: dict[str, Any],
    wait_k: int | None = None,
    max_minutes: float | None = None,
    patience: int | None = None,
) -> None:
    """Train into `args.output_dir`: weights, processor, the record with what was done, and the model card.

    A run that was cut off goes on from the newest checkpoint that was written whole. Ctrl-C and SIGTERM save one first,
    unless several processes train.

    Args:
        model: of any family, where training starts; a `peft.PeftModel` is merged before it is saved.
        processor (`SimulProcessor`): saved beside the weights.
        collator (`SimulMaskDataCollator`): makes the rows.
        train_dataset, eval_dataset (`Dataset`): from [`encode`]; the latter may be None.
        args (`TrainingArguments`): the Trainer's.
        record (`dict`): what decides the weights; see [`training_record`] and [`prepare_folder`].
        wait_k (`int`, *optional*): default of `generate()`, written into the generation configuration.
        max_minutes (`float`, *optional*): training ends after so long, in all runs together.
        patience (`int`, *optional*): training ends after so many evaluations without progress.

    Raises:
        ValueError: for a loss that is NaN, if every pair is too long, or for a checkpoint that cannot be resumed, as is
            one of a training that left out other pairs.
        OSError: if a checkpoint cannot be written; what was saved before is whole.
        KeyboardInterrupt: for Ctrl-C or SIGTERM, naming the checkpoint from which the next run goes on.
    """
    folder = Path(str(args.output_dir))
    train_dataset, too_long = _without_long_pairs(train_dataset, collator, "training", args)
    if eval_dataset is not None:
        eval_dataset, _ = _without_long_pairs(eval_dataset, collator, "validation", args)
    _check_resumed(folder, too_long or 0, args.world_size)
    trainer = SimulTrainer(
        model=model,
        args=args,
        data_collator=collator,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        callbacks=[collator, *([] if patience is None else [EarlyStoppingCallback(patience)])],
        max_minutes=max_minutes,
    )
    shows = trainer.is_world_process_zero()
    if shows:
        trains = model.num_parameters(only_trainable=True)
        what = "runs of sentences" if "sentences" in getattr(train_dataset, "column_names", ()) else "pairs"
        print(f"Training {trains / 1e6:.1f} M parameters on {len(train_dataset):,} {what}", flush=True)
        if too_long:
            record = record | {"about": record.get("about", {}) | {"pairs_too_long": too_long}}
        write_record(folder, record)
    _train(trainer, folder)
    # Not trainer.save_model(): it adds a pickle of the training arguments. All processes give their shares.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if args.world_size > 1 else None
    if shows:
        done = _what_was_done(trainer)
        done |= {"pairs_left_out": collator.dropped} if too_long is None else {"pairs_too_long": too_long}
        trained = trainer.accelerator.unwrap_model(trainer.model)
        # Decision rows give EOS the probability of a READ: yes or no, against all words together.
        threshold = 0.5 if collator.policy.teaches_reads and collator.peek_rows else None
        save_trained(trained, weights, processor, folder, wait_k, collator.context_sentences or None, threshold)
        write_record(folder, record, done)
        write_model_card(folder)
        shutil.rmtree(folder / ASIDE, ignore_errors=True)
        print(f"{training_sentence(done)}\nSaved: {folder} (weights, processor, README.md, training.json)", flush=True)
    # Who loads the folder next finds it whole, and loads it whole: under ZeRO-3 Transformers would share it out again.
    trainer.accelerator.wait_for_everyone()
    unset_hf_deepspeed_config()


def _without_long_pairs(
    dataset: Dataset, collator: SimulMaskDataCollator, split: str, args: TrainingArguments
) -> tuple[Dataset, int | None]:
    """What a training reads, and the number of pairs that are too long; None for speech, whose audio is not read before
    a batch needs it, so that only the collator finds them."""
    if not isinstance(dataset, Dataset):
        return dataset, None
    kept, too_long = drop_long_pairs(dataset, collator, split)
    if too_long and not args.process_index:
        print(
            f"{too_long:,} pairs for {split} are longer than max_length={collator.max_length} and left out", flush=True
        )
    return kept, too_long


def _check_resumed(folder: Path, too_long: int, processes: int) -> None:
    """Refuse a checkpoint of a training that left out other pairs: its batches were drawn from what it had left."""
    checkpoint, _ = last_checkpoint(folder, processes)
    before = (read_record(folder) or {}).get("about", {}).get("pairs_too_long", 0)
    if checkpoint and before != too_long:
        raise ValueError(
            f"output_dir {str(folder)!r} holds a training that began without {before:,} pairs that are too long, but "
            f"{too_long:,} are: it cannot go on with the same batches. Pass --overwrite_output_dir to start anew."
        )


def _train(trainer: SimulTrainer, folder: Path) -> None:
    interrupt = SaveAtInterrupt()
    processes = trainer.args.world_size
    trainer.add_callback(interrupt)
    try:
        # Among several processes a signal stops at once: they would not all save after the same step.
        with interrupt if processes == 1 else contextlib.nullcontext():
            trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint or True)
    except KeyboardInterrupt:
        checkpoint, _ = last_checkpoint(folder, processes)
        step = trainer.state.global_step
        raise KeyboardInterrupt(
            f"Interrupted after step {step:,}; the same command goes on from {checkpoint}."
            if checkpoint
            else f"Interrupted after step {step:,}, before a checkpoint was saved; the same command starts anew."
        ) from None


def _what_was_done(trainer: SimulTrainer) -> dict[str, Any]:
    state, limit = trainer.state, trainer.limit
    return {
        "steps": state.global_step,
        "planned_steps": state.max_steps,
        "epochs": round(state.epoch or 0.0, 3),
        # Not rounded to nothing by a training of a few steps.
        "seconds": round(trainer.clock.seconds(), 3),
        "time_limit_minutes": limit.minutes if limit and limit.was_reached else None,
    }


def save_trained(
    model: Any,
    weights: dict[str, Any] | None,
    processor: Any,
    folder: Path,
    wait_k: int | None = None,
    context_sentences: int | None = None,
    eos_threshold: float | None = None,
) -> None:
    """Save a trained model and its processor as a folder like any other. Of the generation configuration, what is None
    here stays as it was before.

    Args:
        model: of any family; a `peft.PeftModel` is merged, since the adapters alone are in the checkpoints.
        weights (`dict[str, torch.Tensor]`, *optional*): the whole state, if this process has only a share of it.
        processor (`SimulProcessor`): saved beside it.
        folder (`Path`): where to save.
        wait_k (`int`, *optional*): default of `generate()`.
        context_sentences (`int`, *optional*): what endless streams keep in view.
        eos_threshold (`float`, *optional*): see [`SimulGenerationConfig`].
    """
    if hasattr(model, "merge_and_unload"):
        if hasattr(model.get_base_model().config, "quantization_config"):
            model = _on_unquantised_base(model, weights)
        elif weights is not None:
            model = _whole_adapters(model, weights)
        model, weights = model.merge_and_unload(), None
    if wait_k is not None:
        # Instead of a policy that training started with: the two contradict one another.
        model.generation_config.wait_k, model.generation_config.default_policy = wait_k, None
    if context_sentences is not None:
        model.generation_config.context_sentences = context_sentences
    if eos_threshold is not None:
        model.generation_config.eos_threshold = eos_threshold
    with plain_errors(folder):
        model.save_pretrained(folder, state_dict=weights)
        processor.save_pretrained(folder)


def _on_unquantised_base(model: Any, weights: dict[str, Any] | None) -> Any:
    """Put the adapters on the base as it is stored; merged into the quantised base, they would be rounded with it."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    base = model.get_base_model()
    config = copy.deepcopy(base.config)
    del config.quantization_config
    stored = type(base).from_pretrained(base.config.name_or_path, config=config)
    whole = type(model)(stored, model.active_peft_config)
    set_peft_model_state_dict(whole, get_peft_model_state_dict(model, state_dict=weights))
    return whole


def _whole_adapters(model: Any, weights: dict[str, Any]) -> Any:
    """Rebuild base and adapters in one process from the gathered state, since shards cannot be merged."""
    base = model.get_base_model()
    with torch.device("meta"):
        whole = type(model)(type(base)(base.config), model.active_peft_config)
    whole.load_state_dict(weights, assign=True)
    whole.get_base_model().tie_weights()
    return whole


def training_seconds(folder: Path) -> float:
    """Return the seconds that a finished training took in all its runs, from its first step to its last.

    Raises:
        ValueError: if no training was finished there.
    """
    done = (read_record(folder) or {}).get("done")
    if not done:
        raise ValueError(f"folder must hold a finished training, got {str(folder)!r}.")
    return done["seconds"]


__all__ = ["fine_tune", "training_seconds"]
