# SPDX-License-Identifier: Apache-2.0
"""What position strategies cost at length: the same Llama with own-frame, group and reserved positions, one training
row of so many tokens, and one decoding step behind so many; seconds in turns, memory each in a process of its own."""

import statistics
from collections.abc import Callable
from typing import Any

import torch

import common
from transformers_simul import SimulCache, SimulLlamaConfig, SimulLlamaForCausalLM
from transformers_simul.cli.flags import CommandParser
from transformers_simul.models import attention
from transformers_simul.models.decoding import decode_step
from transformers_simul.models.row import Ask
from transformers_simul.models.schedule import training_row

STRATEGIES = ("group", "reserved", "own_frame")
LENGTHS = {"training": (512, 2048, 4096), "decoding": (512, 2048, 8192)}
CHUNK = 256


def model(positions: str) -> SimulLlamaForCausalLM:
    """Four layers with the proportions of today's small models: shared keys, heads of 64."""
    torch.manual_seed(0)
    config = SimulLlamaConfig(
        vocab_size=8000,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=65536,
        positions=positions,
        target_start=16384 if positions == "reserved" else None,
    )
    return SimulLlamaForCausalLM(config)


def batch(length: int) -> dict[str, torch.Tensor]:
    """A wait-3 row, half source, half target, words of two tokens."""
    words = length // 4 - 2
    source = [[5, 6]] * words
    delays = [min(3 + index, words) for index in range(words)]
    row = training_row([1], source, [2], [[7, 8]] * words, 0, [*delays, words])
    return {name: torch.tensor([values]) for name, values in row.items()}


def training(positions: str, length: int) -> Callable[[], Any]:
    """One step of a row."""
    trained, columns = model(positions).train(), batch(length)
    return lambda: trained(**columns).loss.backward()


def decoding(positions: str, length: int) -> Callable[[], Any]:
    """Twenty times: read a word of two tokens and replace the newest row, behind `length` stored tokens."""
    decoder, cache = model(positions).eval(), SimulCache(1, max_tokens=length + 8)
    half = length // 2
    for start in range(0, half, CHUNK):
        decode_step(decoder, cache, {0: Ask([5] * CHUNK, start, [7], 0, start, (0,) if start else ())})
    for start in range(1, half, CHUNK):
        decode_step(decoder, cache, {0: Ask([], half, [7] * min(CHUNK, half - start), start, half)})
    decode_step(decoder, cache, {0: Ask([5, 6], half, [8], half - 1, half + 2, (0,))})

    def read_and_replace():
        for _ in range(20):
            # What was fed last is forgotten, so that the length stays.
            decode_step(decoder, cache, {0: Ask([5, 6], half, [8], half - 1, half + 2, (0, 1, 2))})

    return read_and_replace


def once(kind: str, positions: str, length: int) -> None:
    """Do it and print the process's peak of memory."""
    (training if kind == "training" else decoding)(positions, length)()
    common.print_peak()


def compare_kernels() -> None:
    """Own-frame decoding by two products, against keys of both frames side by side in one fused product."""

    few_queries = attention._FEW_QUERIES

    def under(most: int, step: Callable[[], Any]) -> Callable[[], Any]:
        def run():
            attention._FEW_QUERIES = most
            step()

        return run

    print("| behind tokens | one fused product / two products |\n|---|---|")
    for length in LENGTHS["decoding"]:
        step = decoding("own_frame", length)
        seconds = common.alternate({"two": under(few_queries, step), "one": under(0, step)}, rounds=5)
        print(f"| {length:,} | {common.ratio(seconds, 'one', 'two'):.2f} |", flush=True)
    print(common.machine())


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--memory", action="store_true", help="peaks instead of seconds")
    parser.add_argument("--kernels", action="store_true", help="decoding with own-frame keys: one product, or two")
    parser.add_argument("--once", nargs=3, metavar=("KIND", "POSITIONS", "LENGTH"))
    args = parser.parse_args()
    if args.once:
        once(args.once[0], args.once[1], int(args.once[2]))
        return
    if args.kernels:
        compare_kernels()
        return
    heads = ["MB group", "MB own-frame"] if args.memory else ["own-frame / group", "reserved / group"]
    heads += [] if args.memory else ["ms group", "ms own-frame"]
    print(f"| | tokens | {' | '.join(heads)} |\n|---|---{'|---' * len(heads)}|")
    for kind, build in (("training", training), ("decoding", decoding)):
        for length in LENGTHS[kind]:
            if args.memory:
                peaks = [common.peak_gb(__file__, "--once", kind, name, str(length)) for name in ("group", "own_frame")]
                cells = [f"{1000 * peak:.0f}" for peak in peaks]
            else:
                seconds = common.alternate({name: build(name, length) for name in STRATEGIES}, rounds=3)
                steps = 20 if kind == "decoding" else 1
                cells = [f"{common.ratio(seconds, name, 'group'):.2f}" for name in ("own_frame", "reserved")]
                cells += [f"{1000 * statistics.median(seconds[name]) / steps:.1f}" for name in ("group", "own_frame")]
            print(f"| {kind} | {length:,} | {' | '.join(cells)} |", flush=True)
    print(common.machine())


if __name__ == "__main__":
    main()
