# SPDX-License-Identifier: Apache-2.0
"""Memory that oneDNN's kernels for linear layers take: one for each number of rows and each shape of a layer.

    python benchmarks/kernel_memory.py
    ONEDNN_PRIMITIVE_CACHE_CAPACITY=64 python benchmarks/kernel_memory.py

Resident memory of this process, after freed memory was given back; Linux with glibc only.
"""

import ctypes
import time

import psutil
import torch
from torch.nn import functional as F

from transformers_simul.cli.flags import CommandParser
from transformers_simul.models.linear import decoding_linear

_STEPS = (8, 16, 32, 64, 96, 128, 192, 256, 384)


def resident_mib() -> float:
    """Of this process."""
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss / 2**20


def lap(weights: list[torch.Tensor], first: int, last: int, product) -> float:
    """Every layer once with each number of rows; the seconds that took."""
    began_s = time.perf_counter()
    for rows in range(first, last + 1):
        for weight in weights:
            product(torch.zeros(rows, weight.shape[1]), weight, None)
    return time.perf_counter() - began_s


def main() -> None:
    """Print the table."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=256, help="of a Falcon of these sizes (256)")
    parser.add_argument("--vocabulary", type=int, default=8000, help="(8000)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    size = args.hidden
    shapes = [(3 * size, size), (size, size), (4 * size, size), (size, 4 * size), (args.vocabulary, size)]
    weights = [torch.zeros(shape) for shape in shapes]
    print("| rows | oneDNN, MiB since the start | of one kernel, KiB | first call over later ones, ms | stock, MiB |")
    print("|---|---|---|---|---|")
    with torch.inference_mode():
        for product in (decoding_linear, F.linear):
            # What any call needs, however many rows it has.
            lap(weights, _STEPS[-1], _STEPS[-1], product)
        start, first, stock = resident_mib(), 1, 0.0
        for last in _STEPS:
            before = resident_mib()
            lap(weights, first, last, F.linear)
            between = resident_mib()
            stock += between - before
            count = (last - first + 1) * len(weights)
            new_s = lap(weights, first, last, decoding_linear)
            after = resident_mib()
            more_ms = (new_s - lap(weights, first, last, decoding_linear)) / count * 1e3
            each = (after - between) * 1024 / count
            print(f"| {first} to {last} | {after - start - stock:.0f} | {each:.0f} | {more_ms:.2f} | {stock:.0f} |")
            first = last + 1


if __name__ == "__main__":
    main()
