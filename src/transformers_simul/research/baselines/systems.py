# SPDX-License-Identifier: Apache-2.0
"""The paper's systems: what each is trained on and how it decodes."""

from typing import NamedTuple

from ...models.row_decoder import RowDecoder
from ...training.data_collator import SimulMaskDataCollator
from .converse import ConverseDataCollator, ConverseDecoder
from .prefix import PrefixDataCollator
from .published_rows import PublishedRowsDataCollator
from .recompute import RecomputingDecoder


class Training(NamedTuple):
    """One fine-tuning; several systems may share it.

    Attributes:
        name (`str`): of its folder.
        collator (`type`): [`SimulMaskDataCollator`], or one that makes other rows.
        follows_policy (`bool`): trained under the read/write policy; otherwise on full sentences.
        positions (`str`, *optional*): of the model; the family's own unless told, see [`SimulConfig`].
        peek_rows (`float`): share of peek rows.
        rows_per_pair (`int`): about how many rows a pair becomes: a batch is cut into so many, and their gradients
            are summed, so that it fits where the other systems' batches fit.
    """

    name: str
    collator: type[SimulMaskDataCollator]
    follows_policy: bool = True
    positions: str | None = None
    peek_rows: float = 0.0
    rows_per_pair: int = 1


class System(NamedTuple):
    """One line of the comparison.

    Attributes:
        name (`str`): the paper's.
        training (`Training`): the model.
        row_decoder (`type`): how it reads and writes; an argument of `generate()`.
        is_offline (`bool`): translates the full source, whatever k.
        eos_threshold (`float`, *optional*): EOS is written only above it, see [`SimulGenerationConfig`]; unless told,
            as the trained folder says.
    """

    name: str
    training: Training
    row_decoder: type[RowDecoder] = RowDecoder
    is_offline: bool = False
    eos_threshold: float | None = None


CAUSAL = Training("causal", SimulMaskDataCollator, follows_policy=False)
PREFIX = Training("prefix", PrefixDataCollator, rows_per_pair=8)
CONVERSE = Training("converse", ConverseDataCollator)
SIMULMASK_PLAIN_ALIBI = Training("simulmask-plain-alibi", SimulMaskDataCollator, positions="plain")
SIMULMASK = Training("simulmask", SimulMaskDataCollator)
SIMULMASK_PEEK = Training("simulmask-peek", SimulMaskDataCollator, peek_rows=1.0)
SIMULMASK_NO_ALIBI = Training("simulmask-no-alibi", SimulMaskDataCollator, positions="none")
SIMULMASK_PUBLISHED_ROWS = Training("simulmask-published-rows", PublishedRowsDataCollator)

SYSTEMS = (
    System("causal-offline", CAUSAL, is_offline=True),
    System("causal-rec", CAUSAL, RecomputingDecoder),
    System("causal-norec", CAUSAL),
    System("prefix-rec", PREFIX, RecomputingDecoder),
    System("prefix-norec", PREFIX),
    System("converse-norec", CONVERSE, ConverseDecoder),
    System("SM-norec", SIMULMASK_PLAIN_ALIBI),
    System("SM-norec-mod", SIMULMASK),
    System("SM-norec-mod+peek", SIMULMASK_PEEK),
)

# Questions that the paper leaves open: no positions at all, the rows of its published code, and prefix rows, each of
# which teaches an EOS, where the likeliest token is not enough to end.
ABLATIONS = (
    System("SM-no-alibi", SIMULMASK_NO_ALIBI),
    System("SM-published-rows", SIMULMASK_PUBLISHED_ROWS),
    System("prefix-rec-half", PREFIX, RecomputingDecoder, eos_threshold=0.5),
    System("prefix-norec-half", PREFIX, eos_threshold=0.5),
)

# For rotary positions: the strategies side by side, and the same model recomputing.
OWN_FRAME = Training("simulmask-own-frame", SimulMaskDataCollator, positions="own_frame")
GROUP = Training("simulmask-group", SimulMaskDataCollator, positions="group")
RESERVED = Training("simulmask-reserved", SimulMaskDataCollator, positions="reserved")

ROTARY_SYSTEMS = (
    System("SM-own-frame", OWN_FRAME),
    System("SM-own-frame-rec", OWN_FRAME, RecomputingDecoder),
    System("SM-group", GROUP),
    System("SM-reserved", RESERVED),
)

__all__ = [
    "ABLATIONS",
    "CAUSAL",
    "CONVERSE",
    "PREFIX",
    "ROTARY_SYSTEMS",
    "SIMULMASK",
    "SIMULMASK_NO_ALIBI",
    "SIMULMASK_PEEK",
    "SIMULMASK_PLAIN_ALIBI",
    "SIMULMASK_PUBLISHED_ROWS",
    "SYSTEMS",
    "System",
    "Training",
]
