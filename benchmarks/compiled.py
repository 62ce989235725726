# SPDX-License-Identifier: Apache-2.0
"""Compiled linear layers: wait-3 with the source known against full-source decoding on the same compiled layers, and
both against the layers as they are. Compiling takes minutes, so `make bench` leaves it out.

The layers are compiled for one and two rows (a token; a token and its replacement) with inductor's freezing; prompts
take the usual kernel. Stock Falcon with ALiBi cannot be compiled through generate(): it crashes with a static cache.
"""

import torch
import torch._dynamo
import torch._inductor.config
from torch import nn

import common
from transformers_simul import OfflinePolicy, WaitKPolicy


class CompiledLinear(nn.Module):
    """One or two rows through a compiled layer, more through the layer as it was."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.layer = layer
        # Frozen weights are constants of the compiled code, so it must be stock nn.Linear that is compiled.
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        plain.weight, plain.bias = layer.weight, layer.bias
        self.few = torch.compile(plain, mode="max-autotune", dynamic=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.few(rows) if rows.numel() <= 2 * rows.shape[-1] else self.layer(rows)


def main() -> None:
    torch._dynamo.config.recompile_limit = 256
    torch._inductor.config.freezing = True
    model, processor, pairs = common.model(), common.processor(), common.sample(6)

    def decode(policy):
        def side():
            for pair in pairs:
                decoder = common.forced_decoder([pair["forced"]])
                model.generate(**processor(source=pair["text"]), policy=policy, row_decoder=decoder)

        return side

    sides = {"wait-3": decode(WaitKPolicy(3)), "full source": decode(OfflinePolicy())}
    plain = common.alternate(sides)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, CompiledLinear(layer))
    compiled = common.alternate(sides)
    seconds = {f"{name}, as they are": times for name, times in plain.items()} | compiled
    common.report(
        {
            "wait-3 vs full source, compiled": common.ratio(seconds, "wait-3", "full source"),
            "wait-3 vs full source, as they are": common.ratio(plain, "wait-3", "full source"),
            "wait-3: compiled vs as they are": common.ratio(seconds, "wait-3", "wait-3, as they are"),
            "full source: compiled vs as they are": common.ratio(seconds, "full source", "full source, as they are"),
        },
        {},
    )


if __name__ == "__main__":
    main()
