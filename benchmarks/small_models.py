# SPDX-License-Identifier: Apache-2.0
"""One stream on a model of 10 million parameters: how much of a step is no product with weights and no attention,
but Python, the framework and small operations. One thread, processor time, in turns."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

import common
from transformers_simul import StreamEngine, WaitKPolicy
from transformers_simul.models.cache import CACHE_NAME
from transformers_simul.models.linear import decoding_linear


def measure(results: dict[str, float], raw: dict[str, list[float]], sentences: int = 4, rounds: int = 3) -> None:
    model, pairs = common.model(320, 6), common.sample(sentences)
    steps: list[tuple[int, int]] = []
    asked: list[int] = []

    def play() -> None:
        engine = StreamEngine(model, common.processor(), 1, 256)
        for pair in pairs:
            stream = engine.open(WaitKPolicy(3), row_decoder=common.forced_decoder([pair["forced"]]))
            stream.source.put(pair["text"])
            stream.source.end()
            while engine.step():
                pass

    hooks = (
        model.base_model.register_forward_hook(
            lambda module, args, output: steps.append((output.last_hidden_state.shape[1], model_keys(output)))
        ),
        model.lm_head.register_forward_pre_hook(lambda module, args: asked.append(args[0].shape[1])),
    )
    with common.one_thread():
        play()
        for hook in hooks:
            hook.remove()
        sides = {"step": play, "kernels": kernels(model, steps, asked)}
        seconds = common.alternate(sides, rounds, clock=time.process_time)
    results["small_model_python_share"] = 1 - common.ratio(seconds, "kernels", "step")
    results["small_model_ms: step"] = 1000 * sorted(seconds["step"])[rounds // 2] / len(steps)
    raw |= {f"small model, {name}": each for name, each in seconds.items()}


def model_keys(output: object) -> int:
    """Keys that the step's attention was over."""
    stored: int = getattr(output, CACHE_NAME).keys.offsets.shape[1]
    return stored


def kernels(model: Any, steps: list[tuple[int, int]], asked: list[int]) -> Callable[[], None]:
    """The products and attentions of these steps, of so many tokens and keys, and the head for the tokens that asked;
    nothing else."""
    head = model.lm_head
    layers = [layer for layer in model.base_model.modules() if isinstance(layer, torch.nn.Linear)]
    heads, layers_count = model.config.num_attention_heads, model.config.num_hidden_layers
    size = model.config.hidden_size // heads

    @torch.inference_mode()
    def run() -> None:
        for (tokens, keys), answers in zip(steps, asked, strict=True):
            rows = {width: torch.ones(tokens, width) for width in {layer.in_features for layer in layers}}
            query, key = torch.ones(1, heads, tokens, size), torch.ones(1, heads, keys, size)
            mask = torch.zeros(1, heads, tokens, keys)
            for layer in layers:
                decoding_linear(rows[layer.in_features], layer.weight, layer.bias)
            decoding_linear(torch.ones(answers, head.in_features), head.weight, head.bias)
            for _ in range(layers_count):
                F.scaled_dot_product_attention(query, key, key, attn_mask=mask)

    return run


if __name__ == "__main__":
    figures: dict[str, float] = {}
    measure(figures, {})
    common.report(figures, {})
