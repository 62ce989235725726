# SPDX-License-Identifier: Apache-2.0
"""Draw docs/images/paths.png: how four policies read and write a German sentence whose verb stands at its end, where
English has it third. The model is small and learns these sentences alone.

Usage: python docs/tools/paths.py   (about a minute, no download)
"""

import itertools
import random
import sys
import tempfile
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

from transformers_simul import (
    AlignedPolicy,
    MixturePolicy,
    RandomPathPolicy,
    SimulFalconConfig,
    SimulFalconForCausalLM,
    SimulMaskDataCollator,
    SimulProcessor,
    cli,
)
from transformers_simul.training import train_tokenizer

PICTURE = Path(__file__).resolve().parents[1] / "images" / "paths.png"
POLICIES = ("wait-3", "full", "learned:0.5", "agree-2")
# German and English, in the order of German. English has the last of them third.
PARTS = [
    [("Ich", "I"), ("Wir", "We"), ("Sie", "They")],
    [("haben", "have"), ("hatten", "had")],
    [("gestern", "yesterday"), ("heute", "today"), ("oft", "often")],
    [("den Hund", "the dog"), ("ein Buch", "a book"), ("die Katze", "the cat"), ("einen Freund", "a friend")],
    [("im Garten", "in the garden"), ("am See", "at the lake"), ("zu Hause", "at home")],
    [("gesehen.", "seen"), ("gesucht.", "sought"), ("gefunden.", "found"), ("verloren.", "lost")],
]
ENGLISH_ORDER = (0, 1, 5, 3, 4, 2)
EXAMPLE = "Wir haben gestern den Hund im Garten gefunden."


def pairs() -> list[dict[str, str]]:
    """Every sentence, its translation and their alignment: the words of a part are aligned with those of its other
    side, in order."""
    found = []
    for parts in itertools.product(*PARTS):
        german = [part[0].split() for part in parts]
        english = [parts[index][1].split() for index in ENGLISH_ORDER]
        starts = [0, *itertools.accumulate(map(len, german))]
        links, written = [], 0
        for index, words in zip(ENGLISH_ORDER, english, strict=True):
            for place in range(len(words)):
                links.append(f"{starts[index] + min(place, len(german[index]) - 1)}-{written}")
                written += 1
        text = [" ".join(itertools.chain.from_iterable(side)) for side in (german, english)]
        found.append({"source": text[0], "target": f"{text[1]}.", "alignment": " ".join(links)})
    return found


def train(steps: int) -> tuple[SimulFalconForCausalLM, SimulProcessor]:
    """A small model that has seen every sentence but the example's, under paths that follow the alignments, and
    others."""
    known = [pair for pair in pairs() if pair["source"] != EXAMPLE]
    random.Random(0).shuffle(known)
    tokenizer = train_tokenizer([(pair["source"], pair["target"]) for pair in known], vocab_size=400)
    processor = SimulProcessor(tokenizer, source_lang="de", target_lang="en", template="{source} => {target}")
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    config = SimulFalconConfig(
        vocab_size=len(tokenizer), hidden_size=96, num_hidden_layers=3, num_attention_heads=4, multi_query=False, **ids
    )
    model = SimulFalconForCausalLM(config)
    collator = SimulMaskDataCollator(processor, MixturePolicy([AlignedPolicy(), RandomPathPolicy(1, 9)]))
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=32, learning_rate=2e-3, lr_scheduler_type="linear",
            warmup_steps=20, remove_unused_columns=False, report_to="none", save_strategy="no", use_cpu=True,
            disable_tqdm=True, logging_steps=100,
        )  # fmt: skip
        Trainer(model, args, data_collator=collator, train_dataset=known, callbacks=[collator]).train()
    return model.eval(), processor


def main(steps: int = 300) -> int:
    model, processor = train(steps)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return cli.main(["paths", folder, "--source", EXAMPLE, "--policy", *POLICIES, "--output", str(PICTURE)])


if __name__ == "__main__":
    sys.exit(main())
