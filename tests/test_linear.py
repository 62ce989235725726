# SPDX-License-Identifier: Apache-2.0
import random

import pytest
import torch
from torch import nn

from helpers import make_model, random_sentence
from transformers_simul import SimulFalconForCausalLM, SimulMaskDataCollator, WaitKPolicy
from transformers_simul.evaluation.flops import count_flops
from transformers_simul.models.linear import SimulLinear


@pytest.mark.parametrize(
    "shape", [(48,), (1, 48), (2, 48), (2, 2, 48), (2, 7, 48), (2, 65, 48), (0, 48), (1, 1, 600), (5, 1100)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_stock_layer_in_inference_mode_and_is_it_elsewhere(shape, bias):
    torch.manual_seed(0)
    layer = SimulLinear(shape[-1], 80, bias=bias)
    plain = nn.Linear(shape[-1], 80, bias=bias)
    plain.load_state_dict(layer.state_dict())
    inputs = torch.randn(shape)
    with torch.no_grad():
        expected = plain(inputs)
        assert torch.equal(layer(inputs), expected)
    with torch.inference_mode():
        assert layer(inputs).shape == expected.shape
        assert layer(inputs).is_contiguous()
        assert torch.allclose(layer(inputs), expected, atol=1e-6)
        assert torch.equal(layer.to(torch.bfloat16)(inputs.bfloat16()), plain.to(torch.bfloat16)(inputs.bfloat16()))
    layer.float()(inputs).sum().backward()
    assert layer.bias is None or layer.bias.grad is not None
    assert (layer.weight.grad.abs().sum() > 0) == (inputs.numel() > 0)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_flops_are_counted_whatever_kernel_runs(model, processor, backend):
    """Two per weight and token fed, and those of attention: a plain loop over what was asked."""
    other = SimulFalconForCausalLM._from_config(model.config, attn_implementation=backend).eval()
    inputs = processor(source="a dog runs over the meadow")
    tokens, keys = [], []

    def note(module, args, kwargs):
        step = kwargs["past_key_values"]
        tokens.append(kwargs.get("input_ids", args[0] if args else None).shape[1])
        keys.append(tokens[-1] * step.keys.offsets.shape[1])

    other.transformer.register_forward_pre_hook(note, with_kwargs=True)
    answers = []
    other.lm_head.register_forward_pre_hook(lambda module, args: answers.append(args[0].shape[1]))
    counted = count_flops(lambda: other.generate(**inputs, policy=WaitKPolicy(2), max_new_tokens=6))
    size, layers = model.config.hidden_size, model.config.num_hidden_layers
    expected = layers * (2 * 12 * size**2 * sum(tokens) + 4 * size * sum(keys))
    expected += 2 * size * model.config.vocab_size * sum(answers)
    assert counted == expected


def test_layers_do_not_cut_the_graph_of_a_compiled_training_step(processor):
    """As `--torch_compile` does; a question for the inference mode would cut it in each linear layer."""
    model, draw, attentions = make_model(processor, num_hidden_layers=3).train(), random.Random(0), []

    def backend(graph, example):
        attentions.append(sum("scaled_dot_product" in str(node.target) for node in graph.graph.nodes))
        return graph.forward

    torch._dynamo.reset()
    compiled, collator = torch.compile(model, backend=backend), SimulMaskDataCollator(processor, WaitKPolicy(2))
    for words in (3, 5):
        source = random_sentence(draw, words, words)
        batch = collator([{"source": source, "target": "ein Hund rennt"}] * 2)
        loss = compiled(**batch).loss
        assert torch.equal(loss, model(**batch).loss)
        loss.backward()
    assert set(attentions) == {0, 3}
