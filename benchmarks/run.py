# SPDX-License-Identifier: Apache-2.0
"""Quick ratios on this machine: simultaneous against offline decoding, SimulMask against causal training steps,
packed against padded batches. Sides alternate within one run; medians; `benchmarks/latest.json`."""

import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.models.falcon.modeling_falcon import FalconForCausalLM

from transformers_simul import (
    OfflinePolicy,
    SimulFalconConfig,
    SimulFalconForCausalLM,
    SimulMaskDataCollator,
    SimulProcessor,
    WaitKPolicy,
)
from transformers_simul.corpora import load_home_assistant
from transformers_simul.finetuning import split_pairs, train_tokenizer
from transformers_simul.text_files import write_text

ROUNDS = 5


class Forced(LogitsProcessor):
    """The same target for both sides: neither knows its next token before it asks."""

    def __init__(self, prompt: int, target: list[int]):
        self.prompt, self.target = prompt, target

    def __call__(self, input_ids, scores):
        kept = torch.full_like(scores, -torch.inf)
        kept[:, self.target[self.position(input_ids)]] = 0.0
        return kept

    def position(self, input_ids) -> int:
        return input_ids.shape[1] - self.prompt


class ForcedBehindTail(Forced):
    """As above where the prompt grows while it is read."""

    def __init__(self, tail: list[int], target: list[int]):
        self.tail, self.target = tail, target

    def position(self, input_ids) -> int:
        ids = input_ids[0].tolist()
        return next(
            n for n in range(len(self.target)) if ids[len(ids) - n - len(self.tail) :] == self.tail + self.target[:n]
        )


def alternate(sides: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Seconds of each side, in turns, after one warm-up each."""
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], first: str, second: str) -> float:
    return statistics.median(seconds[first]) / statistics.median(seconds[second])


def main() -> None:
    torch.manual_seed(0)
    splits = split_pairs(load_home_assistant())
    processor = SimulProcessor(train_tokenizer(splits["train"], 8000), template="{source} => {target}")
    shapes = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "parallel_attn": False}
    config = SimulFalconConfig(vocab_size=8000, multi_query=False, bias=True, eos_token_id=0, bos_token_id=0, **shapes)
    model = SimulFalconForCausalLM(config).eval()
    stock = FalconForCausalLM._from_config(config, attn_implementation="sdpa").eval()
    stock.load_state_dict(model.state_dict())

    results: dict[str, float] = {}
    raw: dict[str, list[float]] = {}
    decode(results, raw, model, stock, processor, splits["test"])
    train(results, raw, model, stock, processor, splits["train"])
    report = {
        **results,
        "seconds": raw,
        "machine": {"processor": platform.processor(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    path = Path(__file__).with_name("latest.json")
    write_text(path, json.dumps(report, indent=2) + "\n")
    for name, value in results.items():
        print(f"{name:<24} {value:8.2f}")
    print(f"medians of {ROUNDS} alternating rounds; everything in {path}")


def decode(results, raw, model, stock, processor, test) -> None:
    """The same forced targets, wait-3 and full source, against stock Falcon's generate() with the full source."""
    pairs = [processor.encode_pair(*pair) | {"source": pair.source} for pair in random.Random(0).sample(test, 8)]
    counts = {"forwards": 0, "tokens": 0}

    def simultaneous(policy):
        def side():
            for pair in pairs:
                target = [token for word in pair["target_ids"] for token in word] + [processor.eos_token_id]
                rule = LogitsProcessorList([ForcedBehindTail(processor.tail_ids, target)])
                output = model.generate(
                    **processor(source=pair["source"]), policy=policy, logits_processor=rule,
                    max_new_tokens=len(target) + 1, return_dict_in_generate=True,
                )  # fmt: skip
                counts["forwards"] += output.forwards
                counts["tokens"] += len(target)

        return side

    def offline():
        for pair in pairs:
            inputs = processor(source=pair["source"])["input_ids"]
            target = [token for word in pair["target_ids"] for token in word] + [processor.eos_token_id]
            rule = LogitsProcessorList([Forced(inputs.shape[1], target)])
            stock.generate(inputs, attention_mask=torch.ones_like(inputs), logits_processor=rule, do_sample=False,
                           max_new_tokens=len(target), pad_token_id=0)  # fmt: skip

    seconds = alternate({"wait-3": simultaneous(WaitKPolicy(3)), "stock offline": offline})
    results["forwards_per_token"] = counts["forwards"] / counts["tokens"]
    seconds |= alternate({"full source": simultaneous(OfflinePolicy())})
    results["decode_vs_offline"] = ratio(seconds, "wait-3", "stock offline")
    raw |= seconds


def train(results, raw, model, stock, processor, pairs) -> None:
    """Training steps on the same rows, collation included; and useful tokens per second, packed against padded."""
    examples = [processor.encode_pair(*pair) for pair in random.Random(0).sample(pairs, 64)]
    model.train()
    stock.train()

    def causal_rows():
        batch = SimulMaskDataCollator(processor, OfflinePolicy(), peek_rows=0)(examples[:32])
        return {"input_ids": batch["input_ids"], "labels": batch["labels"],
                "attention_mask": (batch["pair_ids"] > 0).long()}  # fmt: skip

    def step(network, make_batch):
        def side():
            network(**make_batch()).loss.backward()
            network.zero_grad()

        return side

    def simul(**options):
        return lambda: SimulMaskDataCollator(processor, WaitKPolicy(3), **options)(examples[:32])

    seconds = alternate(
        {
            "SimulMask step": step(model, simul(peek_rows=0)),
            "SimulMask step with peek rows": step(model, simul()),
            "stock causal step": step(stock, causal_rows),
        }
    )
    results["train_vs_causal"] = ratio(seconds, "SimulMask step", "stock causal step")
    results["train_with_peeks_vs_causal"] = ratio(seconds, "SimulMask step with peek rows", "stock causal step")
    raw |= seconds
    packing = alternate(
        {
            "padded": step(model, lambda: SimulMaskDataCollator(processor, WaitKPolicy(3))(examples)),
            "packed": step(
                model, lambda: SimulMaskDataCollator(processor, WaitKPolicy(3), packing=True, max_length=256)(examples)
            ),
        }
    )
    results["packing_vs_padded"] = ratio(packing, "padded", "packed")
    raw |= packing


if __name__ == "__main__":
    main()
