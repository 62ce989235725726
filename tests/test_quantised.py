# SPDX-License-Identifier: Apache-2.0
"""4-bit and 8-bit weights by bitsandbytes: handed through, under the law, and as a base of adapters."""

import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TrainingArguments

from families import make_family, stock_of
from helpers import make_model, make_processor
from test_generation import assert_streamed_equals_trained, run, sentences
from transformers_simul import AutoSimulModel, SimulMaskDataCollator, WaitKPolicy, adopt
from transformers_simul.training import ModelArguments, fine_tune
from transformers_simul.training import make_model as make_from_flags
from transformers_simul.training.data import Pair, encode

pytest.importorskip("bitsandbytes")
# LLM.int8()'s outlier columns are chosen for all tokens of a forward together: with them, a token's numbers depend on
# its neighbours.
SETTINGS = {
    "4bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32},
    "8bit": {"load_in_8bit": True, "llm_int8_threshold": 0.0},
}
KINDS = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Stock checkpoints by family, wide enough to be quantised."""
    folder, processor = tmp_path_factory.mktemp("stock"), make_processor()
    for name in ("Falcon", "Llama", "Gemma3", "Bloom"):
        wide = {"hidden_size": 64}
        model = make_model(processor, **wide) if name == "Falcon" else make_family(name, processor, **wide)
        stock_of(model).save_pretrained(folder / name)
    return folder


@pytest.fixture
def plain_cpu(monkeypatch):
    """As on a CPU without AVX-512 BF16."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)


@pytest.mark.parametrize("name", ["Falcon", "Llama"])
def test_it_keeps_the_law_on_cpus_without_a_kernel_of_their_own(plain_cpu, folders, processor, name):
    test_it_is_quantised_and_keeps_the_law(folders, processor, name, "4bit")


def test_only_layers_that_the_cpus_kernel_takes_are_given_to_it(monkeypatch, folders):
    """Whatever this CPU is: 32 must divide the output features, and the input features be whole blocks of 64; and the
    layers must be meant to compute in bfloat16, as the kernel does."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    settings = SETTINGS["4bit"] | {"bnb_4bit_compute_dtype": torch.bfloat16}
    options = {"quantization_config": BitsAndBytesConfig(**settings)}
    exact = AutoSimulModel.from_pretrained(
        folders / "Llama", quantization_config=BitsAndBytesConfig(**SETTINGS["4bit"])
    )
    assert not any(getattr(each, "support_avx512bf16_for_cpu", False) for each in exact.modules())
    for model in (
        AutoSimulModel.from_pretrained(folders / "Llama", **options),
        adopt(AutoModelForCausalLM.from_pretrained(folders / "Llama", **options)),
    ):
        layers = [each for each in model.modules() if type(each).__name__ == "Linear4bit"]
        given = {(each.out_features, each.in_features): bool(each.support_avx512bf16_for_cpu) for each in layers}
        assert len(set(given.values())) == 2, given
        assert all(is_given == (out % 32 == 0 and into % 64 == 0) for (out, into), is_given in given.items()), given


def test_an_evaluation_leaves_the_adapters_their_gradients(folders, processor):
    args = ModelArguments(model_name_or_path=str(folders / "Falcon"), use_lora=True, lora_rank=4, load_in_4bit=True)
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1))(
        [{"source": text, "target": text} for text in sentences(1, 4)]
    )
    gradients = []
    for is_evaluated in (False, True):
        torch.manual_seed(0)
        model = make_from_flags(args, processor)
        if is_evaluated:
            with torch.no_grad():
                model.eval()(**batch)
        model.train()(**batch).loss.backward()
        gradients.append([weight.grad for weight in model.parameters() if weight.requires_grad])
    assert all(one is not None and torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("bits", SETTINGS)
@pytest.mark.parametrize("name", ["Falcon", "Llama", "Gemma3", "Bloom"])
def test_it_is_quantised_and_keeps_the_law(folders, processor, name, bits):
    whole = AutoSimulModel.from_pretrained(folders / name)
    model = AutoSimulModel.from_pretrained(folders / name, quantization_config=BitsAndBytesConfig(**SETTINGS[bits]))
    quantised = [each for each in model.eval().modules() if type(each).__name__ == KINDS[bits]]
    assert len(quantised) >= 8
    assert model.get_memory_footprint() < 0.7 * whole.get_memory_footprint()
    sources = sentences(5, 4)
    output = run(model, processor, sources, WaitKPolicy(1))
    counts = assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(1)] * 4, output)
    assert all(counts.values()), counts


def test_a_quantised_stock_model_is_adopted(folders, processor):
    options = {"quantization_config": BitsAndBytesConfig(**SETTINGS["4bit"])}
    stock = AutoModelForCausalLM.from_pretrained(folders / "Llama", **options).eval()
    adopted = adopt(stock)
    assert adopted.model.layers[0].mlp.up_proj is stock.model.layers[0].mlp.up_proj
    ours = AutoSimulModel.from_pretrained(folders / "Llama", **options).eval()
    outputs = [run(each, processor, sentences(3, 2), WaitKPolicy(1)) for each in (adopted, ours)]
    assert outputs[0].words == outputs[1].words


@pytest.mark.slow
@pytest.mark.parametrize("bits", SETTINGS)
def test_adapters_train_on_a_quantised_base_and_merge_into_the_stored_one(folders, processor, tmp_path, bits):
    args = ModelArguments(
        model_name_or_path=str(folders / "Llama"), use_lora=True, lora_rank=4, **{f"load_in_{bits}": True}
    )
    model = make_from_flags(args, processor)
    assert type(model.get_base_model().model.layers[0].mlp.up_proj.base_layer).__name__ == KINDS[bits]
    data = encode(processor, [Pair(text, text) for text in sentences(1, 24)])
    fine_tune(
        model,
        processor,
        SimulMaskDataCollator(processor, WaitKPolicy(1)),
        data,
        None,
        TrainingArguments(
            str(tmp_path), remove_unused_columns=False, max_steps=6, learning_rate=1e-2, report_to="none", use_cpu=True,
            disable_tqdm=True, logging_steps=1,
        ),
        {},
    )  # fmt: skip
    merged = AutoSimulModel.from_pretrained(str(tmp_path)).eval()
    assert not hasattr(merged.config, "quantization_config")
    base = AutoSimulModel.from_pretrained(folders / "Llama").eval()
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1))(data.to_list())
    with torch.no_grad():
        losses = [each(**batch).loss.item() for each in (base, merged, model.eval())]
    assert losses[1] < losses[0] - 0.05
    # What was learnt on the rounded base holds on the stored one.
    assert losses[0] - losses[1] > 0.8 * (losses[0] - losses[2])
    changed = [not torch.equal(a, b) for a, b in zip(base.parameters(), merged.parameters(), strict=True)]
    assert 0 < sum(changed) < len(changed)


def test_flags_that_do_not_fit(monkeypatch, folders, processor):
    flags = {"model_name_or_path": str(folders / "Llama"), "load_in_4bit": True}
    with pytest.raises(ValueError, match="load_in_4bit and load_in_8bit need use_lora"):
        make_from_flags(ModelArguments(**flags), processor)
    with pytest.raises(ValueError, match="load_in_4bit and load_in_8bit are both True"):
        make_from_flags(ModelArguments(**flags, use_lora=True, load_in_8bit=True), processor)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ValueError, match=r"pip install 'transformers_simul\[quantisation\]'"):
        make_from_flags(ModelArguments(**flags, use_lora=True), processor)
