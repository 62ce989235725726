# SPDX-License-Identifier: Apache-2.0
import random
from collections import Counter

import pytest
import torch
from torch import nn
from transformers import LogitsProcessorList

from helpers import make_model, random_sentence
from test_generation import Babble, assert_streamed_equals_trained, run, sentences
from transformers_simul import SimulFalconForCausalLM, SimulMaskDataCollator, WaitKPolicy
from transformers_simul.evaluation.flops import count_flops
from transformers_simul.models import linear
from transformers_simul.models.decoding_weights import set_decoding_weights
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


@pytest.mark.parametrize("shape", [(48,), (3, 48), (600,), (9, 600)])
def test_the_strides_of_a_bias_are_heeded(shape):
    """oneDNN takes the numbers of a bias one after another in memory."""
    torch.manual_seed(0)
    layer, inputs = SimulLinear(shape[-1], 80), torch.randn(shape)
    layer.bias = nn.Parameter(torch.randn(80, 2)[:, 0])
    assert not layer.bias.is_contiguous()
    with torch.no_grad():
        expected = layer(inputs)
    with torch.inference_mode():
        assert torch.allclose(layer(inputs), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [None, "float32"])
def test_every_kernel_streams_what_a_masked_forward_says(processor, monkeypatch, kind):
    model, counts = make_model(processor, hidden_size=640, initializer_range=0.04), Counter()
    if kind is not None:
        set_decoding_weights(model, kind)
    weights_first, onednn = linear._weights_first, torch.ops.mkldnn._linear_pointwise

    def counted_weights_first(*args):
        counts["weights first"] += 1
        return weights_first(*args)

    def counted_onednn(input, weight, *args):
        counts["oneDNN's order" if weight.is_mkldnn else "oneDNN"] += 1
        return onednn(input, weight, *args)

    monkeypatch.setattr(linear, "_weights_first", counted_weights_first)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted_onednn)
    taken = set()
    for batch in (1, 6):
        sources, policies = sentences(batch, batch), [WaitKPolicy(2)] * batch
        counts.clear()
        output = run(model, processor, sources, policies)
        # Before the masked forward, which takes kernels of its own.
        taken |= set(counts)
        assert_streamed_equals_trained(model, processor, sources, policies, output)
    assert taken == ({"oneDNN's order"} if kind else {"weights first", "oneDNN"})


class Steady(Babble):
    """Gives the model's scores so little weight that rounding does not change which word comes."""

    def __call__(self, input_ids, scores):
        return super().__call__(input_ids, scores / 100)


@pytest.mark.parametrize("kind", [None, "float32"])
def test_autocast_does_not_break_decoding(processor, kind):
    """It rounds attention, but no layer by the kernel that it takes: a row's keys are of one dtype."""
    model, sources = make_model(processor, hidden_size=640, initializer_range=0.04), sentences(5, 4)
    if kind is not None:
        set_decoding_weights(model, kind)
    steady = {"logits_processor": LogitsProcessorList([Steady(processor.token_kinds)])}
    plain = run(model, processor, sources, WaitKPolicy(2), **steady)
    with torch.autocast("cpu", torch.bfloat16):
        cast = run(model, processor, sources, WaitKPolicy(2), **steady)
        # Within what rounding attention may do, as for a bfloat16 model.
        assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(2)] * 4, cast, tolerance=0.15)
    assert cast.words == plain.words
    differences = [(one - other).abs().max() for one, other in zip(cast.logits, plain.logits, strict=True)]
    assert 0 < max(differences) < 0.1


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
