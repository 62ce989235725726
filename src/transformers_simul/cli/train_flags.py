# SPDX-License-Identifier: Apache-2.0
"""What `transformers-simul train` and `evaluate` are asked for, checked before anything is read or trained."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..corpora import CORPORA
from ..models.decoding_weights import check_kind
from ..models.policies import WaitKPolicy, check_count
from ..models.policy_names import policy_from_name
from ..training import DataArguments, ModelArguments, ProgramArguments, parse_flags, training_policy
from .loading import find_checkpoint

# Arguments of ours that leave the trained weights as they are; wait_k is recorded as the policy, and a time limit
# decides only whether there is more to do.
_HARMLESS = (
    "wait_k",
    "eval_wait_k",
    "eval_policy",
    "stream_sentences",
    "max_train_minutes",
    "predict_batch_size",
    "decoding_weights",
)


@dataclass
class SimulArguments:
    """The flags that say when to READ and WRITE."""

    wait_k: list[str] = field(
        default_factory=lambda: ["3"],
        metadata={
            "help": "Training policy: one k, 'full', 'random-LEAST-GREATEST' lag, 'aligned' or 'aligned-MARGIN'; of "
            "several, one is drawn per example."
        },
    )
    eval_wait_k: list[int] = field(
        default_factory=lambda: [1, 3, 5, 7], metadata={"help": "Policies to translate with."}
    )
    eval_policy: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Further policies to translate with, by name, such as learned:0.5 or confidence:0.6,max=7 "
            "(docs/policies.md).",
            "aliases": ["--policy"],
        },
    )
    peek_rows: float = field(default=1.0, metadata={"help": "Share of peek rows; 0 is the paper's plain form."})
    packing: bool = field(default=False, metadata={"help": "Lay several pairs into one row of --max_length."})
    context_sentences: int = field(
        default=0,
        metadata={
            "help": "Train each sentence with so many before it in view, on files whose neighbouring pairs follow each "
            "other in a document (docs/decoding.md#context-across-sentences)."
        },
    )
    run_sentences: int = field(
        default=8,
        metadata={"help": "Consecutive sentences of a row, with --context_sentences; each counts as an example."},
    )
    stream_sentences: int = field(default=3, metadata={"help": "Test sentences to stream at the end."})
    max_train_minutes: float | None = field(
        default=None, metadata={"help": "Stop training after so long, in all runs together."}
    )
    early_stopping_patience: int | None = field(default=None, metadata={"help": "Evaluations without progress."})
    predict_batch_size: int = field(default=32, metadata={"help": "Sentences translated side by side."})
    decoding_weights: str | None = field(
        default=None,
        metadata={
            "help": "Round the weights to translate faster on a CPU: int8, bfloat16 or float16; or reorder them for "
            "oneDNN: float32 (docs/performance.md#weights-for-decoding)."
        },
    )


class Flags(NamedTuple):
    """All flags, by what they are about."""

    model: ModelArguments
    data: DataArguments
    simul: SimulArguments
    program: ProgramArguments

    @property
    def output_dir(self) -> Path:
        """The folder into which everything is written."""
        return Path(str(self.program.output_dir))

    def decisions(self) -> dict[str, Any]:
        """What decides the trained weights beside the model, the text and the Trainer's settings."""
        decisions = {name: value for name, value in asdict(self.simul).items() if name not in _HARMLESS}
        if not self.simul.context_sentences:
            # A training without them is the same as before there were any.
            del decisions["context_sentences"], decisions["run_sentences"]
        return decisions | ({"target_langs": self.data.target_langs} if self.data.target_langs else {})


def read_flags(arguments: Sequence[str] | None) -> Flags:
    """Read and check the flags.

    Args:
        arguments (`Sequence[str]`, *optional*): the command line's unless told.

    Raises:
        ValueError: for wrong flags.
    """
    kinds: Any = (ModelArguments, DataArguments, SimulArguments, ProgramArguments)
    flags = Flags(*parse_flags(kinds, arguments))
    _check_policies(flags.simul, flags.program)
    _check_context(flags.data, flags.simul)
    if flags.model.new_vocabulary and not flags.program.do_train:
        raise ValueError("new_vocabulary needs do_train: a model without training cannot write with it.")
    if flags.model.model_name_or_path:
        find_checkpoint(flags.model.model_name_or_path, "model_name_or_path")
    return flags


def _check_policies(simul_args: SimulArguments, training_args: ProgramArguments) -> None:
    """Refuse a policy that is none, a patience without evaluations to count, or `decoding_weights` that are unknown or
    for CPUs alone."""
    training_policy(simul_args.wait_k)
    for k in simul_args.eval_wait_k:
        WaitKPolicy(k)
    for name in simul_args.eval_policy:
        policy_from_name(name)
    patience = simul_args.early_stopping_patience
    if patience is not None and not (training_args.metric_for_best_model and training_args.eval_strategy != "no"):
        raise ValueError(
            f"early_stopping_patience needs --load_best_model_at_end and --eval_strategy steps, got {patience}."
        )
    weights = simul_args.decoding_weights
    if weights is not None:
        check_kind(weights)
        if training_args.device.type != "cpu":
            raise ValueError(f"decoding_weights must not be given on {training_args.device}, got {weights!r}.")


def _check_context(data_args: DataArguments, simul_args: SimulArguments) -> None:
    """Refuse context that the data cannot have."""
    check_count("context_sentences", simul_args.context_sentences, least=0)
    check_count("run_sentences", simul_args.run_sentences)
    if simul_args.run_sentences <= simul_args.context_sentences:
        raise ValueError(
            f"run_sentences must be above context_sentences, {simul_args.context_sentences}, or no sentence has so "
            f"many before it in a row, got {simul_args.run_sentences}."
        )
    if simul_args.context_sentences and data_args.dataset_name in CORPORA:
        raise ValueError(
            f"context_sentences needs pairs in the order of their documents, but those of {data_args.dataset_name} are "
            "drawn at random."
        )
    if simul_args.context_sentences and data_args.concatenate != 1:
        raise ValueError(f"concatenate must be 1 with --context_sentences, got {data_args.concatenate}.")


__all__ = ["Flags", "SimulArguments", "read_flags"]
