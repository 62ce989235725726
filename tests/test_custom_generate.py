# SPDX-License-Identifier: Apache-2.0
"""Our decoding on stock models: with their own parameters, and as a folder that needs no package."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from families import make_family, stock_of
from helpers import TEMPLATE, make_model, make_processor
from test_generation import assert_streamed_equals_trained, run, sentences
from transformers_simul import SimulProcessor, SimulStreamer, SourceStream, WaitKPolicy
from transformers_simul.models.custom_generate import generate
from transformers_simul.models.families import adopt
from transformers_simul.publishing.custom_generate import save_custom_generate

SOURCE = "a dog runs over the meadow"
OPTIONS = {"max_new_tokens": 12, "max_word_tokens": 3, "suppress_tokens": [0], "return_dict_in_generate": True}
NAMES = ["Falcon", "Falcon-rotary", "Llama", "Mistral", "Qwen2", "Qwen3", "Gemma3", "Bloom", "Mpt"]

PROGRAM = """
import json, sys
sys.modules["transformers_simul"] = None
from transformers import AutoModelForCausalLM, AutoTokenizer

model_folder, folder, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
tokenizer = AutoTokenizer.from_pretrained(model_folder)
given = {"custom_generate": folder, "tokenizer": tokenizer, **options}
try:
    model.generate(**given, trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise SystemExit("it must refuse without trust_remote_code")
output = model.generate(**given, trust_remote_code=True)
print(json.dumps({"words": output.words, "delays": output.delays, "model": type(model).__name__}))
"""


def make(name, processor):
    return make_model(processor) if name == "Falcon" else make_family(name, processor)


@pytest.mark.parametrize("name", NAMES)
def test_an_adopted_model_is_ours_and_the_stock_one_stays(processor, name):
    ours = make(name, processor)
    stock = stock_of(ours)
    ids = torch.tensor([[5, 9, 40, 7]])
    before = stock(ids).logits
    adopted = adopt(stock)
    assert type(adopted) is type(ours)
    assert not any(each.is_meta for each in [*adopted.parameters(), *adopted.buffers()])
    shared = {name: parameter.data_ptr() for name, parameter in stock.named_parameters()}
    assert {name: parameter.data_ptr() for name, parameter in adopted.named_parameters()} == shared
    inputs = processor(source=[SOURCE, "two children watch him"])
    expected, found = (each.generate(**inputs, policy=WaitKPolicy(2), **OPTIONS) for each in (ours, adopted))
    assert found.words == expected.words
    assert found.delays == expected.delays
    assert torch.equal(stock(ids).logits, before)
    # And under the law.
    sources = sentences(5, 4)
    output = run(adopted, processor, sources, WaitKPolicy(1))
    counts = assert_streamed_equals_trained(adopted, processor, sources, [WaitKPolicy(1)] * 4, output)
    assert all(counts.values()), counts
    assert type(stock).__module__.startswith("transformers.models")


def test_adopting_leaves_training_mode_alone(processor):
    stock = stock_of(make_family("Llama", processor)).train()
    adopted = adopt(stock)
    assert adopted.training
    assert all(module.training for module in stock.modules())
    with pytest.raises(ValueError, match="evaluation mode"):
        generate(stock, SOURCE, processor.tokenizer, wait_k=1)


def test_settings_and_inputs_of_a_processor(processor):
    stock = stock_of(make_family("Llama", processor))
    ours = make_family("Llama", processor, "reserved", target_start=64)
    adopted = adopt(stock, positions="reserved", target_start=64)
    texts = [SOURCE, "two children"]
    expected = ours.generate(**processor(source=texts), wait_k=1, **OPTIONS)
    assert adopted.generate(**processor(source=texts), wait_k=1, **OPTIONS).words == expected.words
    group = make_family("Llama", processor, "group").generate(**processor(source=texts), wait_k=1, **OPTIONS)
    found = generate(stock, positions="group", wait_k=1, **processor(source=texts), **OPTIONS)
    assert found.words == group.words


def test_a_live_source(processor):
    stock = stock_of(make_family("Llama", processor))
    stream = SourceStream(SOURCE)
    stream.end()
    template = {"template": TEMPLATE, "target_lang": "de"}
    found = generate(stock, stream, processor.tokenizer, wait_k=2, **template, **OPTIONS)
    assert found.words == generate(stock, SOURCE, processor.tokenizer, wait_k=2, **template, **OPTIONS).words
    assert len(found.words[0]) > 2


def test_the_models_own_chat():
    processor = make_processor()
    processor.tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}<|endoftext|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    chat = SimulProcessor.from_chat_template(processor.tokenizer, target_lang="de")
    stock = stock_of(make_family("Llama", processor))
    found = generate(stock, SOURCE, processor.tokenizer, target_lang="de", use_chat_template=True, wait_k=2, **OPTIONS)
    assert found.words == adopt(stock).generate(**chat(source=SOURCE), wait_k=2, **OPTIONS).words
    assert found.words != generate(stock, SOURCE, processor.tokenizer, target_lang="de", wait_k=2, **OPTIONS).words


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": SOURCE}, "wait_k or a policy must be given"),
        ({"wait_k": 2}, "source and tokenizer must be given"),
        ({"wait_k": 2, "source": SOURCE, "positions": "modified"}, "positions must be one of"),
        ({"wait_k": 2, "source": "  "}, "source must hold at least one word"),
    ],
)
def test_wrong_arguments(processor, given, message):
    stock = stock_of(make_family("Llama", processor))
    streamer = SimulStreamer(processor)
    with pytest.raises(ValueError, match=message):
        generate(stock, tokenizer=processor.tokenizer, streamer=streamer, **given)
    with pytest.raises(ValueError, match=message):
        list(streamer)


def test_another_family_is_refused(processor):
    from transformers import GPT2Config, GPT2LMHeadModel

    with pytest.raises(ValueError, match="model_type must be one of .*'llama'.*, got 'gpt2'"):
        adopt(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=20)))


def test_not_beside_a_model(tmp_path, processor):
    make_model(processor).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="folder must hold no model"):
        save_custom_generate(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Falcon", "Gemma3"])
def test_a_stock_model_borrows_the_decoding_without_the_package(tmp_path, processor, name):
    ours = make(name, processor)
    stock_of(ours).save_pretrained(tmp_path / "stock")
    processor.tokenizer.save_pretrained(tmp_path / "stock")
    save_custom_generate(tmp_path / "decoding")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "stock")
    expected = ours.generate(**processor(source=SOURCE), wait_k=2, **OPTIONS)
    options = OPTIONS | {"source": SOURCE, "wait_k": 2, "target_lang": "de", "template": TEMPLATE}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, (tmp_path / "stock", tmp_path / "decoding")), json.dumps(options)],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["words"] == expected.words
    assert found["delays"] == expected.delays
    assert found["model"] == type(loaded).__name__ == f"{name}ForCausalLM"
