# SPDX-License-Identifier: Apache-2.0
"""The experiment's flags, and the paper's set-up as flags."""

from dataclasses import dataclass, field

from ...models.align_att import AlignAttPolicy
from ...models.policies import Policy, WaitKPolicy
from ...models.policy_names import policy_from_name
from ...training import training_policy
from ..baselines import ABLATIONS, ROTARY_SYSTEMS, SYSTEMS, ConverseDecoder, System

# arXiv 2405.10443, section 5: what `--paper` stands for. Later flags win.
PAPER = """
--model_name_or_path tiiuae/falcon-rw-1b
--dataset_name IWSLT/iwslt2017 --dataset_config_name iwslt2017-{source_lang}-{target_lang}
--dataset_revision refs/convert/parquet --source_lang en --target_langs fr nl it ro de
--training_k +4 --eval_wait_k 1 3 5 7
--learning_rate 2e-4 --lr_scheduler_type inverse_sqrt --warmup_steps 0.03 --weight_decay 0.1 --max_grad_norm 1
--per_device_train_batch_size 16 --gradient_accumulation_steps 4 --bf16 --num_train_epochs 2 --max_length 512
--save_steps 500 --save_total_limit 1 --logging_steps 50 --report_to none
""".split()


@dataclass
class ExperimentArguments:
    """Which systems are compared, and at which k."""

    systems: list[str] = field(
        default_factory=lambda: [system.name for system in SYSTEMS], metadata={"help": "The paper's unless told."}
    )
    eval_wait_k: list[int] = field(default_factory=lambda: [1, 3, 5, 7], metadata={"help": "k to translate with."})
    eval_policy: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Further policies to translate with, by name, such as learned:0.5 or hold-2 (docs/policies.md).",
            "aliases": ["--policy"],
        },
    )
    training_k: list[str] = field(
        default_factory=lambda: ["1", "3", "5", "7"],
        metadata={"help": "k's that one model draws from per example; or '+n': a model for each k, trained at k + n."},
    )
    base_steps: int = field(default=4000, metadata={"help": "From scratch: steps on full sentences before the rest."})
    base_learning_rate: float = field(default=1e-3, metadata={"help": "From scratch."})
    predict_batch_size: int = field(default=32, metadata={"help": "Sentences translated side by side."})
    flops_sentences: int = field(default=50, metadata={"help": "Sentences whose FLOPs are counted, one by one."})
    flops_k: int = field(default=3, metadata={"help": "At this k."})

    def __post_init__(self):
        known = [system.name for system in (*SYSTEMS, *ABLATIONS, *ROTARY_SYSTEMS)]
        unknown = [name for name in self.systems if name not in known]
        if unknown or not self.systems:
            raise ValueError(f"systems must be among {known}, got {self.systems}.")
        if any(k.startswith("+") for k in self.training_k) and len(self.training_k) != 1:
            raise ValueError(f"training_k must be one '+n' or a list of k's, got {self.training_k}.")
        if self.training_k[0].startswith("+") and not self.training_k[0][1:].isdigit():
            raise ValueError(f"training_k must be '+' and a whole number, such as '+4', got {self.training_k[0]!r}.")
        if self.flops_sentences < 2:
            raise ValueError(f"flops_sentences must be at least 2, for quartiles, got {self.flops_sentences}.")
        for k in self.eval_wait_k:
            WaitKPolicy(k)
            self.training_policy(k)
        if self.flops_k not in self.eval_wait_k:
            raise ValueError(f"flops_k must be one of eval_wait_k, {self.eval_wait_k}, got {self.flops_k}.")
        for name in self.eval_policy:
            self._check_policy(name)

    def _check_policy(self, name: str) -> None:
        """Whether every system and its models can follow it: before the first hour of training."""
        policy = policy_from_name(name)
        if self.training_k[0].startswith("+"):
            raise ValueError(f"eval_policy needs one model for all k's, so no training_k {self.training_k[0]!r}.")
        if isinstance(policy, AlignAttPolicy):
            raise ValueError(f"eval_policy must need no alignment heads, which new models lack, got {name!r}.")
        for system in self.chosen_systems():
            if policy.draft_words and issubclass(system.row_decoder, ConverseDecoder):
                raise ValueError(f"eval_policy must ask for no drafts with system {system.name}, got {name!r}.")

    def chosen_systems(self) -> list[System]:
        """The names of the chosen systems, in the order of [`SYSTEMS`], [`ABLATIONS`] and [`ROTARY_SYSTEMS`]."""
        return [system for system in (*SYSTEMS, *ABLATIONS, *ROTARY_SYSTEMS) if system.name in self.systems]

    def training_policy(self, k: int) -> Policy:
        """The policy that the model is trained under which translates at k."""
        if self.training_k[0].startswith("+"):
            return WaitKPolicy(k + int(self.training_k[0]))
        return training_policy(self.training_k)


__all__ = ["PAPER", "ExperimentArguments"]
