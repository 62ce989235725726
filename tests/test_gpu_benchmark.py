# SPDX-License-Identifier: Apache-2.0
"""benchmarks/gpu.py: every line runs without a card, and what can be proved without one is."""

import random
from pathlib import Path

import pytest
import torch

from helpers import make_model, make_processor, random_sentence
from transformers_simul import StreamEngine, WaitKPolicy
from transformers_simul.corpora import Pair


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import gpu

    draw = random.Random(0)
    pairs = [Pair(random_sentence(draw, 3, 8), random_sentence(draw, 3, 8)) for _ in range(40)]
    monkeypatch.setattr(gpu.common, "corpus", lambda: {"train": pairs, "test": pairs})
    processor = make_processor()
    monkeypatch.setattr(gpu.common, "processor", lambda: processor)
    return gpu


def test_every_line_runs_without_a_card(gpu, capsys):
    gpu.main(["--device", "cpu", "--tiny"])
    head, line, *rows = capsys.readouterr().out.splitlines()
    assert (head.split(",")[0], line) == ("| no card", "|---|---|---|")
    found = {name: float(value) for _, name, value, _, _ in (row.split("|") for row in rows)}
    found = {name.strip(): value for name, value in found.items()}
    assert found["FlexAttention against eager, float32: largest difference of logits"] < 1e-5
    assert found["4 live streams, bfloat16, compiled layers"] > 0
    assert len(rows) == 10


def test_without_a_card_cuda_is_refused(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--device cuda needs a card" in capsys.readouterr().err


def decoded(model, processor, texts):
    engine = StreamEngine(model, processor, len(texts), 200)
    streams = [engine.open(WaitKPolicy(1 + index), max_new_tokens=12) for index in range(len(texts))]
    for stream, text in zip(streams, texts, strict=True):
        stream.source.put(text)
        stream.source.end()
    while engine.step():
        pass
    return [[word.text for word in stream.words] for stream in streams]


def test_compiled_layers_are_the_same_graphs_however_many_tokens_and_write_the_same(gpu):
    """Shapes that changed with every step would be compiled anew. In bfloat16, as on a card: float32 has a kernel of
    its own on CPUs."""
    processor, draw = make_processor(), random.Random(1)
    model, graphs = make_model(processor).to(torch.bfloat16), []
    texts = [random_sentence(draw, 3, 7) for _ in range(5)]
    expected = [decoded(model, processor, texts[:count]) for count in (1, 3, 5)]

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    gpu.compile_layers(model, backend)
    found, counts = [], []
    for count in (1, 3, 5):
        found.append(decoded(model, processor, texts[:count]))
        counts.append(len(graphs))
    assert found == expected
    assert counts[0] > 0
    assert counts[0] == counts[-1]


def test_a_bounded_cache_stays_where_it_is(gpu):
    """What a captured graph would need of it."""
    processor, draw = make_processor(), random.Random(2)
    model = make_model(processor)
    engine = StreamEngine(model, processor, 2, 200)
    places = set()
    for _ in range(4):
        streams = [engine.open(WaitKPolicy(2), max_new_tokens=6) for _ in range(2)]
        for stream in streams:
            stream.source.put(random_sentence(draw, 3, 8))
            stream.source.end()
        while engine.step():
            places.add(tuple(table.data_ptr() for table in engine.cache.layer(0)))
    assert len(places) == 1
