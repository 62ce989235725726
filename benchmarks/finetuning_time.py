# SPDX-License-Identifier: Apache-2.0
"""What a fine-tuning step of each of the paper's systems costs: the same 32 pairs, collation and optimiser included,
systems in turns, medians, as ratios to the causal one.

Usage: benchmarks/finetuning_time.py SOURCE_FILE TARGET_FILE
"""

import random
import statistics
import sys

import torch

from common import alternate
from transformers_simul import MixturePolicy, OfflinePolicy, WaitKPolicy
from transformers_simul.corpora import read_pairs
from transformers_simul.research.baselines import SYSTEMS
from transformers_simul.training import DataArguments, ModelArguments, make_model, make_processor

PAIRS, POLICY = 32, MixturePolicy([WaitKPolicy(k) for k in (1, 3, 5, 7)])


def main(source: str, target: str) -> None:
    torch.manual_seed(0)
    pairs = read_pairs([source, target], "source", "target")
    size = ModelArguments(vocab_size=5000, dropout=0.1, label_smoothing=0.1)
    processor = make_processor(size, DataArguments(template="{source} => {target}"), pairs)
    examples = [processor.encode_pair(*pair) for pair in random.Random(0).sample(pairs, PAIRS)]
    sides, tokens = {}, {}
    for training in dict.fromkeys(system.training for system in SYSTEMS):
        model = make_model(size, processor, positions=training.positions).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        policy = POLICY if training.follows_policy else OfflinePolicy()
        collator = training.collator(processor, policy, peek_rows=training.peek_rows)
        collator.set_epoch(0)

        def step(model=model, optimizer=optimizer, collator=collator):
            model(**collator(examples)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        sides[training.name] = step
        tokens[training.name] = int((collator(examples)["pair_ids"] > 0).sum())
    medians = {name: statistics.median(each) for name, each in alternate(sides).items()}
    print("| fine-tuning | s per step of 32 pairs | against causal | tokens per pair |\n|---|---|---|---|")
    for name, seconds in medians.items():
        print(f"| {name} | {seconds:.3f} | {seconds / medians['causal']:.2f} | {tokens[name] / PAIRS:.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
