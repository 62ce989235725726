# SPDX-License-Identifier: Apache-2.0
"""What happens beside the steps of a training: its epoch, clock, time limit, interrupts, and what it says of itself."""

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import torch
from accelerate.utils import broadcast
from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

from ..models.modeling_simul import NO_DATA_PARALLEL


class EpochCallback(TrainerCallback):
    """Knows the Trainer's epoch, in the worker processes of a data loader too, and refuses `nn.DataParallel`.

    Example:

    ```python
    >>> from transformers_simul.training.callbacks import EpochCallback
    >>> callback = EpochCallback()
    >>> callback.set_epoch(2)
    >>> callback.epoch
    2

    ```
    """

    def __init__(self) -> None:
        # Shared memory, for worker processes that live on from epoch to epoch.
        self._epoch = torch.tensor(-1).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch, counted from 0; -1 if it was never set."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; a Trainer does so by itself if this is one of its callbacks.

        Args:
            epoch (`int`): from 0.
        """
        self._epoch.fill_(epoch)

    def on_train_begin(self, args, state, control, **kwargs):
        if args.n_gpu > 1:
            raise ValueError(NO_DATA_PARALLEL)

    def on_epoch_begin(self, args, state, control, **kwargs):
        # The Trainer's epoch is a fraction; a resumed one stands in the middle.
        self.set_epoch(int(state.epoch + 1e-6))


class Clock(TrainerCallback):
    """Counts the seconds of training in all runs together.

    Attributes:
        before (`float`): seconds of the runs before this one.
    """

    def __init__(self) -> None:
        self.before, self._started = 0.0, None

    def seconds(self) -> float:
        """Return the seconds of training until now."""
        return self.before + (0.0 if self._started is None else time.monotonic() - self._started)

    def on_train_begin(self, args, state, control, **kwargs):
        self._started = time.monotonic()


class TimeLimit(TrainerCallback):
    """Ends training after a number of minutes in all runs together, and saves a checkpoint.

    Args:
        minutes (`float`): minutes of training.
        clock (`Clock`): the trainer's clock.

    Attributes:
        was_reached (`bool`): whether it ended the training before its last step.
    """

    def __init__(self, minutes: float, clock: Clock):
        self.minutes, self.clock, self.was_reached, self._first_step = minutes, clock, False, 0

    def expected_steps(self, step: int, planned: int) -> int:
        """Return the number of steps that there is time for, at the pace of this run so far.

        Args:
            step (`int`): steps done in all runs.
            planned (`int`): steps that were asked for.
        """
        left, seconds = 60 * self.minutes - self.clock.seconds(), self.clock.seconds() - self.clock.before
        steps = step - self._first_step
        return planned if steps < 1 else min(planned, step + max(0, int(left * steps / seconds)))

    def on_train_begin(self, args, state, control, **kwargs):
        self._first_step = state.global_step

    def on_step_end(self, args, state, control, **kwargs):
        is_over = torch.tensor(int(self.clock.seconds() > 60 * self.minutes), device=args.device)
        if args.world_size > 1:
            # All processes end after the same step: the first one's clock decides.
            is_over = broadcast(is_over)
        if is_over and state.global_step < state.max_steps:
            self.was_reached = control.should_training_stop = control.should_save = True


class SaveAtInterrupt(TrainerCallback):
    """Makes Ctrl-C and SIGTERM, within a `with` statement, save a checkpoint after the current step; a second one stops
    at once.

    Do not use it among several processes: they would not all stop after the same step.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "SaveAtInterrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            # Python cannot put back what it did not set.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        for each in self._before:
            signal.signal(each, signal.default_int_handler)
        # Not print(): the interrupted code may be in the middle of one.
        os.write(2, b"\nInterrupted: saving a checkpoint after this step. A second time stops at once.\n")

    def on_step_end(self, args, state, control, **kwargs):
        if self._came:
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        if self._came:
            raise KeyboardInterrupt


class Progress(ProgressCallback):
    """A bar on the terminal, unless it is disabled, and a readable line for each report of the Trainer.

    Args:
        disable_bar (`bool`): print lines only.
        limit (`TimeLimit`, *optional*): the total is the number of steps that it leaves time for.
    """

    def __init__(self, disable_bar: bool, limit: TimeLimit | None = None):
        super().__init__()
        self.disable_bar, self.limit = disable_bar, limit

    def _steps(self, state: Any) -> int:
        return self.limit.expected_steps(state.global_step, state.max_steps) if self.limit else state.max_steps

    def on_train_begin(self, args, state, control, **kwargs):
        if not self.disable_bar:
            super().on_train_begin(args, state, control, **kwargs)

    def on_step_end(self, args, state, control, **kwargs):
        if self.training_bar is not None:
            self.training_bar.total = self._steps(state)
            super().on_step_end(args, state, control, **kwargs)

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        if not self.disable_bar:
            super().on_prediction_step(args, state, control, eval_dataloader, **kwargs)

    def on_train_end(self, args, state, control, **kwargs):
        if self.training_bar is not None:
            super().on_train_end(args, state, control, **kwargs)

    def on_log(self, args, state, control, logs=None, **kwargs):
        line = report(logs or {}, state.global_step, self._steps(state), state.max_steps)
        if not line or not state.is_world_process_zero:
            return
        if self.training_bar is None:
            print(line, flush=True)
        else:
            self.training_bar.write(line, file=sys.stdout)


def report(logs: dict[str, float], step: int, expected: int, planned: int) -> str:
    """Return a Trainer's figures as a line; it is empty if they hold no loss of training or validation.

    Args:
        logs (`dict[str, float]`): as callbacks get them.
        step, expected, planned (`int`): steps done, steps that there is time for, and steps that were asked for.

    Example:

    ```python
    >>> from transformers_simul.training.callbacks import report
    >>> report({"loss": 2.34567, "learning_rate": 1e-3, "grad_norm": 0.5, "epoch": 1.25}, 100, 2600, 2600)
    'step 100 of 2,600, epoch 1.25: loss 2.3457, learning rate 1.0e-03, gradient norm 0.50'

    ```
    """
    formats = {
        "loss": "loss {:.4f}",
        "eval_loss": "validation loss {:.4f}",
        "learning_rate": "learning rate {:.1e}",
        "grad_norm": "gradient norm {:.2f}",
    }
    figures = [text.format(float(logs[name])) for name, text in formats.items() if name in logs]
    if "loss" not in logs and "eval_loss" not in logs:
        return ""
    total = f"{planned:,}" if expected == planned else f"about {expected:,} (time limit; {planned:,} planned)"
    return f"step {step:,} of {total}, epoch {logs.get('epoch', 0):.2f}: {', '.join(figures)}"


__all__ = ["Clock", "EpochCallback", "Progress", "SaveAtInterrupt", "TimeLimit", "report"]
