# SPDX-License-Identifier: Apache-2.0
"""Weights for decoding: what is streamed is what the model with these weights says of the whole row, whoever shares a
forward."""

import json
import random
from copy import deepcopy

import pytest
import torch
from torch import nn

from families import FAMILIES, make_family
from helpers import make_model
from speech import make_speech, make_speech_processor, recordings
from test_choosing import babbling
from test_generation import (
    broken_rank,
    broken_replacement,
    broken_visibility,
    masked_training_logits,
    run,
    sentences,
    tail_kept,
    wrong_row_kept,
)
from transformers_simul import AutoSimulModel, SimulMaskDataCollator, StreamEngine, WaitKPolicy
from transformers_simul.cli import main
from transformers_simul.cli.loading import KINDS as FLAG_KINDS
from transformers_simul.cli.loading import load
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.models.decoding_weights import KINDS, PackedLinear, float16_is_exact, set_decoding_weights

WAIT_3 = WaitKPolicy(3)
# Layers of float16 weights compute in float32, as the law's own tolerance wants it. The others round what comes in and
# goes out to eight bits, where a last bit of difference now and then becomes one of the eighth: the largest difference
# may be that of a bfloat16 model (`test_invariant_in_bfloat16_within_its_precision`), the usual one is far smaller.
LARGEST = {"float32": 1e-5, "float16": 1e-5, "bfloat16": 0.15, "int8": 0.15}
USUAL = {"float32": 2e-6, "float16": 2e-6, "bfloat16": 0.003, "int8": 0.003}
ROUNDED = [kind for kind in KINDS if kind != "float32"]


def differences(model, processor, sources, output):
    """The largest difference of streamed logits from one masked forward of `model`, and the root of the mean square."""
    found = []
    for row, source in enumerate(sources):
        written = output.words[row], output.delays[row], output.queries[row]
        expected = masked_training_logits(model, processor, processor.encode(source), *written)
        found.append((output.logits[row] - expected).flatten())
    every = torch.cat(found)
    return every.abs().max().item(), every.square().mean().sqrt().item()


def rounded(kind, processor, name="Falcon", **kwargs):
    model = make_model(processor, **kwargs) if name == "Falcon" else make_family(name, processor, **kwargs)
    set_decoding_weights(model, kind)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["Falcon", *FAMILIES])
def test_what_is_streamed_is_the_rounded_models_own_masked_forward(processor, kind, name):
    model = rounded(kind, processor, name)
    assert sum(isinstance(layer, PackedLinear) for layer in model.modules()) >= 8
    assert not any(isinstance(layer, nn.Linear) for layer in model.modules())
    for batch in (1, 6):
        sources = sentences(batch + 2, batch)
        policies = [WaitKPolicy(1 + index % 3) for index in range(batch)]
        output = run(model, processor, sources, policies)
        largest, usual = differences(model, processor, sources, output)
        assert largest <= LARGEST[kind]
        assert usual <= USUAL[kind]


@pytest.mark.parametrize("kind", ROUNDED)
def test_the_oracle_finds_weights_that_were_not_rounded(processor, kind):
    """A mutant: streamed by the rounded model, compared with the one before rounding."""
    sources = sentences(4, 4)
    output = run(rounded(kind, processor), processor, sources, WaitKPolicy(2))
    assert differences(make_model(processor), processor, sources, output)[1] > 2 * USUAL[kind]


def test_reordered_weights_are_the_same_numbers(processor):
    sources = sentences(4, 4)
    output = run(rounded("float32", processor), processor, sources, WaitKPolicy(2))
    assert differences(make_model(processor), processor, sources, output)[0] <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mutate", [tail_kept, broken_replacement, broken_visibility, broken_rank, wrong_row_kept])
def test_the_oracle_finds_what_breaks_the_law(processor, monkeypatch, kind, mutate):
    """The mutants of `test_mutations_break_the_invariant`: within what rounding may do to one logit, not to all."""
    mutate(monkeypatch)
    model, sources = rounded(kind, processor), sentences(8, 8)
    output = run(model, processor, sources, WaitKPolicy(1))
    assert differences(model, processor, sources, output)[1] > 1.5 * USUAL[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["Falcon", "Llama"])
