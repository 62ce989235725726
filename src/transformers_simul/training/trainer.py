# SPDX-License-Identifier: Apache-2.0
"""The stock Trainer with checkpoints that appear whole, and resuming that never misses anything silently."""

import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from .callbacks import Clock, Progress, TimeLimit
from .checkpoints import (
    ASIDE,
    checkpoint_fault,
    checkpoint_notes,
    drop_old_checkpoints,
    finish_checkpoint,
    last_checkpoint,
    plain_errors,
    state_fault,
)


class SimulTrainer(Trainer):
    """A `Trainer` whose `checkpoint-N` appears as soon as all of it is written, and never before.

    A checkpoint is written into the folder `_incomplete` and renamed; `complete.json`, its last file, holds the sizes
    of the others. `train(resume_from_checkpoint=True)` takes the newest checkpoint that is whole and says which it
    passed over. A checkpoint without optimizer or random state is refused. Losses are printed as readable lines.

    Args:
        max_minutes (`float`, *optional*): training ends after so long, in all runs together.
        *args, **kwargs: as for the stock Trainer.

    Attributes:
        clock (`Clock`): seconds of training, in all runs together.
        limit (`TimeLimit`, *optional*): the limit that `max_minutes` sets.
    """

    def __init__(self, *args: Any, max_minutes: float | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._aside: str | None = None
        self.clock = Clock()
        self.limit = None if max_minutes is None else TimeLimit(max_minutes, self.clock)
        for stock in (PrinterCallback, ProgressCallback):
            self.remove_callback(stock)
        for callback in (self.clock, self.limit, Progress(bool(self.args.disable_tqdm), self.limit)):
            if callback is not None:
                self.add_callback(callback)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as the stock method does.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*): a checkpoint, or True for the newest that is whole, or
                the beginning if there is none.

        Raises:
            ValueError: for a checkpoint that lacks something without which the training would not be the same.
        """
        processes = self.args.world_size
        if resume_from_checkpoint is True:
            resume_from_checkpoint, passed_over = last_checkpoint(Path(str(self.args.output_dir)), processes)
            if self.is_world_process_zero():
                for sentence in passed_over:
                    print(sentence, flush=True)
        elif resume_from_checkpoint:
            checkpoint = Path(resume_from_checkpoint)
            is_ours = bool(checkpoint_notes(checkpoint))
            fault = checkpoint_fault(checkpoint, processes) if is_ours else state_fault(checkpoint, processes)
            if fault:
                raise ValueError(f"resume_from_checkpoint cannot be {str(checkpoint)!r}: {fault}.")
        if resume_from_checkpoint:
            self.clock.before = checkpoint_notes(resume_from_checkpoint).get("seconds", 0.0)
            if self.is_world_process_zero():
                print(f"Resuming from {resume_from_checkpoint}", flush=True)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # What died after its last step has only to be saved: the stock loop would take one step more.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        return self._aside or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(super()._get_output_dir(trial))
        written = folder / ASIDE / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            # What a run that was killed had begun.
            shutil.rmtree(folder / ASIDE, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._aside = str(written.parent)
        try:
            with plain_errors(written):
                super()._save_checkpoint(model, trial)
        finally:
            self._aside = None
        target = folder / written.name
        self._name_best_checkpoint(folder, target)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(written / "trainer_state.json"))
            finish_checkpoint(written, target, {"seconds": self.clock.seconds()})
            drop_old_checkpoints(target, self.args.save_total_limit, self.state.best_model_checkpoint)
            shutil.rmtree(folder / ASIDE, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _name_best_checkpoint(self, folder: Path, target: Path) -> None:
        """Note the best checkpoint by its final path; the stock method may have found it at its temporary one."""
        if self.state.best_global_step:
            best = folder / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(best) if best == target or best.exists() else None

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # The other name of a tied weight is not stored.
        model: Any = self.model
        tied = model.all_tied_weights_keys
        missing = [name for name in load_result.missing_keys if name not in tied]
        if missing or load_result.unexpected_keys:
            raise ValueError(
                f"the checkpoint must hold exactly this model's weights: missing {missing}, unexpected "
                f"{load_result.unexpected_keys}."
            )
        if load_result.missing_keys:
            model.tie_weights()


__all__ = ["SimulTrainer"]
