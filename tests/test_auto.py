# SPDX-License-Identifier: Apache-2.0
"""`AutoSimulModel`, damaged weights, and what importing the package makes Transformers' Auto classes know."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, pipeline

from families import make_family, stock_of
from helpers import make_model, make_processor
from transformers_simul import AutoSimulModel


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A stock checkpoint."""
    folder = tmp_path_factory.mktemp("llama")
    stock_of(make_family("Llama", make_processor())).save_pretrained(folder)
    return folder


def test_it_takes_what_its_relatives_take(llama, tmp_path):
    config = LlamaConfig.from_pretrained(llama)
    model = AutoSimulModel.from_pretrained(pretrained_model_name_or_path=llama, config=config, positions="group")
    assert (type(model).__name__, model.config.positions) == ("SimulLlamaForCausalLM", "group")
    # Ours again, changed; and one that is stored elsewhere.
    model.config.label_smoothing = 0.25
    again, info = AutoSimulModel.from_pretrained(llama, config=model.config, output_loading_info=True)
    assert (again.config.positions, again.config.label_smoothing) == ("group", 0.25)
    assert not info["missing_keys"]
    model.config.save_pretrained(tmp_path)
    stored = AutoSimulModel.from_pretrained(llama, config=tmp_path, attn_implementation="eager")
    assert (stored.config.positions, stored.config._attn_implementation) == ("group", "simul_eager")
    # A configuration's own backend counts too.
    assert AutoSimulModel.from_pretrained(llama, config=stored.config).config._attn_implementation == "simul_eager"
    for name, weight in AutoModelForCausalLM.from_pretrained(llama).state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    new = AutoSimulModel.from_config(config, dtype=torch.bfloat16, positions="reserved")
    assert (new.dtype, new.config.first_target_position) == (torch.bfloat16, 256)
    with pytest.raises(ValueError, match="positions must be one of"):
        AutoSimulModel.from_config(config, positions="modified")


def test_damaged_weights_are_a_clear_error(tmp_path):
    make_model(make_processor()).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    for size in (len(whole) - 1000, 100, 0):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"weights of .* must be whole safetensors files"):
            AutoSimulModel.from_pretrained(tmp_path)
    file.write_bytes(whole)
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("dense_h_to_4h.weight"))
    weights.pop(name)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"must be complete, but 1 are missing: {name}"):
        AutoSimulModel.from_pretrained(tmp_path)


PROGRAM = """
import json, sys

order, folder = sys.argv[1:]
if order == "ours first":
    import transformers_simul

    heavy = sorted({"torch", "transformers", "numpy"} & sys.modules.keys())
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor

if order == "ours last":
    import transformers_simul

    heavy = []
families = [name for name in sys.modules if name.startswith("transformers_simul.models.modeling")]
autos = (AutoProcessor, AutoModelForCausalLM, AutoConfig, AutoModel)
loaded = [type(auto.from_pretrained(folder)) for auto in autos]
made = type(AutoModelForCausalLM.from_config(AutoConfig.for_model("simul_falcon", hidden_size=8, num_attention_heads=2,
    num_hidden_layers=1, vocab_size=9, alibi=True, new_decoder_architecture=False, multi_query=False)))
policy, words = transformers_simul.WaitKPolicy(1), ["a", "dog"]
processor, model = autos[0].from_pretrained(folder), autos[1].from_pretrained(folder).eval()
list(transformers_simul.translate_stream(model, processor, words, policy, max_new_tokens=4))
transformers_simul.StreamEngine, transformers_simul.AutoSimulModel
unneeded = sorted({"matplotlib", "pyarrow", "sacrebleu", "datasets", "pandas"} & sys.modules.keys())
print(json.dumps({"unneeded": unneeded, "heavy": heavy, "families": families, "made": made.__name__,
                  "loaded": [f"{each.__module__}.{each.__name__}" for each in loaded]}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_importing_the_package_is_enough_for_the_auto_classes(tmp_path, order):
    """Without `trust_remote_code`, in a process that has imported nothing else of ours; and nothing heavy for it."""
    processor = make_processor()
    make_model(processor).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, order, str(tmp_path)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    models = "transformers_simul.models"
    assert found == {
        # What only trains, measures or draws.
        "unneeded": [],
        "heavy": [],
        "families": [],
        "made": "SimulFalconForCausalLM",
        "loaded": [
            f"{models}.processing.SimulProcessor",
            f"{models}.modeling_simul_falcon.SimulFalconForCausalLM",
            f"{models}.modeling_simul_falcon.SimulFalconConfig",
            f"{models}.modeling_simul_falcon.SimulFalconModel",
        ],
    }


def test_a_text_generation_pipeline_loads_a_folder_and_writes_after_a_whole_prompt(tmp_path):
    """As docs/guides.md says: with the package it needs no code of the folder, and it knows no READ."""
    processor = make_processor()
    make_model(processor, seed=3).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    generator = pipeline("text-generation", model=str(tmp_path), device="cpu", trust_remote_code=False)
    assert type(generator.model).__name__ == "SimulFalconForCausalLM"
    inputs = processor(source="a dog runs")
    options = {"max_new_tokens": 6, "do_sample": False}
    (answer,) = generator(processor.tokenizer.decode(inputs["input_ids"][0]), **options, return_tensors=True)
    plain = generator.model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], **options)
    assert answer["generated_token_ids"] == plain[0].tolist()