def test_speech_is_rounded_too(kind, name):
    """Encoder, projector and language model."""
    processor = make_speech_processor()
    model, sources = make_speech(name, processor), recordings(5, 4)
    set_decoding_weights(model, kind)
    assert not any(isinstance(layer, nn.Linear) for layer in model.modules())
    largest, usual = differences(model, processor, sources, run(model, processor, sources, WaitKPolicy(1)))
    assert largest <= LARGEST[kind]
    assert usual <= USUAL[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_gets_the_same_ids_alone_in_a_batch_and_in_an_engine(processor, kind):
    model = babbling(processor)
    set_decoding_weights(model, kind)
    draw = random.Random(8)
    sources = [" ".join(draw.choice("a dog runs over the green meadow".split()) for _ in range(5)) for _ in range(8)]
    options = {"max_new_tokens": 16, "return_dict_in_generate": True}
    together = model.generate(**processor(source=sources), policy=WaitKPolicy(2), **options)
    engine = StreamEngine(model, processor, 8, 200)
    streams = [engine.open(WaitKPolicy(2), max_new_tokens=16) for _ in sources]
    for stream, source in zip(streams, sources, strict=True):
        stream.source.put(source)
        stream.source.end()
    while engine.step():
        pass
    for index, source in enumerate(sources):
        alone = model.generate(**processor(source=source), policy=WaitKPolicy(2), **options)
        assert alone.words[0] == together.words[index]
        assert [word.text for word in streams[index].words] == processor.words(alone.words[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("into", "out"), [(64, 48), (33, 7), (96, 2), (1, 5), (40, 300), (600, 48), (1024, 20)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_layer_is_near_the_one_it_was_and_no_row_depends_on_another(kind, into, out, biased):
    torch.manual_seed(into)
    layer = nn.Linear(into, out, bias=biased)
    nn.init.normal_(layer.weight, std=0.3)
    with torch.no_grad():
        layer.weight[0] = 0
    small = PackedLinear(layer, kind).eval()
    rows = torch.randn(2, 9, into)
    with torch.inference_mode():
        exact, got = layer(rows), small(rows)
        assert got.shape == exact.shape
        assert got.dtype == torch.float32
        # A step of int8 is at most a 63rd of the largest of a row, about a 20th of the usual weight.
        error = (got - exact).norm() / exact.norm()
        assert error < {"float32": 1e-6, "float16": 5e-4, "bfloat16": 6e-3, "int8": 3e-2}[kind]
        if kind in ROUNDED:
            assert error > 0
        for index in range(9):
            alone = small(rows[0, index])
            # oneDNN may sum in another order for another number of rows; one ulp of bfloat16 where the sum was within
            # rounding of two numbers.
            near = {"float32": {"rtol": 1e-5, "atol": 1e-6 if into < 100 else 2e-5}, "float16": {"rtol": 0, "atol": 0}}
            assert torch.allclose(alone, got[0, index], **near.get(kind, {"rtol": 2**-7, "atol": 0}))


def test_int8_and_its_form_for_many_tokens_are_the_same_numbers():
    """A scale is a power of two, so bfloat16 holds each whole number times it."""
    layer = nn.Linear(64, 32)
    small = PackedLinear(layer, "int8").product
    whole, scales = small.few
    assert whole.abs().max() <= 127
    assert torch.equal(scales.log2(), scales.log2().round())
    with torch.no_grad():
        assert torch.equal((whole * scales[:, None]).float(), (whole.float() * scales.float()[:, None]))
        assert ((whole.float() * scales.float()[:, None] - layer.weight).abs() <= scales.float()[:, None] / 2).all()
        few, many = small(torch.eye(64)[:4]), small(torch.eye(64))
    assert torch.equal(few, many[:4])
    assert torch.equal(many, (whole.float() * scales.float()[:, None]).T + layer.bias)


def test_a_checkpoint_is_loaded_rounded(processor, tmp_path):
    model = make_model(processor, hidden_size=64)
    model.save_pretrained(tmp_path)
    loaded = AutoSimulModel.from_pretrained(tmp_path, decoding_weights="int8")
    by_hand = deepcopy(model)
    set_decoding_weights(by_hand, "int8")
    outputs = [run(each, processor, sentences(3, 2), WaitKPolicy(1)) for each in (loaded, by_hand, deepcopy(loaded))]
    assert outputs[0].words == outputs[1].words == outputs[2].words
    assert torch.equal(outputs[0].logits[0], outputs[1].logits[0])
    assert FLAG_KINDS == KINDS


def test_what_cannot_be_is_refused(processor, tmp_path):
    model = make_model(processor)
    with pytest.raises(ValueError, match=r"decoding_weights must be one of .*, got 'int4'"):
        set_decoding_weights(model, "int4")
    # Before anything is read.
    with pytest.raises(ValueError, match=r"decoding_weights must be one of .*, got 'int4'"):
        AutoSimulModel.from_pretrained(tmp_path / "none", decoding_weights="int4")
    with pytest.raises(ValueError, match="model must be float32 for decoding_weights='int8', but .* is torch.bfloat16"):
        set_decoding_weights(deepcopy(model).bfloat16(), "int8")
    with pytest.raises(ValueError, match="model must be on the CPU for decoding_weights='int8', but .* is on meta"):
        set_decoding_weights(deepcopy(model).to("meta"), "int8")
    quantised = deepcopy(model)
    quantised.is_quantized = True
    with pytest.raises(ValueError, match="model must not be quantised already"):
        set_decoding_weights(quantised, "bfloat16")
    adapted = deepcopy(model)
    adapted.peft_config = {"default": object()}
    with pytest.raises(ValueError, match="adapters must be merged"):
        set_decoding_weights(adapted, "bfloat16")
    set_decoding_weights(model, "int8")
    with pytest.raises(ValueError, match="decoding_weights must be set once, but are 'int8'"):
        set_decoding_weights(model, "int8")
    with pytest.raises(ValueError, match="model must be loaded without decoding_weights='int8' to be saved"):
        model.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="model must be in evaluation mode with decoding_weights='(int8|float16)'"):
        model.train()(**SimulMaskDataCollator(processor, WaitKPolicy(1))([{"source": "a dog", "target": "a dog"}]))


def test_a_cpu_without_the_kernels_is_told(processor, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    for kind in ("int8", "bfloat16"):
        with pytest.raises(ValueError, match=f"'{kind}' needs a CPU that computes in bfloat16; 'float16' does not"):
            set_decoding_weights(make_model(processor), kind)
    set_decoding_weights(make_model(processor), "float16")


def test_float16_needs_no_onednn_and_the_others_say_so(processor, monkeypatch):
    sources = sentences(3, 2)
    expected = run(rounded("float16", processor), processor, sources, WaitKPolicy(1))

    def fail(*args):
        raise AssertionError("there is no oneDNN")

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    for name in ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported"):
        monkeypatch.setattr(torch.ops.mkldnn, name, fail)
    for kind in ("int8", "bfloat16", "float32"):
        with pytest.raises(ValueError, match=f"'{kind}' needs a PyTorch with oneDNN; 'float16' does not"):
            set_decoding_weights(make_model(processor), kind)
    output = run(rounded("float16", processor), processor, sources, WaitKPolicy(1))
    assert output.words == expected.words


def test_float32_needs_no_fbgemm_and_the_others_say_so(processor, monkeypatch):
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["qnnpack"])
    for kind in ROUNDED:
        with pytest.raises(ValueError, match=f"'{kind}' needs a PyTorch with FBGEMM, .*; 'float32' does not"):
            set_decoding_weights(make_model(processor), kind)
    run(rounded("float32", processor), processor, sentences(3, 2), WaitKPolicy(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("into", [48, 600])
def test_the_strides_of_a_bias_are_heeded(kind, into):
    """oneDNN takes the numbers of a bias one after another in memory."""
    torch.manual_seed(0)
    layer = nn.Linear(into, 20)
    dense = PackedLinear(layer, kind).eval()
    layer.bias = nn.Parameter(torch.stack([layer.bias.detach(), torch.full((20,), 7.0)], 1)[:, 0])
    assert not layer.bias.is_contiguous()
    strided = PackedLinear(layer, kind).eval()
    for mode in (torch.inference_mode, torch.no_grad):
        for count in (1, 2, 9):
            rows = torch.randn(count, into)
            with mode():
                assert torch.equal(strided(rows), dense(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_evaluated_without_gradients(processor, kind):
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1))(
        [{"source": text, "target": text} for text in sentences(1, 4)]
    )
    exact = make_model(processor, hidden_size=64)(**batch).loss
    loss = rounded(kind, processor, hidden_size=64)(**batch).loss
    assert abs(loss.item() - exact.item()) < 0.05
    assert not loss.requires_grad


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    babbler = make_model(processor, hidden_size=64, seed=3)
    babbler.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def test_the_command_line_rounds(folder, tmp_path, capsys):
    (tmp_path / "source").write_text("a dog runs over the meadow\ntwo children watch him\n")
    model, processor = load(str(folder), decoding_weights="int8")
    assert model.decoding_weights == "int8"
    log = translate_corpus(model, processor, ["a dog runs over the meadow", "two children watch him"], [""] * 2, WAIT_3)
    capsys.readouterr()
    assert main(["translate", str(folder), str(tmp_path / "source"), "--decoding-weights", "int8"]) == 0
    assert capsys.readouterr().out == "".join(f"{each.prediction}\n" for each in log)
    for command in ("translate", "demo", "serve", "listen"):
        with pytest.raises(SystemExit):
            main([command, str(folder), "--decoding-weights", "int4"])
        assert "invalid choice: 'int4'" in capsys.readouterr().err


def test_a_command_decodes_with_float16_where_that_rounds_nothing(processor, tmp_path, monkeypatch):
    """Weights that were stored in 16 bits; otherwise, and on a GPU, they stay as they are stored."""
    models = {name: make_model(processor, hidden_size=64, seed=3) for name in ("float32", "bfloat16", "large")}
    models["bfloat16"].bfloat16().float()
    with torch.no_grad():
        # More than float16 holds.
        models["large"].bfloat16().float().lm_head.weight[0, 0] = 1e5
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
        is_fast = hasattr(load(str(tmp_path / name), decoding_weights="auto")[0], "decoding_weights")
        assert is_fast == (name == "bfloat16")
    folder = str(tmp_path / "bfloat16")
    (tmp_path / "source").write_text("a dog runs over the meadow\n")
    loaded = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "transformers_simul.cli.translate.load", lambda *a, **k: loaded.append(load(*a, **k)) or loaded[-1]
        )
        for flags in ([], ["--decoding-weights", "stored"]):
            assert main(["translate", folder, str(tmp_path / "source"), *flags]) == 0
    assert [hasattr(each, "decoding_weights") for each, _ in loaded] == [True, False]
    fast, stored = (load(folder, decoding_weights=kind)[0] for kind in ("auto", "stored"))
    assert fast.decoding_weights == "float16"
    sources = sentences(3, 3)
    logits = [run(each, processor, sources, WAIT_3).logits[0] for each in (fast, stored)]
    assert (logits[0] - logits[1]).abs().max() < 1e-5
    assert not hasattr(load(folder, decoding_weights="auto", dtype=torch.bfloat16)[0], "decoding_weights")
    with monkeypatch.context() as patch:
        patch.setattr(type(torch.backends.quantized), "supported_engines", ["qnnpack"])
        assert not hasattr(load(folder, decoding_weights="auto")[0], "decoding_weights")
    moves = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nn.Module, "to", lambda model, device: moves.append(device) or model)
    for kind in ("auto", "stored", "float16"):
        load(folder, decoding_weights=kind)
    assert moves == ["cuda", "cuda"]


def test_small_weights_are_not_said_to_be_held():
    """Below 2**-14 float16 has ever fewer digits, which counts where a whole row is that small."""
    torch.manual_seed(0)
    for std, holds in ((0.02, True), (1e-3, False), (1e-6, False)):
        layer = nn.Linear(64, 64)
        nn.init.normal_(layer.weight, std=std)
        model = nn.ModuleList([layer.bfloat16().float()])
        assert float16_is_exact(model) is holds
    assert float16_is_exact(nn.ModuleList([nn.Linear(4, 0)]))
    with pytest.raises(ValueError, match=r"decoding_weights must be one of \('auto', 'stored', .*, got 'fp16'"):
        load("anything", decoding_weights="fp16")


def test_an_evaluation_rounds_and_says_so(folder, tmp_path):
    for side in ("en", "de"):
        (tmp_path / f"test.{side}").write_text("a dog runs over the meadow\ntwo children watch him\na dog\n")
    flags = f"--model_name_or_path {folder} --output_dir {tmp_path / 'out'} --stream_sentences 0 --use_cpu"
    files = ["--test_file", str(tmp_path / "test.en"), str(tmp_path / "test.de")]
    flags = [*flags.split(), *files, "--eval_wait_k", "1", "3", "--report_to", "none", "--disable_tqdm", "true"]
    assert main(["evaluate", *flags, "--decoding_weights", "float16"]) == 0
    settings = json.loads((tmp_path / "out" / "logs" / "k=1" / "settings.json").read_text())
    assert settings["weights"] == "float16"
    assert "weights:float16" in (tmp_path / "out" / "results.md").read_text()
    with pytest.raises(SystemExit, match="decoding_weights must be one of"):
        main(["evaluate", *flags, "--decoding_weights", "int4"])
