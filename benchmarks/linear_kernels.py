# SPDX-License-Identifier: Apache-2.0
"""A linear layer by rows and kernel: where decoding's time goes on a CPU. Twenty layers, so that weights come from
memory as they do in a model; milliseconds, medians of alternating rounds.

Usage: benchmarks/linear_kernels.py [OUT IN]   (4096 1024 unless told)
"""

import statistics
import sys

import torch
from torch.nn import functional as F

import common
from transformers_simul.models.decoding_weights import KINDS, PackedLinear
from transformers_simul.models.linear import _weights_first, onednn_linear

LAYERS = 20
OUT, IN = map(int, sys.argv[1:] or (4096, 1024))
ROWS = (1, 2, 3, 4, 8, 16, 64, 128)


def _packed(weight: torch.Tensor, bias: torch.Tensor, kind: str) -> PackedLinear:
    layer = torch.nn.Linear(IN, OUT)
    layer.weight.data, layer.bias.data = weight, bias
    return PackedLinear(layer, kind).eval()


def main() -> None:
    weights = [torch.randn(OUT, IN) for _ in range(LAYERS)]
    bias = torch.randn(OUT)
    halves, half_bias = [weight.bfloat16() for weight in weights], bias.bfloat16()
    kernels = {
        "F.linear": lambda rows: [F.linear(rows, weight, bias) for weight in weights],
        "x @ W.T + b": lambda rows: [rows @ weight.T + bias for weight in weights],
        "(W @ x.T).T, one row twice": lambda rows: [_weights_first(rows, weight, bias) for weight in weights],
        "oneDNN": lambda rows: [onednn_linear(rows, weight, bias) for weight in weights],
        "bfloat16": lambda rows: [F.linear(rows.bfloat16(), weight, half_bias) for weight in halves],
    }
    for kind in KINDS:
        layers = [_packed(weight, bias, kind) for weight in weights]
        kernels[f"decoding_weights={kind}"] = lambda rows, layers=layers: [layer(rows) for layer in layers]
    print(f"| rows | {' | '.join(kernels)} |\n|---|{'---|' * len(kernels)}")
    with torch.inference_mode():
        for count in ROWS:
            rows = torch.randn(count, IN)
            sides = {name: lambda kernel=kernel, rows=rows: kernel(rows) for name, kernel in kernels.items()}
            seconds = common.alternate(sides, rounds=7)
            medians = [1000 * statistics.median(times) for times in seconds.values()]
            print(f"| {count} | {' | '.join(f'{median:.1f}' for median in medians)} |")
    print(common.machine())


if __name__ == "__main__":
    main()
