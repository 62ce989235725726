# SPDX-License-Identifier: Apache-2.0
"""What the speed benchmarks share: a model with falcon-rw-1b's proportions, real sentences, forced targets, and sides
that take turns."""

import contextlib
import functools
import importlib.util
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.models.falcon.configuration_falcon import FalconConfig
from transformers.models.falcon.modeling_falcon import FalconForCausalLM

from transformers_simul import SimulFalconConfig, SimulFalconForCausalLM, SimulProcessor
from transformers_simul.corpora import Pair, load_home_assistant
from transformers_simul.models.choosing import Answer
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.models.word_rule import Expected
from transformers_simul.text_files import write_text
from transformers_simul.training import split_pairs, train_tokenizer

ROUNDS = 5


class Forced:
    """A logits processor that lets only the next token of a target through: no side knows it before it asks."""

    def __init__(self, target: list[int], written: Callable[[torch.Tensor], int]):
        self.target, self.written = target, written

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        kept = torch.full_like(scores, -torch.inf)
        kept[:, self.target[self.written(input_ids)]] = 0.0
        return kept


class JustInTimeDecoder(RowDecoder):
    """Decodes as if no word were there before it is read."""

    feeds_ahead = False


def forced_decoder(targets: list[list[int]], base: type[RowDecoder] = RowDecoder) -> type[RowDecoder]:
    """A row decoder whose n-th instance writes the n-th target, after the step has chosen for it as for any other."""
    waiting = iter(targets)

    class ForcedDecoder(base):  # type: ignore[misc, valid-type]
        def __init__(self, **kwargs: Any):
            self.forced = next(waiting)
            super().__init__(**kwargs | {"max_new_tokens": len(self.forced) + 1})

        def word_ends(self, answer: Answer) -> bool:
            return self.rule.is_start(self.forced[len(self.target)])

        def choose(self, answer: Answer, expected: Expected) -> int:
            return self.forced[len(self.target)]

    return ForcedDecoder


@functools.cache
def corpus() -> dict[str, list]:
    """Real sentence pairs, English to German: `train` and `test`."""
    return split_pairs(load_home_assistant())


@functools.cache
def processor() -> SimulProcessor:
    """With the paper's prompt and a vocabulary learnt from the corpus."""
    return SimulProcessor(train_tokenizer(corpus()["train"], 8000), target_lang="de")


@functools.cache
def model(hidden_size: int = 1024, num_hidden_layers: int = 6) -> SimulFalconForCausalLM:
    """falcon-rw-1b made smaller: heads of 64, four times the width inside, biases, no parallel attention."""
    torch.manual_seed(0)
    config = SimulFalconConfig(
        vocab_size=8000,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=hidden_size // 64,
        multi_query=False,
        parallel_attn=False,
        bias=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    return SimulFalconForCausalLM(config).eval()


def stock(ours: SimulFalconForCausalLM) -> FalconForCausalLM:
    """Stock Falcon with the same weights, and with a configuration that other programs know."""
    known = {name: value for name, value in ours.config.to_dict().items() if name in FalconConfig().to_dict()}
    falcon = FalconForCausalLM._from_config(FalconConfig(**known), attn_implementation="sdpa").eval()
    falcon.load_state_dict(ours.state_dict())
    return falcon


def sample(count: int, part: str = "test") -> list[dict[str, Any]]:
    """Pairs as `source` and `target` ids of words, `text`, and `forced`: the target's ids and EOS."""
    return [encoded(pair, processor()) for pair in random.Random(0).sample(corpus()[part], count)]


def encoded(pair: Pair, processor: SimulProcessor) -> dict[str, Any]:
    """As those of [`sample`]."""
    ids = processor.encode_pair(*pair)
    forced = [token for word in ids["target_ids"] for token in word] + [processor.eos_token_id]
    return {**ids, "text": pair.source, "forced": forced}


def alternate(
    sides: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each side, in turns, after one warm-up each."""
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            started = clock()
            side()
            seconds[name].append(clock() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], first: str, second: str) -> float:
    """Of the medians."""
    return statistics.median(seconds[first]) / statistics.median(seconds[second])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch computes in one thread: with more, processor time counts those that only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class SkippedPart(Exception):
    """A part of the benchmarks that this machine cannot run, and why."""


@contextlib.contextmanager
def needs(package: str) -> Iterator[None]:
    """What is within is skipped without a package, by its name.

    Raises:
        SkippedPart: without it.
    """
    if importlib.util.find_spec(package) is None:
        raise SkippedPart(f"{package} is not installed")
    yield


def peak_gb(program: str, *arguments: str) -> float:
    """Most memory of a process that runs a benchmark with these arguments, of which the last thing it does is
    [`print_peak`]."""
    done = subprocess.run([sys.executable, program, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1]) / 1e6


def print_peak() -> None:
    """Print the most memory that this process has held, in kB (Linux)."""
    # Not getrusage's figure, which a child takes over from its parent.
    print(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def machine() -> dict[str, Any]:
    """What the figures were measured on, and what it could do: one core's or all cores' reading and multiplying."""
    weights, square = torch.ones(100_000_000), torch.ones(2048, 2048)
    with torch.inference_mode():
        seconds = alternate(
            {
                "read": weights.sum,
                "multiply": lambda: torch.ops.mkldnn._linear_pointwise(square, square, None, "none", [], ""),
            }
        )
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "read_gb_per_s": round(0.4 / statistics.median(seconds["read"]), 1),
        "multiply_gflop_per_s": round(2 * 2.048**3 / statistics.median(seconds["multiply"]), 1),
    }


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def report(
    results: Mapping[str, float],
    raw: Mapping[str, list[float]],
    path: Path | None = None,
    skipped: Mapping[str, str] | None = None,
) -> None:
    """Print figures and, if there is a path, write them with the raw seconds and the machine's description. Parts that
    were skipped are named, each with its reason."""
    for name, value in results.items():
        print(f"{name:<36} {value:10.3f}")
    for name, reason in (skipped or {}).items():
        print(f"{name:<36} skipped: {reason}")
    if path is not None:
        here = machine()
        write_text(
            path,
            json.dumps({**results, "skipped": dict(skipped or {}), "seconds": raw, "machine": here}, indent=2) + "\n",
        )
        print(f"medians of alternating rounds; {here}; written to {path}")
