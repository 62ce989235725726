# SPDX-License-Identifier: Apache-2.0
"""The claims about speed on one graphics card: training with FlexAttention against stock Falcon, its numbers against
those of the plain kernel, and live streams in bfloat16, as they are and with compiled layers.

Usage: benchmarks/gpu.sh [--device cuda] [--tiny]
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch._dynamo
from transformers.models.falcon.configuration_falcon import FalconConfig
from transformers.models.falcon.modeling_falcon import FalconForCausalLM

import common
from streams import play
from transformers_simul import (
    OfflinePolicy,
    SimulFalconConfig,
    SimulFalconForCausalLM,
    SimulMaskDataCollator,
    StreamEngine,
    WaitKPolicy,
)

STREAMS = (1, 64, 256)


class Bench(NamedTuple):
    """Where it runs, and how large: falcon-rw-1b's width and layers, or so small that every line takes a moment."""

    device: torch.device
    tiny: bool = False

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.has_card else "no card"

    @property
    def has_card(self) -> bool:
        return self.device.type == "cuda"

    @property
    def backend(self) -> str:
        return "inductor" if self.has_card else "eager"

    def settings(self) -> dict[str, Any]:
        width, layers = (64, 2) if self.tiny else (2048, 24)
        layout = {"multi_query": False, "parallel_attn": False, "bias": True, "bos_token_id": 0, "eos_token_id": 0}
        sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": max(1, width // 64)}
        return {"vocab_size": len(common.processor().tokenizer), **sizes, **layout}

    def model(self, dtype: torch.dtype, attention: str = "sdpa") -> SimulFalconForCausalLM:
        torch.manual_seed(0)
        config = SimulFalconConfig(**self.settings())
        with self.device:
            made = SimulFalconForCausalLM._from_config(config, dtype=dtype, attn_implementation=attention)
        return made.eval()

    def stock(self, dtype: torch.dtype) -> FalconForCausalLM:
        config = FalconConfig(**self.settings(), alibi=True)
        with self.device:
            return FalconForCausalLM._from_config(config, dtype=dtype, attn_implementation="sdpa")

    def wait(self) -> None:
        if self.has_card:
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], object], rounds: int = 3) -> float:
        """Median, after two runs that compile and warm up."""
        found = []
        for _ in range(2 + rounds):
            self.wait()
            started = time.perf_counter()
            run()
            self.wait()
            found.append(time.perf_counter() - started)
        return sorted(found[2:])[rounds // 2]


def rows(bench: Bench, policy: Any, **options: Any) -> dict[str, Any]:
    """A batch of training rows on the device."""
    pairs = common.sample(8 if bench.tiny else 128, "train")
    batch = SimulMaskDataCollator(common.processor(), policy, **options)(pairs)
    return {name: each.to(bench.device) for name, each in batch.items()}


def step(network: Any, batch: dict[str, Any]) -> Callable[[], None]:
    def run() -> None:
        network(**batch).loss.backward()
        network.zero_grad()

    return run


def training(bench: Bench, dtype: torch.dtype = torch.bfloat16) -> Iterator[tuple[str, float, str]]:
    """Steps on the same sentences: stock Falcon causal, SimulMask in each kernel, and packed."""
    causal = rows(bench, OfflinePolicy(), peek_rows=0)
    plain = {"input_ids": causal["input_ids"], "labels": causal["labels"]}
    stock = bench.seconds(step(bench.stock(dtype).train(), plain | {"attention_mask": (causal["pair_ids"] > 0).long()}))
    yield "training: stock causal step", 1000 * stock, "ms"
    padded = rows(bench, WaitKPolicy(3), peek_rows=0)
    packed = rows(bench, WaitKPolicy(3), peek_rows=0, packing=True, max_length=512 if bench.tiny else 2048)
    # FlexAttention has no gradient on a CPU.
    for attention in ("sdpa", *(["flex_attention"] if bench.has_card else [])):
        model = bench.model(dtype, attention).train()
        for name, batch in (("", padded), (", packed", packed)):
            yield (
                f"training: SimulMask, {attention}{name}, against stock",
                bench.seconds(step(model, batch)) / stock,
                "",
            )


def exactness(bench: Bench) -> Iterator[tuple[str, float, str]]:
    """FlexAttention, compiled on a card, against the plain kernel in float32: logits, and gradients on a card."""
    batch = rows(bench, WaitKPolicy(3))
    found = {}
    for attention in ("eager", "flex_attention"):
        model = bench.model(torch.float32, attention)
        with torch.set_grad_enabled(bench.has_card):
            output = model(**batch)
        found[attention] = [output.logits.detach()]
        if bench.has_card:
            output.loss.backward()
            found[attention] += [parameter.grad for parameter in model.parameters()]
    names = ["logits", "gradients"]
    errors = [(one - other).abs().max().item() for one, other in zip(*found.values(), strict=True)]
    for name, part in zip(names, (errors[:1], errors[1:]), strict=True):
        if part:
            yield f"FlexAttention against eager, float32: largest difference of {name}", max(part), ""


def compile_layers(model: Any, backend: str) -> None:
    """Compile what has the same shapes but for the number of tokens. A whole step is no graph: attention reads as many
    keys as the longest stream has."""
    torch._dynamo.config.recompile_limit = 256
    for block in model.base_model.h:
        block.mlp.forward = torch.compile(block.mlp.forward, dynamic=True, backend=backend)


@contextmanager
def waits(bench: Bench) -> Iterator[list[int]]:
    """Counts how often the host waited for the card."""
    counts = [0]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        if bench.has_card:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield counts
        finally:
            if bench.has_card:
                torch.cuda.set_sync_debug_mode("default")
    counts[0] = sum("synchronizing" in str(each.message) for each in heard)


def streams(bench: Bench) -> Iterator[tuple[str, float, str]]:
    """Words per second of live streams, and what a step of all asks of the card."""
    counts = (1, 4) if bench.tiny else STREAMS
    pairs = common.sample(2 * counts[-1] + 8)
    for kind in ("as it is", "compiled layers"):
        model = bench.model(torch.bfloat16)
        if kind != "as it is":
            compile_layers(model, bench.backend)
        for count in counts:
            engine = StreamEngine(model, common.processor(), max_streams=count, max_tokens=256)
            text = pairs[: max(2 * count, 8) + 4]
            play(engine, text, count)
            yield f"{count} live streams, bfloat16, {kind}", play(engine, text, count), "words per s"
    yield "waits of the host in a step of all streams", waits_per_step(bench, engine, pairs[: counts[-1]]), ""
    if bench.has_card:
        yield "memory, largest", torch.cuda.max_memory_allocated(bench.device) / 2**30, "GiB"


def waits_per_step(bench: Bench, engine: StreamEngine, pairs: list) -> float:
    for pair in pairs:
        stream = engine.open(WaitKPolicy(3), row_decoder=common.forced_decoder([pair["forced"]]))
        stream.source.put(pair["text"])
        stream.source.end()
    engine.step()
    taken = 0
    with waits(bench) as found:
        while engine.step():
            taken += 1
    return found[0] / taken


def offline(bench: Bench) -> Iterator[tuple[str, float, str]]:
    """One sentence: wait-3 against stock generate(), same number of tokens."""
    model, stock = bench.model(torch.bfloat16), bench.stock(torch.bfloat16).eval()
    processor, (pair,) = common.processor(), common.sample(1)
    ids = processor(source=pair["text"])["input_ids"].to(bench.device)
    count = len(pair["forced"])
    lengths = {"min_new_tokens": count, "max_new_tokens": count, "do_sample": False, "pad_token_id": 0}

    def ours() -> None:
        decoder = common.forced_decoder([pair["forced"]])
        model.generate(**processor(source=pair["text"]).to(bench.device), policy=WaitKPolicy(3), row_decoder=decoder)

    with torch.inference_mode():
        theirs = bench.seconds(lambda: stock.generate(ids, attention_mask=torch.ones_like(ids), **lengths))
    yield "one sentence, wait-3 against stock generate(), time", bench.seconds(ours) / theirs, ""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Every claim about speed on one card.")
    parser.add_argument("--device", default="cuda", help="such as cuda:1, or cpu")
    parser.add_argument("--tiny", action="store_true", help="so small that a CPU runs every line")
    options = parser.parse_args(arguments)
    bench = Bench(torch.device(options.device), options.tiny)
    if bench.has_card and not torch.cuda.is_available():
        parser.error("--device cuda needs a card, and torch sees none; --device cpu --tiny runs every line.")
    print(f"| {bench.name}, torch {torch.__version__} | | |\n|---|---|---|")
    for part in (training, exactness, offline, streams):
        for name, value, unit in part(bench):
            print(f"| {name} | {value:.4g} | {unit} |", flush=True)


if __name__ == "__main__":
    main()
