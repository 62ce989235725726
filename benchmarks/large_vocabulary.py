# SPDX-License-Identifier: Apache-2.0
"""A fine-tuning step with adapters under bfloat16, with logits of all target tokens at once and in turns: seconds with
pairs at random, sides in turns, and with the longest of 200 the most memory of a process that does one step (Linux).

Usage: benchmarks/large_vocabulary.py MODEL_FOLDER SOURCE TARGET, with MODEL_FOLDER from
`python -m transformers_simul.checkpoints gemma3-270m FOLDER`
"""

import random
import statistics
import sys
from collections.abc import Callable

import torch

import common
from transformers_simul import MixturePolicy, SimulMaskDataCollator, WaitKPolicy
from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import read_pairs
from transformers_simul.models import loss
from transformers_simul.training import DataArguments, ModelArguments, make_model, make_processor

SIDES = {"at once": sys.maxsize, "in turns": loss.LOGITS_AT_ONCE}


def step(args, side: str, longest: bool) -> Callable[[], None]:
    """Forward and backward of one batch."""
    torch.manual_seed(0)
    pairs = random.Random(0).sample(read_pairs([args.source, args.target], "source", "target"), 200)
    if longest:
        pairs.sort(key=lambda pair: -len(pair.source))
    size = ModelArguments(model_name_or_path=args.model, use_lora=True)
    processor = make_processor(size, DataArguments(template=args.template), pairs)
    collator = SimulMaskDataCollator(processor, MixturePolicy([WaitKPolicy(k) for k in (1, 3, 5, 7)]))
    collator.set_epoch(0)
    batch = collator([processor.encode_pair(*pair) for pair in pairs[: args.pairs]])
    model = make_model(size, processor).train()

    def run() -> None:
        loss.LOGITS_AT_ONCE = SIDES[side]
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(**batch).loss
        found.backward()

    return run


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("model", help="folder")
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--template", default="<bos>{source_lang}: {source}\n{target_lang}: {target}")
    parser.add_argument("--once", choices=SIDES, help="print the memory of one step in kB, and nothing else")
    args = parser.parse_args()
    if args.once:
        step(args, args.once, longest=True)()
        common.print_peak()
        return
    peaks = {side: common.peak_gb(__file__, *sys.argv[1:], "--once", side) for side in SIDES}
    seconds = common.alternate({side: step(args, side, longest=False) for side in SIDES}, rounds=3)
    print("| logits | s a step | most memory, GB |\n|---|---|---|")
    for side in SIDES:
        print(f"| {side} | {statistics.median(seconds[side]):.2f} | {peaks[side]:.1f} |")
    print(common.machine())


if __name__ == "__main__":
    main()
