# SPDX-License-Identifier: Apache-2.0
"""What all families share when attention follows a read/write schedule: how the schedule comes in, and the loss."""

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel

from .cache import CACHE_NAME, given_cache
from .generation import SimulGenerationMixin
from .linear import SimulLinear
from .loss import simul_loss
from .schedule import Schedule


def take_schedule(schedule: Schedule | None, arguments: dict[str, Any]) -> Schedule | None:
    """Return the schedule of a model without head, which may also be called with the collator's tensors, one
    for each field.

    Args:
        schedule (`Schedule`, *optional*): given by our own models.
        arguments (`dict[str, Any]`): further arguments of the forward; the fields of a schedule are removed from them.

    Raises:
        ValueError: for some fields without the others, or fields beside a schedule.
    """
    fields = [arguments.pop(name, None) for name in Schedule._fields]
    found = Schedule.of_fields(*fields)
    if found is not None and schedule is not None:
        raise ValueError(f"schedule must not stand beside its fields {Schedule._fields}: give one or the other.")
    return schedule if found is None else found


NO_LABELS = (
    "labels must be given with a schedule in training: TrainingArguments.label_smoothing_factor takes them away from "
    "the model, so leave it at 0 and set config.label_smoothing instead."
)
NO_DATA_PARALLEL = (
    "nn.DataParallel, which the Trainer takes for several GPUs in one process, cannot train this model: its copies "
    "have no parameters, and it splits token_kinds. Start one process for each GPU, with accelerate launch or torchrun "
    "(docs/distributed.md), or show one GPU alone: CUDA_VISIBLE_DEVICES=0."
)


class SimulForCausalLM(SimulGenerationMixin):
    """Mixin in front of a family's `...ForCausalLM`: takes a schedule, returns loss and logits, and has
    `generate(policy=...)`.

    Weights and their names are the family's, so that its checkpoints load as they are. Without a schedule the model is
    the family's own.

    Attributes:
        layers_class (`type`): the model without head, with our forward.
    """

    # Saved folders carry this code; Transformers notes one Auto name for it, and the folder needs two.
    _auto_class = "AutoModelForCausalLM"
    _supports_sdpa = _supports_flex_attn = True
    _supports_flash_attn = False
    layers_class: type

    def __init__(self, config: Any):
        # Not the family's, which would make its own layers.
        PreTrainedModel.__init__(self, config)
        config.auto_map = {"AutoModel": f"{self.layers_class.__module__.split('.')[-1]}.{self.layers_class.__name__}"}
        setattr(self, self.base_model_prefix, self.layers_class(config))
        self.lm_head = SimulLinear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _replicate_for_data_parallel(self) -> Any:
        raise ValueError(NO_DATA_PARALLEL)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        pair_ids: torch.Tensor | None = None,
        in_target: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
        visible_source: torch.Tensor | None = None,
        peeks: torch.Tensor | None = None,
        places: torch.Tensor | None = None,
        context_starts: torch.Tensor | None = None,
        token_kinds: torch.Tensor | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Do as the family's forward, with more tensors that [`SimulMaskDataCollator`] makes.

        Args:
            pair_ids, in_target, offsets, visible_source, peeks (`torch.Tensor` of shape `(batch, length)`): who sees
                whom, see [`Schedule`]: all or none; none is plain causal attention.
            places, context_starts (`torch.Tensor` of shape `(batch, length)`, *optional*): which earlier pairs of its
                row a query sees as context; only for positions that [`check_context`] allows.
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*): the ids to predict, -100 where nothing
                is to be learnt; shifted inside, as everywhere in Transformers.
            token_kinds (`torch.Tensor` of shape `(vocabulary,)`, *optional*): which tokens start a word or end the
                text; needed for peek rows. It is in the batch because a stock Trainer gives a model nothing else.
            cache (`Cache`, *optional*): another name of `past_key_values`.

        Returns:
            `CausalLMOutputWithPast`: `loss` per target token, and `logits` of shape `(batch, length, vocabulary)`,
            which are None in training, where only labelled rows are projected.

        Raises:
            ValueError: for a schedule in training without labels, peek rows without `token_kinds`, NaN in the loss, or
                a row with positions that the model does not know.
        """
        if self.training and pair_ids is not None and labels is None and torch.is_grad_enabled():
            raise ValueError(NO_LABELS)
        items = kwargs.pop("num_items_in_batch", None)
        outputs = self.base_model(
            input_ids,
            past_key_values=given_cache(past_key_values, cache),
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            schedule=Schedule.of_fields(pair_ids, in_target, offsets, visible_source, peeks, places, context_starts),
            **kwargs,
        )
        hidden_states, loss, logits = outputs.last_hidden_state, None, None
        if labels is not None:
            smoothing, weight = self.config.label_smoothing if self.training else 0.0, self.config.peek_weight
            loss = simul_loss(hidden_states, self.lm_head, labels, peeks, token_kinds, smoothing, weight, items)
        if loss is None or not self.training:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden_states[:, kept])
        output = CausalLMOutputWithPast(
            loss, logits, getattr(outputs, CACHE_NAME), outputs.hidden_states, outputs.attentions
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()


def swap_classes(model: nn.Module, classes: dict[type, type]) -> None:
    """Let modules compute in our way without changing parameters, names or initial values.

    Linear layers that are about to be quantised become plain ones: quantisers look for `nn.Linear` itself and ignore
    classes derived from it.

    Args:
        model (`nn.Module`): the family's.
        classes (`dict[type, type]`): our classes by theirs.
    """
    if hasattr(model.config, "quantization_config"):
        classes = {theirs: nn.Linear if issubclass(theirs, nn.Linear) else ours for theirs, ours in classes.items()}
    for module in model.modules():
        module.__class__ = classes.get(type(module), type(module))


__all__ = ["SimulForCausalLM", "swap_classes", "take_schedule"]
