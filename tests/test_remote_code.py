# SPDX-License-Identifier: Apache-2.0
"""A saved folder is enough: with torch and transformers alone it loads as remote code and streams the same ids."""

import json
import os
import subprocess
import sys

import pytest
from transformers import AutoModelForCausalLM, AutoProcessor, Trainer, TrainingArguments

from families import make_family
from helpers import make_model, make_processor
from transformers_simul import AutoSimulModel, SimulMaskDataCollator, SimulProcessor, WaitKPolicy
from transformers_simul.publishing.model_card import write_model_card

PROGRAM = """
import json, sys
sys.modules["transformers_simul"] = None
try:
    import transformers_simul
except ImportError:
    pass
else:
    raise SystemExit("the package must not be there")
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor

folder = sys.argv[1]
try:
    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise SystemExit("it must refuse without trust_remote_code")


model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
output = model.generate(
    **processor(source="a dog runs over the meadow"), wait_k=2, max_new_tokens=12, max_word_tokens=3,
    suppress_tokens=[0], return_dict_in_generate=True,
)
base = AutoModel.from_pretrained(folder, trust_remote_code=True)
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
model.save_pretrained(sys.argv[2])
processor.save_pretrained(sys.argv[2])
print(json.dumps({"words": output.words, "delays": output.delays, "config": type(config).__name__,
                  "model": type(model).__name__, "base": type(base).__name__}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Falcon", "Gemma3", "Mpt"])
def test_saved_saved_again_and_loaded_without_the_package(tmp_path, family):
    processor = make_processor()
    model = make_model(processor) if family == "Falcon" else make_family(family, processor)
    model.save_pretrained(tmp_path / "first")
    processor.save_pretrained(tmp_path / "first")
    expected = model.generate(
        **processor(source="a dog runs over the meadow"), policy=WaitKPolicy(2), max_new_tokens=12, max_word_tokens=3,
        suppress_tokens=[0], return_dict_in_generate=True,
    )  # fmt: skip
    environment = os.environ | {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    for folder, again in (("first", "second"), ("second", "third")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / folder), str(tmp_path / again)],
            capture_output=True, text=True, env=environment, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["words"] == expected.words
        assert found["delays"] == expected.delays
        assert (found["config"], found["model"]) == (f"Simul{family}Config", f"Simul{family}ForCausalLM")
        assert found["base"] == f"Simul{family}Model"
    # The package itself reads every generation of it.
    assert AutoSimulModel.from_pretrained(str(tmp_path / "third")).config.vocab_size == model.config.vocab_size
    assert SimulProcessor.from_pretrained(tmp_path / "third").template == processor.template


def test_the_stock_trainer_saves_a_whole_folder(tmp_path):
    processor = make_processor()
    args = TrainingArguments(
        str(tmp_path), remove_unused_columns=False, max_steps=1, report_to="none", use_cpu=True, disable_tqdm=True
    )
    collator = SimulMaskDataCollator(processor, WaitKPolicy(1))
    pairs = [{"source": "a dog", "target": "two children"}] * 4
    trainer = Trainer(
        make_model(processor), args, data_collator=collator, train_dataset=pairs, processing_class=processor
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "final", trust_remote_code=True).eval()
    again = AutoProcessor.from_pretrained(tmp_path / "final", trust_remote_code=True)
    options = {"wait_k": 1, "max_new_tokens": 8, "return_dict_in_generate": True}
    expected = trainer.model.eval().generate(**processor(source="a dog runs"), **options)
    assert model.generate(**again(source="a dog runs"), **options).words == expected.words
    assert write_model_card(tmp_path / "final").is_file()
