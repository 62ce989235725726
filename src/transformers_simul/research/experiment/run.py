# SPDX-License-Identifier: Apache-2.0
"""The comparison of one language pair: train every system from the same base, translate at every k, keep the logs."""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from ...auto import AutoSimulModel
from ...corpora import Pair
from ...evaluation.decode import finished_json, finished_log, run_settings, translate_corpus, weights_key
from ...evaluation.flops import sentence_flops
from ...evaluation.instances import Instance
from ...evaluation.report import FULL_SOURCE, log_name
from ...models.policies import OfflinePolicy, Policy, WaitKPolicy
from ...models.policy_names import policy_from_name
from ...models.processing import SimulProcessor
from ...training import (
    DataArguments,
    ModelArguments,
    ProgramArguments,
    encode,
    fine_tune,
    make_config,
    make_model,
    make_processor,
    prepare_folder,
    training_record,
)
from ..baselines import System, Training
from ..baselines.systems import CAUSAL
from .arguments import ExperimentArguments


@dataclass(frozen=True)
class Experiment:
    """One language pair's comparison and where it lives.

    Attributes:
        folder (`Path`): of everything that it writes.
        pairs (`Mapping[str, list[Pair]]`): `train`, `validation` and `test`.
        arguments, data, model, training: the flags.
    """

    folder: Path
    pairs: Mapping[str, list[Pair]]
    arguments: ExperimentArguments
    data: DataArguments
    model: ModelArguments
    training: ProgramArguments

    def cells(self) -> list[tuple[System, str, Policy, Path]]:
        """System, name of the line, policy to translate with, and folder of the model, for each log."""
        cells: list[tuple[System, str, Policy, Path]] = []
        for system in self.arguments.chosen_systems():
            for k in self._wait_k(system):
                line, policy = (FULL_SOURCE, OfflinePolicy()) if system.is_offline else (f"k = {k}", WaitKPolicy(k))
                cells.append((system, line, policy, self.model_folder(system.training, k)))
            for name in () if system.is_offline else self.arguments.eval_policy:
                folder = self.model_folder(system.training, self.arguments.eval_wait_k[0])
                cells.append((system, name, policy_from_name(name), folder))
        return cells

    def model_folder(self, training: Training, k: int) -> Path:
        """Return the folder of the model that translates at k; one for all k with a mixture, or without a policy."""
        policy = self.arguments.training_policy(k)
        if training.follows_policy and isinstance(policy, WaitKPolicy):
            return self.folder / "models" / f"{training.name}-k{policy.k}"
        return self.folder / "models" / training.name

    def train(self) -> None:
        """Train what is not trained yet; without a base model to start from, that first."""
        self._check_positions()
        base = self._base()
        done = set()
        for system in self.arguments.chosen_systems():
            for k in self._wait_k(system):
                folder = self.model_folder(system.training, k)
                if folder not in done:
                    policy = self.arguments.training_policy(k) if system.training.follows_policy else OfflinePolicy()
                    self._train(system.training, policy, folder, base, self.training)
                    done.add(folder)

    def _check_positions(self) -> None:
        """Check before the first hour of training that the base can have the positions of every system."""
        for system in self.arguments.chosen_systems():
            try:
                make_config(self.model, self._processor.tokenizer, system.training.positions)
            except ValueError as error:
                raise ValueError(f"system {system.name} cannot have this base: {error}") from error

    def translate(self) -> dict[tuple[str, str], list[Instance]]:
        """The logs of all cells by (system, line); finished ones are read."""
        test, logs = self.pairs["test"], {}
        for system, line, policy, folder in self.cells():
            key = weights_key(str(folder), test, *_way(system), repr(policy), str(self.dtype))
            logs[system.name, line] = finished_log(
                self.folder / "logs" / system.name / log_name(line) / "instances.log",
                key,
                functools.partial(self._translate, system, policy, folder),
                self.settings(system, policy),
            )
        return logs

    def settings(self, system: System, policy: Policy) -> dict[str, str]:
        """What the signature of a log says of its run."""
        details = {"system": system.name, "decoder": system.row_decoder.__name__}
        if system.eos_threshold is not None:
            details["eos_threshold"] = str(system.eos_threshold)
        return run_settings(policy, self.dtype, self.training.device, **details)

    def count_flops(self) -> dict[str, list[int]]:
        """FLOPs of each of the first test sentences, by system, at one k; finished counts are read."""
        sources = [pair.source for pair in self.pairs["test"][: self.arguments.flops_sentences]]
        policy, counts = WaitKPolicy(self.arguments.flops_k), {}
        for system in self.arguments.chosen_systems():
            folder = self.model_folder(system.training, self.arguments.flops_k)
            path = self.folder / "flops" / f"{system.name}.json"
            key = weights_key(str(folder), sources, *_way(system), repr(policy))
            reads = OfflinePolicy() if system.is_offline else policy
            count = functools.partial(self._count_flops, system, reads, folder, sources)
            counts[system.name] = finished_json(path, key, "flops", count)
        return counts

    def _count_flops(self, system: System, policy: Policy, folder: Path, sources: list[str]) -> list[int]:
        return sentence_flops(*self.load(system, folder), sources, policy, row_decoder=system.row_decoder)

    def load(self, system: System, folder: Path) -> tuple[Any, SimulProcessor]:
        """A trained model, ready to translate as a system does, and its processor."""
        model = AutoSimulModel.from_pretrained(str(folder), dtype=self.dtype)
        if system.eos_threshold is not None:
            model.generation_config.eos_threshold = system.eos_threshold
        return model.to(self.training.device).eval(), SimulProcessor.from_pretrained(folder)

    @property
    def dtype(self) -> torch.dtype:
        """The data type in which the test set is translated."""
        return torch.bfloat16 if self.training.bf16 else torch.float32

    def _translate(self, system: System, policy: Policy, folder: Path) -> list[Instance]:
        sources, references = zip(*self.pairs["test"], strict=True)
        return translate_corpus(
            *self.load(system, folder),
            sources,
            references,
            policy,
            self.arguments.predict_batch_size,
            row_decoder=system.row_decoder,
        )

    def _wait_k(self, system: System) -> list[int]:
        """The k's of a system's cells; one stands for all where k plays no part."""
        return self.arguments.eval_wait_k[:1] if system.is_offline else self.arguments.eval_wait_k

    @functools.cached_property
    def _processor(self) -> SimulProcessor:
        """The same for the base and for all systems: a new tokenizer is trained once, and text encoded once."""
        return make_processor(self.model, self.data, self.pairs["train"])

    @functools.cached_property
    def _train_dataset(self) -> Dataset:
        return encode(self._processor, self.pairs["train"])

    @functools.cached_property
    def _eval_dataset(self) -> Dataset | None:
        return encode(self._processor, self.pairs["validation"]) if self.training.eval_strategy != "no" else None

    def _base(self) -> ModelArguments:
        """Flags of the model that every system starts from."""
        if self.model.model_name_or_path:
            return self.model
        folder = self.folder / "models" / "base"
        args = copy.copy(self.training)
        args.learning_rate, args.max_steps = self.arguments.base_learning_rate, self.arguments.base_steps
        self._train(CAUSAL, OfflinePolicy(), folder, self.model, args)
        return replace(self.model, model_name_or_path=str(folder))

    def _train(
        self, training: Training, policy: Policy, folder: Path, base: ModelArguments, args: ProgramArguments
    ) -> None:
        record = training_record(
            base,
            self.data,
            args,
            self.pairs,
            collator=training.collator.__name__,
            positions=training.positions,
            peek_rows=training.peek_rows,
            policy=repr(policy),
        )
        with args.main_process_first(desc="looking at the model's folder"):
            starts_anew = self.training.overwrite_output_dir and args.process_index == 0
            has_work = prepare_folder(folder, record, starts_anew=starts_anew)
        if not has_work:
            return
        print(f"\n{folder.name}: {policy!r}", flush=True)
        collator = training.collator(
            self._processor,
            policy,
            peek_rows=training.peek_rows,
            max_length=self.data.max_length,
            too_long="drop",
            pad_to_multiple_of=self.data.pad_to_multiple_of,
            seed=args.seed,
        )
        here = copy.copy(args)
        here.output_dir = str(folder)
        parts = _divisor(args.per_device_train_batch_size, training.rows_per_pair)
        here.per_device_train_batch_size //= parts
        here.gradient_accumulation_steps *= parts
        fine_tune(
            make_model(base, self._processor, training.positions, args.seed),
            self._processor,
            collator,
            self._train_dataset,
            self._eval_dataset,
            here,
            record,
        )


def _way(system: System) -> list[Any]:
    """What decides a system's output beside weights and policy: the same weights translate in several ways."""
    return [system.row_decoder.__name__, *([] if system.eos_threshold is None else [system.eos_threshold])]


def _divisor(batch_size: int, most: int) -> int:
    """The largest number up to `most` that divides the batch."""
    return max(parts for parts in range(1, most + 1) if batch_size % parts == 0)


__all__ = ["Experiment"]
